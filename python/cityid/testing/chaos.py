"""Random trouble for a network of any kind, for a while: what a test or a bench can call with one line.

Everything follows from the seed of the simulation and the moment of the call. `runs` has the whole programme, with
clients that check what they are told; here they only send.
"""

from collections.abc import Callable
from random import Random
from typing import Final

from cityid.testing.schedule import Fault, Player, What, draw
from cityid.testing.simulation import Simulation

EVERY_MS: Final = (20, 600)
LASTING_MS: Final = (20, 4_000)


def torment(
    simulation: Simulation,
    *,
    duration_ms: int,
    whole_network: bool = True,
    also: Callable[[], None] = lambda: None,
    kinds: tuple[What, ...] = tuple(What),
) -> None:
    """Do something every few hundred virtual milliseconds, and `also` something else; all checks stay on.

    `whole_network` allows more cities to be down at once than the network tolerates: it stops then, and must not break.
    What is broken when the time is over stays so, until it is mended (`Simulation.settle`).
    """
    began_ms = simulation.now_us // 1_000
    seed = f"{simulation.seed} {simulation.now_us}"
    drawn = draw(
        seed, cities=simulation.cities, duration_ms=duration_ms, every_ms=EVERY_MS, lasting_ms=LASTING_MS,
        whole_network=whole_network, spared=len(simulation.checks.liars), kinds=kinds,
    )  # fmt: skip
    later = [Fault(began_ms + fault.at_ms, fault.for_ms, fault.what, fault.cities, fault.amount) for fault in drawn]
    player = Player(simulation, later)
    random = Random(f"chaos {seed}")
    organisations = 0
    end_ms = began_ms + duration_ms
    while (now_ms := simulation.now_us // 1_000) < end_ms:
        player.advance(now_ms)
        simulation.run_for(min(player.next_ms, now_ms + random.randint(*EVERY_MS), end_ms) - now_ms)
        also()
        up = [city for city in simulation.cities if simulation.is_up(city)]
        if up and random.random() < 0.5:
            organisations += 1
            org = f"ORG{simulation.now_us // 1_000 % 10_000:04}{organisations % 10}"
            simulation.admit_organisation(random.choice(up), org, name="An office")
        simulation.check()
