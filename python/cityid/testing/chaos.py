"""Random trouble for a simulated network: crashes between effects, restarts, partitions, loss, wrong clocks, clients.

Everything follows from the seed of the simulation and the moment of the call.
"""

from collections.abc import Callable
from random import Random

from cityid.testing.faults import NetworkFaults
from cityid.testing.simulation import Simulation

MAX_CLOCK_ERROR_MS = 2_000


def torment(
    simulation: Simulation, *, duration_ms: int, whole_network: bool = True, also: Callable[[], None] = lambda: None
) -> None:
    """Do something every few hundred virtual milliseconds, and `also` something else; all checks stay on.

    `whole_network` allows more cities to be down at once than the network tolerates: it stops then, and must not break.
    """
    random = Random(f"chaos {simulation.seed} {simulation.now_us}")
    end_us = simulation.now_us + duration_ms * 1_000
    tolerated = (len(simulation.cities) - 1) // 3
    organisations = 0
    while simulation.now_us < end_us:
        simulation.run_for(random.randint(20, 600))
        also()
        up = [city for city in simulation.cities if simulation.is_up(city)]
        down = [city for city in simulation.cities if city not in up]
        match random.choice(
            ("submit", "submit", "crash", "crash", "restart", "restart", "split", "heal", "network", "disk", "clock")
        ):
            case "submit" if up:
                organisations += 1
                city = random.choice(up)
                simulation.admit_organisation(
                    city, f"ORG{simulation.now_us // 1_000 % 10_000:04}{organisations % 10}", name="An office"
                )
            case "crash" if up and (whole_network or len(down) < tolerated):
                city = random.choice(up)
                simulation.crash(city, after_effects=random.choice((None, random.randint(0, 40))))
            case "restart" if down:
                simulation.restart(random.choice(down))
            case "split":
                near = {city for city in simulation.cities if random.random() < 0.6}
                simulation.partition(near, set(simulation.cities) - near)
            case "heal":
                simulation.heal()
            case "network":
                worse = NetworkFaults(loss=0.2, duplication=0.2, latency_ms=(1, 80))
                simulation.network.faults = random.choice((NetworkFaults(), worse))
            case "disk":
                simulation.disk_faults.sync_ms = random.choice(((1, 3), (1, 3), (100, 900)))
            case "clock" if up:
                ahead_ms = random.randint(-MAX_CLOCK_ERROR_MS, MAX_CLOCK_ERROR_MS)
                simulation.set_clock(random.choice(up), ahead_ms=ahead_ms)
            case _:
                pass
        simulation.check()
