"""Many codes in sealed ranges: issued, then 1,000 present and 1,000 absent ones proven, with the genesis alone.

`python hundred_million.py [CODES]`: two million by default; 100000000 takes some minutes.

Every other serial of a million range is issued, so that the neighbour of each code is one that does not exist. A range
becomes one table file; the ledger holds its root. Agreement is left out: the four cities' keys are in one hand here.
"""

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cityid import Ledger, Trust, genesis, keys, verify
from cityid._native import Tables, TableWriter, build_transaction, finish_transaction, make_item_code
from cityid.client import operations
from cityid.client.operations import Range
from cityid.keys import Signer

CITY, ORG, CLASS, MODEL = "130100", "A7K2", "010203", "LAMP"
CITIES = ((CITY, "石家庄"), ("110000", "北京"), ("440300", "深圳"), ("330100", "杭州"))
SERIALS, STEP = 1_000_000, 2
PROVEN = 1_000


class Network:
    """The ledger of four cities whose keys are all here."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.genesis = genesis.create_network(directory, CITIES, name="hundred million", time_ms=1_790_000_000_000)
        self.trust = Trust.from_genesis(directory / "genesis.json")
        self.ledger = Ledger(self.genesis)
        self.voters = [self.key(city, "consensus") for city in self.genesis.cities]

    def key(self, city: str, purpose: str) -> Signer:
        return keys.load(keys.key_path(self.directory / city / "keys", purpose))

    def commit(self, signer: Signer, *todo: operations.Operation) -> list[Any]:
        """One transaction in a block of its own, certified by three of the four; its outputs."""
        body, id, message = build_transaction(
            self.genesis.hash, self.ledger.height + 100, os.urandom(16), [signer.public_key], operations.to_json(todo)
        )
        self.ledger.admit(finish_transaction(body, [signer.sign(message)]))
        sealed = self.ledger.seal(4_096, 1_048_576)
        height = self.ledger.height + 1
        now_ms = max(time.time_ns() // 1_000_000, self.ledger.time_ms + 1)
        candidate = self.ledger.execute(height, now_ms, self.genesis.cities[0], sealed[0] if sealed else b"")
        place, no_round = height.to_bytes(8, "big") + bytes(4), b"\xff" * 4
        vote = b"cityid/1/V" + self.genesis.hash + place + no_round + candidate.value  # P35
        signatures = b"".join(voter.sign(vote) for voter in self.voters[:3])
        self.ledger.commit(candidate, place + candidate.value + (4).to_bytes(2, "big") + b"\xe0" + signatures)
        found = self.ledger.receipt(id)
        receipt = json.loads(found[1]) if found else {"status": "not included"}
        if receipt["status"] != "committed":
            raise SystemExit(f"a transaction was refused: {receipt}")
        outputs: list[Any] = receipt["outputs"]
        return outputs


def seal(network: Network, tables: Tables, office: Signer, held: Range, count: int) -> int:
    """The table of a range: made, checked, kept by two cities who say so, and sealed. Bytes of its file."""
    path = network.directory / "new.table"
    writer = TableWriter(
        path,
        genesis_hash=network.genesis.hash,
        city=held.city,
        cls=held.class_code,
        base=held.base,
        size=held.size,
        org=ORG,
        seed=os.urandom(32),
        height=network.ledger.height,
    )
    writer.add_run("60", MODEL, held.base, held.base + (count - 1) * STEP, step=STEP)
    writer.finish()
    table = tables.add(path)
    table.check(network.ledger.snapshot(), None)  # P44
    keepers = [network.key(city, "checkpoint") for city in network.genesis.cities[:2]]
    signed = zip(network.genesis.cities, keepers, strict=False)
    receipts = [{"city": city, "signature": key.sign(table.statement(1)).hex()} for city, key in signed]
    network.commit(
        office,
        operations.seal_range(
            held, expected_version=1, root=table.root, digest=table.digest, count=table.count, receipts=receipts
        ),
    )
    return table.size_bytes


def main(codes: int, directory: Path) -> None:
    network = Network(directory)
    (directory / "tables").mkdir()
    tables = Tables(directory / "tables")
    network.ledger.use_tables(tables)
    city, office = network.key(CITY, "transaction"), keys.generate(directory / "office.pem")
    each = SERIALS // STEP
    ranges = -(-codes // each)
    holder = f"MA.156.{CITY}.{ORG}"
    entry = operations.prove_possession(office, network.genesis.hash, holder)
    network.commit(
        city, operations.admit_organisation(CITY, ORG, name="lighting", quota=ranges * SERIALS, keys=[entry])
    )
    network.commit(
        office, operations.register_category(CITY, ORG, use="60", class_code=CLASS, model=MODEL, name="street lamps")
    )
    started = time.perf_counter()
    left, size_bytes = codes, 0
    for _ in range(ranges):
        granted = network.commit(office, operations.allocate_range(CITY, ORG, class_code=CLASS, size=SERIALS))[0]
        count = min(each, left)
        size_bytes += seal(network, tables, office, Range(CITY, CLASS, granted["base"], SERIALS), count)
        left -= count
    seconds = time.perf_counter() - started
    print(f"{codes} codes in {ranges} sealed ranges: {seconds:.1f} s, {codes / seconds / 1e6:.2f} million a second")
    print(f"{size_bytes} bytes of table files, {network.ledger.records} records in the ledger")

    started = time.perf_counter()
    answers_bytes = 0
    for number in random.sample(range(codes), min(PROVEN, codes)):
        serial = number // each * SERIALS + number % each * STEP
        for asked, expected in ((serial, "REGISTERED"), (serial + 1, "NOT_REGISTERED")):
            code = make_item_code(CITY, ORG, "60", CLASS, MODEL, asked)
            answer = network.ledger.answer(code).to_bytes()
            verdict = verify(answer, network.trust, code=code, now=time.time(), max_age=3_600)
            if verdict.verdict != expected:
                raise SystemExit(f"{code}: {verdict.verdict} where {expected} is true")
            answers_bytes += len(answer)
    seconds = time.perf_counter() - started
    proven = 2 * min(PROVEN, codes)
    print(f"{proven // 2} present and {proven // 2} absent: all proven")
    print(f"{seconds / proven * 1e3:.2f} ms and {answers_bytes // proven} bytes each")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000, Path(directory))
