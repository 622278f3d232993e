"""The node's program as it was before protocol version 2: `python -m tests.chaos.older run node.toml`.

It is the program of today whose driver is told that it knows version 1 only, which is where knowledge of a version
ends: before the height from which a newer one holds, the driver halts (P67).
"""

from cityid.cli import main
from cityid.node.driver import Driver

KNOWN = 1

if __name__ == "__main__":
    defaults = Driver.__init__.__kwdefaults__
    assert defaults is not None
    defaults["newest_protocol"] = KNOWN
    main()
