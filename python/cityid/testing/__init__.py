"""What tests of this package, and of programs built on it, can use: whole networks on virtual time.

`Simulation` runs the very driver, ledger and consensus engine of a real node, with a simulated clock, network and disk.
"""

from cityid.testing.checks import Violation
from cityid.testing.faults import DiskFaults, NetworkFaults
from cityid.testing.simulation import Simulation

__all__ = ["DiskFaults", "NetworkFaults", "Simulation", "Violation"]
