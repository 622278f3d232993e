"""The demo's scenes about a sealed range: hundreds of items under one transaction, and one of them changed afterwards.

The table file is uploaded to one city; the storage receipts come from two; the answers come from a third, which got the
file by itself, and are checked by a process without a network.
"""

import os
import time
from typing import Any, Final

import trio

from cityid._native import Code, TableWriter, make_item_code
from cityid.cli.demo.figures import LAMP_CLASS
from cityid.cli.demo.lines import Narrator
from cityid.cli.demo.outside import Outside, Ruling
from cityid.cli.demo.stage import SHENZHEN, SHIJIAZHUANG, Stage, require
from cityid.cli.messages import VERDICT, choose
from cityid.client import operations
from cityid.client.plans import Resolved
from cityid.keys import Signer

__all__ = ["override_one", "seal_a_range"]

USE: Final = "60"
MODEL: Final = "3"
SIZE: Final = 1_000
SPACES: Final = 800
FETCH_S: Final = 20.0


async def seal_a_range(stage: Stage, narrator: Narrator, outside: Outside, org: str, signer: Signer) -> str:
    """Eight hundred parking spaces in one transaction; the code of one of them."""
    client = stage.clients[SHIJIAZHUANG]
    began = time.monotonic()
    opened = await client.transact(
        [
            operations.register_category(
                SHIJIAZHUANG, org, use=USE, class_code=LAMP_CLASS, model=MODEL, name="地下停车位"
            ),
            operations.allocate_range(SHIJIAZHUANG, org, class_code=LAMP_CLASS),
        ],
        [signer],
    )
    given = opened.outputs[1]
    require(isinstance(given, tuple), f"the receipt of {org} names no range")
    base = given[0] if isinstance(given, tuple) else 0
    path = stage.directory / "spaces.table"
    writer = TableWriter(
        path,
        genesis_hash=stage.trust.genesis_hash,
        city=SHIJIAZHUANG,
        cls=LAMP_CLASS,
        base=base,
        size=SIZE,
        org=org,
        seed=os.urandom(32),
        height=opened.height or 0,
    )
    writer.add_run(USE, MODEL, base, base + SPACES - 1)
    table = writer.finish()
    await client.upload(path)
    kept_by = await client.storage_receipts(table.digest, 1)
    held = operations.Range(SHIJIAZHUANG, LAMP_CLASS, base, SIZE)
    sealed = await client.transact(
        [
            operations.seal_range(
                held,
                expected_version=1,
                root=table.root,
                digest=table.digest,
                count=table.count,
                receipts=kept_by,
            )
        ],
        [signer],
    )
    narrator.tell(
        "sealed", count=table.count, bytes=table.size_bytes, receipts=len(kept_by), height=sealed.height,
        seconds=time.monotonic() - began,
    )  # fmt: skip
    space, gap = (make_item_code(SHIJIAZHUANG, org, USE, LAMP_CLASS, MODEL, base + at) for at in (7, SIZE - 1))
    present = await _judged(stage, outside, "sealed", space, sealed.height or 0, "REGISTERED", 0)
    absent = await _judged(stage, outside, "sealed_gap", gap, sealed.height or 0, "NOT_REGISTERED", 4)
    narrator.tell(
        "sealed_proof", present=_word(present), absent=_word(absent), bytes=_size(stage, "sealed"),
        absent_bytes=_size(stage, "sealed_gap"),
    )  # fmt: skip
    return space


async def override_one(stage: Stage, narrator: Narrator, outside: Outside, org: str, signer: Signer, code: str) -> None:
    """One space is closed: an item record beside the table, and the answer shows both."""
    found = await stage.clients[SHIJIAZHUANG].resolve(code)
    proof = found.answer.table
    require(proof is not None, f"the answer about {code} carries no table proof")
    receipt = await stage.clients[SHIJIAZHUANG].transact(
        [
            operations.override_item(
                SHIJIAZHUANG,
                org,
                use=USE,
                class_code=LAMP_CLASS,
                model=MODEL,
                serial=Code.parse(code).serial or 0,
                expected_version=1,
                status="suspended",
                commitments={},
                services=[],
                proof=proof or b"",
            )
        ],
        [signer],
    )
    ruling = await _judged(stage, outside, "overridden", code, receipt.height or 0, "REGISTERED", 0)
    require(ruling.found["status"] == "suspended", f"the overridden space is {ruling.found['status']}")
    narrator.tell(
        "overridden", code=code, status=choose("停用", "suspended"), height=receipt.height,
        bytes=_size(stage, "overridden"),
    )  # fmt: skip


async def _judged(
    stage: Stage, outside: Outside, name: str, code: str, height: int, verdict: str, status: int
) -> Ruling:
    """What Shenzhen answers once it has block and table, as the process without a network sees it."""
    found: Resolved | None = None
    with trio.move_on_after(FETCH_S):
        while found is None or found.verdict.verdict in {"UNAVAILABLE", "UNKNOWN"}:
            found = await stage.clients[SHENZHEN].resolve(code, min_height=height)
            await trio.sleep(0.05)
    require(found is not None, f"Shenzhen says nothing about {code}")
    if found is not None:
        (stage.directory / f"{name}.cbor").write_bytes(found.answer.to_bytes())
    ruling = await trio.to_thread.run_sync(
        lambda: outside.verify(stage.directory, f"{name}.cbor", "--code", code, "--min-height", str(height))
    )
    require(
        (ruling.verdict, ruling.status) == (verdict, status),
        f"`cityid verify` should say {verdict} of {code}: {ruling.found}",
    )
    return ruling


def _word(ruling: Ruling) -> str:
    return choose(*VERDICT[ruling.verdict])


def _size(stage: Stage, name: str) -> Any:
    return (stage.directory / f"{name}.cbor").stat().st_size
