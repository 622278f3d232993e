"""One trial: a fresh network under load, a fault, the end of the fault, and the aftermath.

What must not be is gathered as findings of the `Result`; an exception on the way ends the trial, which runs in a
process of its own (`__main__`).
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import trio

from tests.chaos.aftermath import Findings, check_running, check_stopped
from tests.chaos.clients import Clients
from tests.chaos.load import Load
from tests.chaos.nodes import Equipment, Nodes, running, until

WARM_S = 3.0
COOL_S = 2.0
CODES_OF_A_PART = 1_000_000
FOUR = Equipment()

Fault = Callable[["Trial"], Awaitable[None]]


@dataclass(slots=True)
class Trial:
    """What a fault may use, and where it notes figures of its own."""

    nodes: Nodes
    load: Load
    random: Random
    findings: Findings
    notes: dict[str, Any] = field(default_factory=dict)
    recovered_s: list[float] = field(default_factory=list)
    """After each end of a fault: until all nodes were ready again."""
    patience: float = 1.0
    """Limits are so many times as long: on a machine that does other things too, they say little."""

    async def recover(self, *, within_s: float) -> None:
        """A fault is over: wait until all nodes are ready, and note how long that took."""
        began = trio.current_time()
        await self.nodes.until_ready()
        took = trio.current_time() - began
        self.recovered_s.append(took)
        if took > within_s * self.patience:
            self.findings.add(f"recovered after {took:.1f} s, the limit is {within_s:g} s")

    async def more(self, promises: int, *, within_s: float = 60.0) -> None:
        """Returns when clients were promised so many more transactions."""
        goal = len(self.load.acknowledged) + promises
        with trio.move_on_after(within_s):
            await until(lambda: len(self.load.acknowledged) >= goal, every_s=0.02)
            return
        self.findings.add(f"no {promises} more acknowledged transactions within {within_s:g} s")


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named fault and what it needs."""

    name: str
    what: str
    fault: Fault
    equipment: Equipment = FOUR
    rate: int = 50
    breaks_promises: bool = False
    """A control: it breaks what safety rests on, and is as it must be when that is found."""


@dataclass(frozen=True, slots=True)
class Result:
    """One row of the table."""

    scenario: str
    what: str
    nodes: int
    rate: int
    seed: int
    seconds: float
    acknowledged: int
    lost: int
    partial: int
    blocks: int
    recovered_s: float
    """The longest time to recover."""
    writes: int
    """Of recorded clients: committed or refused by version."""
    reads: int
    ok: bool
    wrong: tuple[str, ...]
    notes: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)

    @classmethod
    def of_a_crash(cls, scenario: Scenario, seed: int, why: str) -> "Result":
        """Of a trial that did not get to its end."""
        return cls(
            scenario.name, scenario.what, scenario.equipment.cities, scenario.rate, seed,
            0.0, 0, 0, 0, 0, 0.0, 0, 0, False, (why,), {},
        )  # fmt: skip


async def run_trial(scenario: Scenario, *, seed: int, directory: Path, parts: int = 1, patience: float = 1.0) -> Result:
    """One scenario in a fresh network under `directory`; `parts` times, each with a recording of its own."""
    began = trio.current_time()
    findings = Findings()
    notes: dict[str, Any] = {}
    recovered: list[float] = []
    writes = reads = 0
    async with running(directory / "network", scenario.equipment) as nodes:
        for part in range(parts):
            trial = Trial(
                nodes,
                Load(nodes, scenario.rate, first=part * CODES_OF_A_PART),
                Random(f"{scenario.name} {seed} {part}"),
                findings,
                notes,
                recovered,
                patience,
            )
            clients = Clients(nodes, seed=seed, part=part)
            async with trio.open_nursery() as nursery:
                await nursery.start(trial.load.run)
                await nursery.start(clients.run)
                await trio.sleep(WARM_S)
                await scenario.fault(trial)
                await trio.sleep(COOL_S)
                nursery.cancel_scope.cancel()
            if findings.wrong and scenario.breaks_promises:
                break
            await check_running(nodes, trial.load, clients, findings)
            notes["given_up"] = notes.get("given_up", 0) + trial.load.given_up
            notes["withheld"] = notes.get("withheld", 0) + trial.load.withheld
            if findings.history is not None:
                writes += findings.history.committed + findings.history.rejected
                reads += findings.history.reads
                if findings.history.findings:
                    clients.history.save(directory / f"history-{part}.jsonl")
            if findings.wrong:
                break
        nodes.local.stop()
        check_stopped(nodes, findings)
    notes["recoveries_s"] = [round(took, 2) for took in recovered]
    return Result(
        scenario=scenario.name,
        what=scenario.what,
        nodes=scenario.equipment.cities,
        rate=scenario.rate,
        seed=seed,
        seconds=round(trio.current_time() - began, 1),
        acknowledged=findings.acknowledged,
        lost=findings.lost,
        partial=findings.partial,
        blocks=findings.blocks,
        recovered_s=round(max(recovered, default=0.0), 2),
        writes=writes,
        reads=reads,
        ok=bool(findings.wrong) == scenario.breaks_promises,
        wrong=tuple(findings.wrong[:10]),
        notes=notes,
    )
