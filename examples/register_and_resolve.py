"""An office asks for a range, registers a bench in the park, and asks another gateway about it.

`python register_and_resolve.py GENESIS OFFICE_KEY CITY ORG GATEWAY...`: the office is admitted already.
"""

import os
import sys
from pathlib import Path

from cityid import Client, Trust, keys
from cityid._native import commitment, make_item_code
from cityid.client import operations

USE, CLASS, MODEL = "60", "020101", "0"


def main(genesis: str, key: str, city: str, org: str, *gateways: str) -> str:
    trust = Trust.load(genesis)
    office = keys.load(Path(key))
    with Client(gateways, trust).sync as client:
        receipt = client.transact(
            [
                operations.register_category(city, org, use=USE, class_code=CLASS, model=MODEL, name="bench"),
                operations.allocate_range(city, org, class_code=CLASS),
            ],
            [office],
        )
        base, _ = receipt.outputs[1] or (0, 0)
        code = make_item_code(city, org, USE, CLASS, MODEL, base)
        # What is public is a commitment; the owner shows value and salt to whom it concerns.
        salt = os.urandom(16)
        material = commitment(code, "material", "text", salt, "oak")
        bench = operations.Item(base, {"material": material})
        client.transact(
            [operations.register_items(city, org, use=USE, class_code=CLASS, model=MODEL, items=[bench])], [office]
        )
        return f"{code} {client.resolve(code).verdict.verdict}"


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
