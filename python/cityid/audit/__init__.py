"""Audits: a folder that shows what happened to the codes under a prefix, and the check of it with a trust file alone.

`folder` holds names, digests and the manifest; `proof` checks everything and says what holds; `tables` and `page` make
the CSV files and the page to print from what is proven, so that a checker makes them again and compares every byte.
Nothing here asks a network. `cityid.client.auditing` makes the folder.
"""

from cityid.audit.folder import Manifest
from cityid.audit.proof import Audit, Step, Subject, Version, read_audit, verify_audit

__all__ = ["Audit", "Manifest", "Step", "Subject", "Version", "read_audit", "verify_audit"]
