"""The story of the demo, scene by scene. A scene that does not end as it must raises DemoFailure: no gloss.

Figures are measured here, with a monotonic clock, in this run. Facts about answers come from `cityid verify`, a program
of its own without a network, not from the nodes.
"""

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio

from cityid import keys
from cityid._native import commitment, make_item_code
from cityid.cli.demo import tamper
from cityid.cli.demo.figures import LAMP_CLASS, inspected, measure
from cityid.cli.demo.joining import a_fifth_city
from cityid.cli.demo.lamps import BAD_ROWS, LAMPS, write_lamps
from cityid.cli.demo.lines import LINES, Narrator
from cityid.cli.demo.outside import Outside, Ruling, choose_outside
from cityid.cli.demo.sealing import override_one, seal_a_range
from cityid.cli.demo.stage import BEIJING, HANGZHOU, SHENZHEN, SHIJIAZHUANG, DemoFailure, Stage, open_stage, require
from cityid.cli.importing import ensure_category, import_table
from cityid.cli.messages import VERDICT, choose, language
from cityid.client import operations
from cityid.client.importing import Target, read_table, write_rejects
from cityid.client.importing.rejects import name
from cityid.keys import Signer

__all__ = ["tell"]

OFFICE: Final = "A7K2"  # street lighting
OTHER: Final = "B3Q8"  # parking
QUOTA: Final = 10_000
KILL_COMMITS: Final = 5
CATCH_UP_S: Final = 20.0
STEPS: Final = {
    "format": "格式",
    "header": "区块头",
    "certificate": "共识凭证",
    "records": "记录",
    "state proof": "状态证明",
}
NAMES: Final = {
    SHIJIAZHUANG: ("石家庄", "Shijiazhuang"),
    BEIJING: ("北京", "Beijing"),
    SHENZHEN: ("深圳", "Shenzhen"),
    HANGZHOU: ("杭州", "Hangzhou"),
}


@dataclass(frozen=True, slots=True)
class Lamps:
    """The register that was imported: every serial, and of its first lamp the code and one commitment in its record."""

    code: str
    commitment: bytes
    serials: tuple[int, ...]


async def tell(directory: Path, narrator: Narrator, *, seed: int, shown: Path) -> None:
    """Plays every scene in `directory`; `shown` is how the person who started it named that directory."""
    began = time.monotonic()
    async with open_stage(directory) as stage:
        names = choose("、", ", ").join(choose(*NAMES[city]) for city in stage.clients)
        narrator.tell("ready", cities=names, seconds=time.monotonic() - began)
        narrator.tell("words", words=stage.trust.words)
        office, other = await admit(stage, narrator)
        held, free = await ask_for_ranges(stage, narrator, office, other)
        lamps = await import_lamps(stage, narrator, office, held, seed)
        await resolve_elsewhere(stage, narrator, lamps)
        outside = await leave_the_network(stage, narrator, shown)
        await judge(stage, narrator, outside, lamps)
        space = await seal_a_range(stage, narrator, outside, OTHER, other)
        await override_one(stage, narrator, outside, OTHER, other, space)
        await stall(stage, narrator, outside, other, free)
        await kill_and_restart(stage, narrator, office, lamps)
        await measure(stage, narrator, office, lamps.code, lamps.serials[KILL_COMMITS:])
        await a_fifth_city(stage, narrator, outside, lamps.code)
    narrator.tell("keep", directory=shown)
    narrator.tell("yourself", file=shown / "answer.cbor", genesis=shown / "genesis.json")


async def admit(stage: Stage, narrator: Narrator) -> tuple[Signer, Signer]:
    """Shijiazhuang admits both offices in one transaction."""
    place = stage.directory / "offices"
    place.mkdir(mode=0o700)
    office, other = (keys.generate(place / f"{org}.pem") for org in (OFFICE, OTHER))
    admissions = [
        operations.admit_organisation(
            SHIJIAZHUANG,
            org,
            name=name,
            quota=QUOTA,
            keys=[operations.prove_possession(signer, stage.trust.genesis_hash, f"MA.156.{SHIJIAZHUANG}.{org}")],
        )
        for org, name, signer in ((OFFICE, "照明管理处", office), (OTHER, "停车管理中心", other))
    ]
    receipt = await stage.clients[SHIJIAZHUANG].transact(admissions, [stage.signer(SHIJIAZHUANG)])
    narrator.tell("admitted", office=OFFICE, other=OTHER, height=receipt.height)
    return office, other


async def ask_for_ranges(
    stage: Stage, narrator: Narrator, office: Signer, other: Signer
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Both offices ask for the next thousand of the same class at the same time, in two cities."""
    given: dict[str, tuple[int, int]] = {}

    async def ask(org: str, signer: Signer, city: str) -> None:
        operation = operations.allocate_range(SHIJIAZHUANG, org, class_code=LAMP_CLASS)
        receipt = await stage.clients[city].transact([operation], [signer])
        [output] = receipt.outputs
        require(isinstance(output, tuple), f"the receipt of {org} names no range")
        given[org] = output if isinstance(output, tuple) else (0, 0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, OFFICE, office, SHIJIAZHUANG)
        nursery.start_soon(ask, OTHER, other, BEIJING)
    require(given[OFFICE] != given[OTHER], f"both offices got {given[OFFICE]}")
    shown = {org: f"{base:09d}–{base + size - 1:09d}" for org, (base, size) in given.items()}
    narrator.tell("ranges", office=OFFICE, first=shown[OFFICE], other=OTHER, second=shown[OTHER])
    return given[OFFICE], given[OTHER]


async def import_lamps(stage: Stage, narrator: Narrator, office: Signer, held: tuple[int, int], seed: int) -> Lamps:
    """A whole register, twice: the second time changes nothing."""
    path = stage.directory / "lamps.csv"
    rows_written = write_lamps(path, seed=seed)
    target = Target(SHIJIAZHUANG, OFFICE, "60", LAMP_CLASS, "1")
    client = stage.clients[SHIJIAZHUANG]
    await ensure_category(client, office, target, "路灯")
    summaries = []
    began = time.monotonic()
    seconds = 0.0
    for _ in range(2):
        with path.open("rb") as file:
            table = read_table(path, file, chosen={})
            summaries.append(
                await import_table(
                    path,
                    table,
                    list(table.rows),
                    target=target,
                    client=client,
                    signer=office,
                    held=[held],
                )
            )
        seconds = seconds or time.monotonic() - began
    first, second = summaries
    require(
        (first.read, first.imported, len(first.rejects)) == (rows_written, LAMPS, BAD_ROWS), f"the import says {first}"
    )
    require((second.imported, second.already) == (0, LAMPS), f"the second import says {second}")
    write_rejects(
        path.with_name("lamps.csv.rejects.csv"), first.rejects, language="zh" if choose("zh", "en") == "zh" else "en"
    )
    narrator.tell(
        "imported", seed=seed, read=first.read, imported=first.imported, rejected=len(first.rejects), seconds=seconds,
        again=second.imported,
    )  # fmt: skip
    named = " · ".join(f"{reject.line} {name(reject.reason, language())}" for reject in first.rejects)
    narrator.tell("rejected", rejects=named, file="lamps.csv.rejects.csv")
    with path.with_name("lamps.csv.disclosures.jsonl").open("rb") as lines:
        lamps = _lamps([json.loads(line) for line in lines])
    narrator.tell("code", code=lamps.code)
    return lamps


async def resolve_elsewhere(stage: Stage, narrator: Narrator, lamps: Lamps) -> None:
    """Shenzhen answers while nothing can pass between it and Shijiazhuang."""
    client = stage.clients[SHENZHEN]
    newest = (await stage.clients[SHIJIAZHUANG].status())["height"]
    await client.wait_for(int(newest), gateway=0)
    cable = stage.cables[SHIJIAZHUANG, SHENZHEN]
    cable.cut()
    carried = cable.carried_bytes
    began = time.monotonic()
    found = await client.resolve(lamps.code)
    ms = 1000 * (time.monotonic() - began)
    passed = cable.carried_bytes - carried
    cable.join()
    require(
        found.verdict.verdict == "REGISTERED" and passed == 0, f"Shenzhen says {found.verdict.verdict}, {passed} bytes"
    )
    (stage.directory / "answer.cbor").write_bytes(found.answer.to_bytes())
    narrator.tell("resolved", status=_verdict("REGISTERED"), ms=ms, bytes=passed)


async def leave_the_network(stage: Stage, narrator: Narrator, shown: Path) -> Outside:
    """Finds a way to run processes without a network, and makes sure that it works."""
    outside = await trio.to_thread.run_sync(choose_outside)
    url = stage.network.urls[SHENZHEN]
    require(not await trio.to_thread.run_sync(outside.reaches, url), "the process without a network reaches a node")
    size = (stage.directory / "answer.cbor").stat().st_size
    how = choose(*LINES["kernel" if outside.kernel else "hook"])
    narrator.tell("saved", file=shown / "answer.cbor", bytes=size, how=how)
    return outside


async def judge(stage: Stage, narrator: Narrator, outside: Outside, lamps: Lamps) -> None:
    """What the relying party concludes from the saved answer, from forgeries of it, and from two other answers."""
    ruling = await _rule(outside, stage, "answer.cbor", lamps.code)
    _expect(ruling, "REGISTERED", 0)
    signed = ruling.found["signatures"]
    age = max(0.0, time.time() - int(ruling.found["as_of_ms"]) / 1000)
    narrator.tell("verified", verdict=_verdict("REGISTERED"), count=signed["count"], of=signed["of"], age=age)

    good = (stage.directory / "answer.cbor").read_bytes()
    forgeries = {
        "record_changed": tamper.change_record(good, lamps.commitment),
        "proof_changed": tamper.change_proof(good),
        "signatures_removed": tamper.strip_signatures(good, keep=2),
    }
    for key, forged in forgeries.items():
        (stage.directory / f"{key}.cbor").write_bytes(forged)
        ruling = await _rule(outside, stage, f"{key}.cbor", lamps.code)
        _expect(ruling, "INVALID", 1)
        step, detail = ruling.failed_step
        narrator.tell(key, step=choose(STEPS.get(step, step), step), why=_why(detail))

    nobody = make_item_code(SHIJIAZHUANG, OFFICE, "60", LAMP_CLASS, "1", 900_000_000)
    elsewhere = make_item_code(SHIJIAZHUANG, OTHER, "60", LAMP_CLASS, "1", lamps.serials[0])
    for key, code, verdict in (("not_registered", nobody, "NOT_REGISTERED"), ("mismatch", elsewhere, "MISMATCH")):
        found = await stage.clients[SHENZHEN].resolve(code)
        (stage.directory / f"{key}.cbor").write_bytes(found.answer.to_bytes())
        ruling = await _rule(outside, stage, f"{key}.cbor", code)
        _expect(ruling, verdict, 4)
        narrator.tell(key, code=code, verdict=_verdict(verdict))


async def stall(stage: Stage, narrator: Narrator, outside: Outside, other: Signer, free: tuple[int, int]) -> None:
    """A city that hears nothing must not deny what the others have just registered."""
    cables = stage.cables_of(HANGZHOU)
    for cable in cables:
        cable.cut()
    serial = free[0]
    items = [operations.Item(serial, {})]
    fresh = [
        operations.register_category(SHIJIAZHUANG, OTHER, use="60", class_code=LAMP_CLASS, model="2", name="停车位"),
        operations.register_items(SHIJIAZHUANG, OTHER, use="60", class_code=LAMP_CLASS, model="2", items=items),
    ]
    receipt = await stage.clients[SHIJIAZHUANG].transact(fresh, [other])
    height = receipt.height or 0
    code = make_item_code(SHIJIAZHUANG, OTHER, "60", LAMP_CLASS, "2", serial)
    found = await stage.clients[HANGZHOU].resolve(code, min_height=height)
    (stage.directory / "stalled.cbor").write_bytes(found.answer.to_bytes())
    ruling = await _rule(outside, stage, "stalled.cbor", code, "--min-height", str(height))
    _expect(ruling, "UNKNOWN", 6)
    narrator.tell("stalled", height=height, verdict=_verdict("UNKNOWN"), behind=ruling.found["height"])
    for cable in cables:
        cable.join()
    with trio.fail_after(CATCH_UP_S):
        await stage.clients[HANGZHOU].wait_for(height, gateway=0)
    found = await stage.clients[HANGZHOU].resolve(code, min_height=height)
    require(found.verdict.verdict == "REGISTERED", f"joined again, Hangzhou says {found.verdict.verdict}")


async def kill_and_restart(stage: Stage, narrator: Narrator, office: Signer, lamps: Lamps) -> None:
    """One of four is killed: the others go on, and it comes back to where they are."""
    client = stage.clients[SHIJIAZHUANG]
    before = int((await client.status())["height"])
    stage.network.kill(BEIJING)
    after = before
    for serial in lamps.serials[:KILL_COMMITS]:
        receipt = await client.transact([inspected(serial)], [office])
        after = max(after, receipt.height or 0)
    narrator.tell("killed", count=KILL_COMMITS, before=before, after=after)
    began = time.monotonic()
    stage.network.start(BEIJING)
    await stage.network.wait_ready(BEIJING)
    with trio.move_on_after(CATCH_UP_S):
        while True:
            ours, theirs = [await stage.clients[city].status() for city in (BEIJING, SHENZHEN)]
            if ours["height"] == theirs["height"] and int(ours["height"]) >= after:
                require(ours["state_root"] == theirs["state_root"], "Beijing's root differs from Shenzhen's")
                seconds = time.monotonic() - began
                narrator.tell("restarted", seconds=seconds, height=ours["height"], root=str(ours["state_root"])[:16])
                return
            await trio.sleep(0.05)
    raise DemoFailure(f"Beijing is not at the tip {CATCH_UP_S:g} s after its restart: {stage.network.log_end(BEIJING)}")


async def _rule(outside: Outside, stage: Stage, answer: str, code: str, *options: str) -> Ruling:
    return await trio.to_thread.run_sync(lambda: outside.verify(stage.directory, answer, "--code", code, *options))


def _expect(ruling: Ruling, verdict: str, status: int) -> None:
    require(
        (ruling.verdict, ruling.status) == (verdict, status),
        f"`cityid verify` should say {verdict} and exit with {status}; it exits with {ruling.status}: {ruling.found}",
    )


def _why(detail: str) -> str:
    """The first half of a step's detail: what is wrong, without the advice."""
    what = detail.partition(";")[0]
    counted = re.fullmatch(r"([0-9]+) of ([0-9]+) cities signed, and ([0-9]+) are needed", what)
    if counted is not None:
        return choose("{1} 城中只有 {0} 城签名，需要 {2} 城".format(*counted.groups()), what)
    return choose("算出的根与已签名的不同", "it leads to another root") if "another root" in what else what


def _verdict(word: str) -> str:
    return choose(*VERDICT[word])


def _lamps(disclosed: list[dict[str, Any]]) -> Lamps:
    first = disclosed[0]
    name, parts = next(iter(first["attributes"].items()))
    value = commitment(first["code"], name, parts["schema"], bytes.fromhex(parts["salt"]), parts["value"])
    return Lamps(str(first["code"]), value, tuple(int(one["serial"]) for one in disclosed))
