"""What the command line says to people, in Chinese and English; LC_ALL, LC_MESSAGES or LANG chooses.

No verdict calls a thing real or fake: a copied label carries a valid code. What a verdict says is what is proven, as of
when, and by how many cities.
"""

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal

__all__ = ["STATUS", "VERDICT", "Language", "choose", "language", "local_time"]

Language = Literal["zh", "en"]

VERDICT: Final[Mapping[str, tuple[str, str]]] = {
    "REGISTERED": ("已登记", "REGISTERED"),
    "NOT_REGISTERED": ("未登记（已证明）", "NOT REGISTERED (proven)"),
    "MISMATCH": ("不符：该流水号登记在另一编码之下", "MISMATCH: that serial is registered under another code"),
    "NOT_OURS": ("不属于本网络成员城市", "NOT OURS: of no member city of this network"),
    "UNAVAILABLE": ("号段已封存，缺少该条目的证明", "UNAVAILABLE: the range is sealed and the item's proof is missing"),
    "UNKNOWN": ("无法判断", "UNKNOWN"),
    "INVALID": ("凭据无效", "INVALID"),
}
STATUS: Final[Mapping[str, tuple[str, str]]] = {
    "allocated": ("已分配", "allocated"),
    "active": ("有效", "active"),
    "suspended": ("已暂停", "suspended"),
    "retired": ("已注销", "retired"),
}


def language(environment: Mapping[str, str] | None = None) -> Language:
    """The language of the person at the terminal; English when nothing says Chinese."""
    environment = os.environ if environment is None else environment
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        value = environment.get(name)
        if value:
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"


def choose(chinese: str, english: str) -> str:
    """The one that the person at the terminal reads."""
    return chinese if language() == "zh" else english


def local_time(time_ms: int) -> str:
    """Milliseconds since 1970 as people read a time: local, to the second, with its offset."""
    return datetime.fromtimestamp(time_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
