"""What must hold when the faults are over: nothing promised is lost, no block is partial, and there is one history.

Everything is asked of every node: the state by HTTP, answers by a client that trusts the genesis alone, and the stores,
once the nodes have stopped, by a reader of its own (`stores`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
import trio

from cityid.client import Client
from cityid.client.operations import register_category
from cityid.testing.consistency import Report, judge
from tests.chaos import stores
from tests.chaos.clients import Clients
from tests.chaos.load import Load
from tests.chaos.nodes import Nodes

SAMPLE = 20
CODES_AT_ONCE = 1_000
ONE_TIP_S = 60.0
KEPT_S = 30.0
POLL_S = 0.1
LARGE_CLASS = 900_000  # of the codes that show that a node still serves


@dataclass(slots=True)
class Findings:
    """What is wrong, and what was looked at."""

    wrong: list[str] = field(default_factory=list)
    acknowledged: int = 0
    lost: int = 0
    partial: int = 0
    blocks: int = 0
    served: int = 0
    """Requests that showed that a node still serves."""
    history: Report | None = None

    def add(self, what: str) -> None:
        """Something that must not be."""
        self.wrong.append(what[:400])


async def check_running(nodes: Nodes, load: Load, clients: Clients, findings: Findings) -> None:
    """All that can be asked of nodes that run."""
    await _one_tip(nodes, findings)
    findings.wrong += load.refused[:3]
    findings.acknowledged += len(load.acknowledged)
    if not load.acknowledged:
        findings.add("nothing was acknowledged: this run shows nothing")
    missing: dict[str, list[str]] = {}

    async def ask(city: str) -> None:
        missing[city] = await _missing(nodes, city, list(load.acknowledged))

    async with trio.open_nursery() as nursery:
        for city in nodes.cities:
            nursery.start_soon(ask, city)
    findings.lost += len({code for codes in missing.values() for code in codes})
    if any(missing.values()):
        counts = {city: len(codes) for city, codes in missing.items()}
        findings.add(f"of {len(load.acknowledged)} acknowledged codes these are missing: {counts}")
        return
    await _prove(nodes, list(load.acknowledged), findings)
    await clients.finish()
    findings.history = judge(clients.history)
    for found in findings.history.findings:
        findings.add(found)
    if not (findings.history.committed and findings.history.reads):
        findings.add("no client wrote and read anything: the recording shows nothing")
    await _serve(nodes, findings)


def check_stopped(nodes: Nodes, findings: Findings, *, first: int = 1) -> dict[str, stores.Held]:
    """All that the stores say while no node runs."""
    held = {city: stores.inspect(nodes.data(city), first=first) for city in nodes.cities}
    for city, store in held.items():
        findings.partial += len(store.partial)
        for what in store.partial[:3]:
            findings.add(f"{city}: {what}")
    for what in stores.differences(held)[:3]:
        findings.add(what)
    findings.blocks = max(store.tip for store in held.values())
    return held


async def _one_tip(nodes: Nodes, findings: Findings) -> None:
    """All at one height with one state root and one log root."""
    with trio.move_on_after(ONE_TIP_S):
        while True:
            found = [await nodes.status(city) for city in nodes.cities]
            tips = {(one["height"], one["state_root"], one["log_root"]) if one else None for one in found}
            if len(tips) == 1 and None not in tips:
                return
            roots: dict[str, set[str]] = {}
            for one in found:
                if one is not None:
                    roots.setdefault(one["height"], set()).add(one["state_root"])
            if any(len(differing) > 1 for differing in roots.values()):
                findings.add(f"two state roots at one height: {roots}")
                return
            await trio.sleep(POLL_S)
    findings.add(f"not at one tip within {ONE_TIP_S:g} s: {tips}")


async def _missing(nodes: Nodes, city: str, codes: Sequence[str]) -> list[str]:
    """Of the codes that were promised, those that this city does not have. What is promised last may take a moment."""
    missing = list(codes)
    async with httpx.AsyncClient(base_url=nodes.url(city), trust_env=False, timeout=20.0) as http:
        with trio.move_on_after(KEPT_S):
            while missing:
                found: list[str] = []
                for start in range(0, len(missing), CODES_AT_ONCE):
                    part = missing[start : start + CODES_AT_ONCE]
                    reply = await http.post("/v1/resolve", json={"codes": part})
                    rows = reply.raise_for_status().json()["results"]
                    found += [code for code, row in zip(part, rows, strict=True) if row["verdict"] != "REGISTERED"]
                missing = found
                if missing:
                    await trio.sleep(POLL_S)
    return missing


async def _prove(nodes: Nodes, codes: Sequence[str], findings: Findings) -> None:
    """A sample, from each city, with proof, against the genesis."""
    for city in nodes.cities:
        async with Client([nodes.url(city)], nodes.trust) as client:
            for code in codes[:: max(1, len(codes) // SAMPLE)]:
                verdict = (await client.resolve(code)).verdict
                if verdict.verdict != "REGISTERED":
                    findings.add(f"{city} proves {verdict.verdict} about {code}: {verdict.steps[-1:]}")


async def _serve(nodes: Nodes, findings: Findings) -> None:
    """The next good request is served, by each city."""
    for city in nodes.cities:
        class_code = f"{LARGE_CLASS + findings.served:06d}"
        findings.served += 1
        made = register_category(city, None, use="73", class_code=class_code, model="1", name="Door")
        async with Client([nodes.url(city)], nodes.trust) as client:
            receipt = await client.transact([made], [nodes.signer(city)])
            found = await client.resolve(f"MA.156.{city}/73.{class_code}.1", min_height=receipt.height)
            if found.verdict.verdict != "REGISTERED":
                findings.add(f"{city} does not serve: {found.verdict.verdict} after its own receipt")
