"""Which of these codes are registered? Asked a thousand at a time, then proven for the ones that matter.

`python many_codes.py GENESIS GATEWAY < codes.txt`
"""

import sys
from collections import Counter
from collections.abc import Iterable

import trio

from cityid import Client, Trust, parse_many


async def count(genesis: str, gateway: str, lines: Iterable[str]) -> Counter[str]:
    codes, problems = parse_many([line.strip() for line in lines])
    found = Counter[str](code=sum(problem is not None for problem in problems))
    async with Client(gateway, Trust.load(genesis)) as client:
        rows = await client.look_up([code.text for code in codes if code is not None])
        for row in rows:
            # A row without proof is the gateway's word. Before anything depends on it, ask for the answer.
            if row["verdict"] != "REGISTERED":
                row["verdict"] = (await client.resolve(row["subject"])).verdict.verdict
            found[row["verdict"]] += 1
    return found


if __name__ == "__main__":
    print(dict(trio.run(count, sys.argv[1], sys.argv[2], sys.stdin)))
