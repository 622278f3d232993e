"""cityid: identification codes that cities issue together, and answers about them that anyone can verify offline.

Everything public is named here or in the modules below it; a name that starts with an underscore is not public.
Importing this package starts nothing: no thread, no file, no socket. `Client` and `testing` bring their libraries in
when they are first used, so that a program that only verifies loads none of them.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from cityid import errors
from cityid._native import (
    Answer,
    Code,
    Disclosed,
    Genesis,
    Ledger,
    Members,
    StateMap,
    Trust,
    Verdict,
    leaf_hash,
    log_root,
    parse_many,
    sha256_many,
    verify,
    verify_consistency,
    verify_disclosure,
    verify_inclusion,
    verify_signature,
    verify_signatures,
)

if TYPE_CHECKING:
    from cityid import testing
    from cityid.client import Client

__all__ = [
    "Answer",
    "Client",
    "Code",
    "Disclosed",
    "Genesis",
    "Ledger",
    "Members",
    "StateMap",
    "Trust",
    "Verdict",
    "__version__",
    "errors",
    "leaf_hash",
    "log_root",
    "parse_many",
    "sha256_many",
    "testing",
    "verify",
    "verify_consistency",
    "verify_disclosure",
    "verify_inclusion",
    "verify_signature",
    "verify_signatures",
]

__version__ = version("cityid")


def __getattr__(name: str) -> Any:
    """`Client` and `testing`, imported when they are first asked for."""
    match name:
        case "Client":
            found = import_module("cityid.client").Client
        case "testing":
            found = import_module("cityid.testing")
        case _:
            raise AttributeError(f"module 'cityid' has no attribute {name!r}")
    globals()[name] = found
    return found
