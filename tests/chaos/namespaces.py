"""One network namespace for each city, all on one bridge; and what can happen to their wires.

The bridge is in the namespace of this program, which is private too (`machine`). What goes from city to city passes its
`forward` hook; what clients send from here does not, so a partition or loss between cities leaves the clients alone.
A pulled plug does not: nobody reaches that city.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.chaos.machine import run

NETWORK = "10.77.0"
PEER_PORT = 27100
HTTP_PORT = 28100
FILTER = """
table bridge chaos {
  set cut { type ifname . ifname; }
  chain loss { }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname . oifname @cut drop
    jump loss
  }
}
"""


class Wires:
    """The wires of one network."""

    def __init__(self, cities: Sequence[str]) -> None:
        self._places = {city: number for number, city in enumerate(cities, 1)}
        Path("/run/netns").mkdir(exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", "/run/netns")  # names of namespaces are private too
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "br0", "type", "bridge")
        run("ip", "addr", "add", f"{NETWORK}.254/24", "dev", "br0")
        run("ip", "link", "set", "br0", "up")
        run("nft", "-f", "-", input=FILTER)
        for city, number in self._places.items():
            space, wire = self.space(city), self._wire(city)
            run("ip", "netns", "add", space)
            run("ip", "link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", space)
            run("ip", "link", "set", wire, "master", "br0", "up")
            run("ip", "-n", space, "link", "set", "lo", "up")
            run("ip", "-n", space, "addr", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
            run("ip", "-n", space, "link", "set", "eth0", "up")

    def space(self, city: str) -> str:
        """The name of a city's namespace."""
        return f"city{self._places[city]}"

    def program(self, city: str) -> list[str]:
        """What a command begins with to run in a city's namespace. Its mounts stay those of this program: a copy of
        them, as `ip netns exec` makes, would hold disks that are unmounted here.
        """
        return ["nsenter", f"--net=/run/netns/{self.space(city)}"]

    def addresses(self) -> dict[str, tuple[str, str]]:
        """(peer, HTTP) of each city."""
        return {
            city: (f"{NETWORK}.{number}:{PEER_PORT}", f"{NETWORK}.{number}:{HTTP_PORT}")
            for city, number in self._places.items()
        }

    # ------------------------------------------------------------ faults

    def unplug(self, city: str) -> None:
        """Nobody reaches this city, and it reaches nobody."""
        run("ip", "link", "set", self._wire(city), "down")

    def plug(self, city: str) -> None:
        """The end of `unplug`."""
        run("ip", "link", "set", self._wire(city), "up")

    def split(self, *groups: Iterable[str]) -> None:
        """Cities of different groups lose what they send each other, without a word."""
        found = [list(group) for group in groups]
        for group in found:
            for other in [other for other in found if other is not group]:
                self.silence([(one, two) for one in group for two in other])

    def silence(self, ways: Iterable[tuple[str, str]]) -> None:
        """What goes from the first to the second of each pair is lost; the way back is not."""
        pairs = ", ".join(f'"{self._wire(one)}" . "{self._wire(two)}"' for one, two in ways)
        run("nft", "add", "element", "bridge", "chaos", "cut", f"{{ {pairs} }}")

    def mend(self) -> None:
        """The end of `split` and `silence`."""
        run("nft", "flush", "set", "bridge", "chaos", "cut")

    def lose(self, percent: int) -> None:
        """So many of a hundred packets between cities are lost, by lot; 0 ends it."""
        run("nft", "flush", "chain", "bridge", "chaos", "loss")
        if percent:
            run("nft", "add", "rule", "bridge", "chaos", "loss", "numgen", "random", "mod", 100, "<", percent, "drop")

    def narrow(self, city: str, kilobits_per_s: int) -> None:
        """No more than this passes a city's wire, either way."""
        shape = ("root", "tbf", "rate", f"{kilobits_per_s}kbit", "burst", "16kb", "latency", "300ms")
        run("tc", "qdisc", "add", "dev", self._wire(city), *shape)
        run("tc", "-n", self.space(city), "qdisc", "add", "dev", "eth0", *shape)

    def widen(self, city: str) -> None:
        """The end of `narrow`."""
        run("tc", "qdisc", "del", "dev", self._wire(city), "root")
        run("tc", "-n", self.space(city), "qdisc", "del", "dev", "eth0", "root")

    def _wire(self, city: str) -> str:
        return f"wire{self._places[city]}"
