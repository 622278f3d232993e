"""What can be asked of a gateway before anything is believed about its network.

Nothing here is verified, and nothing may be concluded from it: a status is for the eye of an operator, and a trust file
that a gateway hands out counts only when people have compared its six words.
"""

import json
from typing import Any, Final

import httpx

from cityid._native import Trust
from cityid.client.faces import LIMITS, TIMEOUT_S, read_reply
from cityid.client.replies import JSON, Ask, Lost, Reply, failure, json_object
from cityid.errors import CityIDError, MalformedInput, PeerUnreachable

__all__ = ["fetch_trust", "read_cities", "read_status"]

MAX_CITIES: Final = 10_000


def read_status(url: str) -> dict[str, Any]:
    """What a gateway says about itself, or `{"error": …}` when it says nothing usable."""
    try:
        return json_object(_get(url, "/v1/status"))
    except CityIDError as error:
        return {"error": str(error)}


def fetch_trust(url: str) -> Trust:
    """The trust file that a gateway hands out: its word, until the six words are compared."""
    found = json_object(_get(url, "/v1/trust?from=0")).get("trust")
    if found is None:
        raise MalformedInput(f"{url} hands out no trust file. Next: copy the genesis file from a member city.")
    return Trust.from_json(json.dumps(found))


def read_cities(url: str) -> tuple[str, list[dict[str, Any]]]:
    """(genesis hash in hexadecimal, the member cities that are not retired), as a gateway says them.

    Each city has `city`, `tls` (hexadecimal), `certificate` (DER in hexadecimal, or None) and `peers` (host:port, or
    None). A gateway may lie about all of it.
    """
    found = json_object(_get(url, "/v1/cities"))
    try:
        rows = [
            {
                "city": _city_code(row["city"]),
                "tls": str(row["tls"]),
                "certificate": None if row["certificate"] is None else str(row["certificate"]),
                "peers": None if row["peers"] is None else str(row["peers"]),
            }
            for row in found["cities"][:MAX_CITIES]
            if row["status"] != "retired"
        ]
        return str(found["genesis"]), rows
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise MalformedInput(f"{url} lists its cities in a form that cannot be read: {error!r}") from None


def _city_code(value: object) -> str:
    if not (isinstance(value, str) and value.isascii() and len(value) == 6 and value.isdigit()):
        raise ValueError(f"{value!r} is no city code")
    return value


def _get(url: str, path: str) -> Reply:
    base = url.rstrip("/")
    if not base.startswith(("http://", "https://")):
        raise MalformedInput(f"{url!r} is no gateway: a URL starts with http:// or https://.")
    with httpx.Client(timeout=TIMEOUT_S, limits=LIMITS, trust_env=False) as http:
        reply = read_reply(http, base, Ask(0, "GET", path, accept=JSON))
    if isinstance(reply, Lost):
        raise PeerUnreachable(f"{base} does not answer: {reply.reason}")
    if reply.status >= 400:
        raise failure(reply)
    return reply
