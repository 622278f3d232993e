"""The HTTP interface of a node: submit, look up, watch, operate.

Rules. Every refusal is problem+json (RFC 9457) with a stable type; a limit that refuses is named with its value in
the body. What was read from the ledger is passed on as it is. Bodies are capped while they are read, requests in
progress and event streams are counted, and work that takes long runs in threads, because this loop also drives
consensus. Nothing here decides: the node is reached through `NodeFace` alone.

`create_app` is plain ASGI, for tests and for other servers; `serve` runs it on Hypercorn's Trio worker.
"""

from cityid.node.control.app import create_app
from cityid.node.control.face import AnswerFace, FilesFace, IncomingFace, LedgerFace, NodeFace, SnapshotFace
from cityid.node.control.server import serve

__all__ = ["AnswerFace", "FilesFace", "IncomingFace", "LedgerFace", "NodeFace", "SnapshotFace", "create_app", "serve"]
