"""`cityid trust`: what is believed, and how it comes about and moves on.

A trust file is believed because people compared its six words, not because a gateway sent it: `fetch` only downloads,
`pin` asks for the words, `update` follows commit certificates from what is believed already.
"""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from cityid._native import Trust
from cityid.cli.common import At, Json, TrustFile, client, gateways, load_trust, pinned_trust
from cityid.cli.messages import choose
from cityid.cli.messages import local_time as local
from cityid.cli.output import say
from cityid.cli.output import show as show_result
from cityid.errors import InputError, VerificationError

__all__ = ["add_commands"]

group = typer.Typer(no_args_is_help=True, help="Show, fetch, pin and update what is believed about a network.")


def add_commands(app: typer.Typer) -> None:
    """Adds the group `trust`."""
    app.add_typer(group, name="trust")


@group.command()
def show(file: Annotated[Path | None, typer.Argument(metavar="FILE")] = None, as_json: Json = False) -> None:
    """Show a trust file or genesis file: its six words, height, validators."""
    _show(load_trust(file), as_json=as_json)


@group.command()
def fetch(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to put what the gateway says.")],
    at: At = None,
    as_json: Json = False,
) -> None:
    """Download what a gateway says its network is. Nothing is believed yet: compare the six words, then pin it."""
    from cityid.client import fetch_trust

    trust = fetch_trust(gateways(at)[0])
    _write(out, trust)
    _show(trust, as_json=as_json)
    say(
        choose(
            f"尚未采信。请与成员城市核对六个词，再运行：cityid trust pin {out}",
            f"Not believed yet. Compare the six words with a member city, then: cityid trust pin {out}",
        )
    )


@group.command()
def pin(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A trust file or genesis file.")],
    words: Annotated[
        str | None,
        typer.Option("--words", metavar="WORDS", help="The six words from a member city; asked for when left out."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Instead of the default trust file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Believe FILE from now on, if its six words are the ones that a member city says."""
    trust = load_trust(file)
    given = (
        words
        if words is not None
        else typer.prompt(choose("成员城市告知的六个词", "The six words, from a member city"), err=True)
    )
    if _spelt(given) != _spelt(trust.words):
        raise VerificationError(
            "The words differ: this is another network, or somebody stands in between. Nothing is pinned. "
            "Next: ask the city again, by another way."
        )
    place = out or pinned_trust()
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if place.exists():
        current = Trust.load(str(place))
        if current.genesis_hash == trust.genesis_hash and current.height > trust.height:
            raise InputError(f"{place} is at height {current.height} already; trust never goes back to {trust.height}.")
    _write(place, trust)
    _show(trust, as_json=as_json)
    say(choose(f"已采信：{place}", f"Pinned: {place}"))


@group.command()
def update(at: At = None, trust: TrustFile = None, as_json: Json = False) -> None:
    """Advance a trust file to the newest header that a gateway proves under the validators that it names."""
    place = trust or pinned_trust()
    believed = load_trust(trust)
    if "cities" in json.loads(place.read_text(encoding="utf-8")):
        raise InputError(
            f"{place} is a genesis file, which never changes. Next: cityid trust pin {place} --out trust.json"
        )
    with client(at, believed) as asking:
        advanced = asking.update_trust()
    _write(place, advanced)
    _show(advanced, as_json=as_json)


def _show(trust: Trust, *, as_json: bool) -> None:
    value: dict[str, Any] = {
        "words": trust.words,
        "genesis_hash": trust.genesis_hash.hex(),
        "height": trust.height,
        "time_ms": str(trust.time_ms),
        "test": trust.test,
        "validators": [{"city": city, "key": key.hex()} for city, key in trust.validators],
    }
    cities = " ".join(city for city, _ in trust.validators)
    lines = [
        trust.words,
        choose("测试网络", "TEST network") if trust.test else choose("正式网络", "network in service"),
        f"{choose('创世哈希', 'genesis')} {trust.genesis_hash.hex()}",
        choose(f"高度 {trust.height}，{local(trust.time_ms)}", f"height {trust.height}, {local(trust.time_ms)}"),
        f"{choose('城市', 'cities')} {cities}",
    ]
    show_result(value, "\n".join(lines), as_json=as_json)


def _spelt(words: str) -> list[str]:
    return words.replace("-", " ").lower().split()


def _write(path: Path, trust: Trust) -> None:
    """Replaces the file whole: a half-written trust file would believe nothing."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(trust.to_json() + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
