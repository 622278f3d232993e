"""What consensus decides on, computed from a header alone (P33).

The value of a header is the root of the RFC 9162 log with that header as its next leaf. Only the roots of the complete
subtrees at the right edge of the present log are needed for it, so a header is bound to a value before anything in it
is executed.
"""

from hashlib import sha256

from cityid._native import Ledger, leaf_hash


def right_edge(ledger: Ledger) -> list[bytes]:
    """Roots of the complete subtrees of the log of all committed headers, smallest first."""
    size = ledger.height + 1
    path = ledger.inclusion(size - 1, size)
    siblings = [path[start : start + 32] for start in range(0, len(path), 32)]
    levels = (size & -size).bit_length() - 1  # the smallest subtree holds 2^levels leaves, the last one among them
    smallest = leaf_hash(ledger.header)
    for sibling in siblings[:levels]:
        smallest = _node(sibling, smallest)
    return [smallest, *siblings[levels:]]


def value_after(edge: list[bytes], header: bytes) -> bytes:
    """The log root after this header joins the log whose right edge is given."""
    root = leaf_hash(header)
    for left in edge:
        root = _node(left, root)
    return root


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()
