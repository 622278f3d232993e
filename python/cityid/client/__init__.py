"""The client: asks any gateway, verifies what it says, and sends what the owner of a key has signed.

`operations` builds what can be asked of the network, `plans` and `histories` hold what a client does (without a
socket), `faces` does it under Trio or synchronously, `importing` brings whole registers in from CSV and GeoJSON,
`auditing` makes the folder of an audit.
"""

from cityid.client.faces import Client, SyncClient, sign
from cityid.client.histories import Then, Traced
from cityid.client.plans import Resolved
from cityid.client.replies import Receipt
from cityid.client.strangers import fetch_trust, read_status

__all__ = ["Client", "Receipt", "Resolved", "SyncClient", "Then", "Traced", "fetch_trust", "read_status", "sign"]
