"""Moments as people write them: a height of the chain, or a date or time in ISO 8601.

Digits alone are a height, so the basic form of a date (`20260301`) is not one. A date without an hour is its first
moment. Without an offset a time is in the zone of whoever parses it: UTC for a gateway, the local one at a terminal.
"""

from datetime import UTC, datetime, tzinfo
from typing import Final

from cityid.errors import InputError

__all__ = ["parse_moment", "to_milliseconds"]

MAX_TEXT: Final = 64


def parse_moment(text: str, zone: tzinfo | None = UTC) -> int | datetime:
    """A height, or a time with an offset. `zone`: where no offset is given; None for the local one.

    Raises `InputError`.
    """
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    form = text.replace(" ", "+") if "T" in text else text  # how `+08:00` arrives in a query that was not escaped
    try:
        moment = datetime.fromisoformat(form) if len(form) <= MAX_TEXT and form[4:5] == "-" else None
        if moment is not None and moment.tzinfo is None:
            moment = moment.astimezone() if zone is None else moment.replace(tzinfo=zone)
        if moment is not None and to_milliseconds(moment) >= 0:
            return moment
    except (ValueError, OverflowError, OSError):
        pass  # said below, as for every text that is neither
    raise InputError(
        f"{text[:MAX_TEXT]!r} is neither a height nor a date such as 2026-03-01 or 2026-03-01T12:00:00+08:00."
    )


def to_milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970 (UTC), rounded down."""
    return int(moment.timestamp() * 1000 // 1)
