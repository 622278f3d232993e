"""`cityid gov`: what member cities decide together, proposed, agreed to, and shown in words.

A change is enacted by the vote that makes more than two thirds of the member cities agree. What is shown here is read
from a gateway as it says it; what a city signs is the proposal's number, so look at it with more than one gateway
before a vote that matters.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cityid.cli.acting import Acting, Asking, example, with_options
from cityid.cli.common import read_bounded
from cityid.cli.messages import choose
from cityid.cli.output import say
from cityid.cli.parts import key_entry, named
from cityid.errors import InputError

if TYPE_CHECKING:
    from cityid.client.operations import Change

__all__ = ["add_commands", "in_words"]

group = typer.Typer(no_args_is_help=True, help="Propose changes of the network, vote on them, show what holds.")
proposing = typer.Typer(no_args_is_help=True, help="Propose a change; the city that proposes agrees to it.")

KEY = "--key city/keys/transaction.pem --city 130100"
CHANGE_BYTES: Final = 64 * 1024
SHOWN: Final = 50

By = Annotated[str, typer.Option("--city", metavar="CITY", help="The city that acts: six digits.")]
Subject = Annotated[str, typer.Argument(metavar="CITY", help="The city that it is about: six digits.")]
Number = Annotated[int, typer.Argument(min=0, metavar="NUMBER", help="Of the proposal, as its receipt gave it.")]
CityKeys = Annotated[
    list[str],
    typer.Option(
        "--new-key",
        metavar="KEY:POSSESSION:PURPOSE",
        help="As `cityid keys possession --purpose PURPOSE` prints it; say it again for more.",
    ),
]
Certificate = Annotated[
    Path | None, typer.Option("--certificate", metavar="FILE", help="The self-signed TLS certificate, PEM or DER.")
]


def add_commands(app: typer.Typer) -> None:
    """Adds the group `gov`."""
    group.add_typer(proposing, name="propose")
    app.add_typer(group, name="gov")


@proposing.command(
    "admit-city",
    epilog=example(
        "cityid keys introduction city --trust network.json --out introduction.json   # at the new city",
        f"cityid gov propose admit-city 320500 {KEY} --introduction introduction.json",
    ),
)
@with_options
def admit_city(
    subject: Subject,
    city: By,
    introduction: Annotated[
        Path, typer.Option("--introduction", metavar="FILE", help="What `cityid keys introduction` wrote there.")
    ],
    acting: Acting,
) -> None:
    """Propose a new member city. It follows at once, and votes on blocks once it is in the committee."""
    change = _read_change(introduction)
    if (change["change"], change.get("city")) != ("admit_city", subject):
        raise InputError(f"{introduction} does not introduce {subject}. Next: ask that city for its introduction.")
    _propose(acting, city, change)


@proposing.command("remove-city", epilog=example(f"cityid gov propose remove-city 330100 {KEY}"))
@with_options
def remove_city(subject: Subject, city: By, acting: Acting) -> None:
    """Propose that a city is a member no longer. Its codes resolve for ever, as retired ones."""
    from cityid.client import operations

    _propose(acting, city, operations.remove_city(subject))


@proposing.command("suspend-city", epilog=example(f"cityid gov propose suspend-city 330100 {KEY}"))
@with_options
def suspend_city(subject: Subject, city: By, acting: Acting) -> None:
    """Propose to suspend a city: nobody under it can act, and its codes show it."""
    from cityid.client import operations

    _propose(acting, city, operations.set_city_status(subject, "suspended"))


@proposing.command("reinstate-city", epilog=example(f"cityid gov propose reinstate-city 330100 {KEY}"))
@with_options
def reinstate_city(subject: Subject, city: By, acting: Acting) -> None:
    """Propose to make a suspended city active again."""
    from cityid.client import operations

    _propose(acting, city, operations.set_city_status(subject, "active"))


@proposing.command(
    "replace-keys", epilog=example(f"cityid gov propose replace-keys 330100 {KEY} --new-key KEY:POSSESSION:consensus")
)
@with_options
def replace_keys(
    subject: Subject, city: By, new_key: CityKeys, acting: Acting, certificate: Certificate = None
) -> None:
    """Propose new keys for a city: of each purpose that is named, they take the place of all that it has."""
    from cityid.client import operations

    keys = [key_entry(text) for text in new_key]
    der = None if certificate is None else _certificate(certificate)
    _propose(acting, city, operations.replace_keys(subject, keys=keys, certificate=der))


@proposing.command("committee", epilog=example(f"cityid gov propose committee 110000 130100 330100 440300 {KEY}"))
@with_options
def committee_change(
    cities: Annotated[list[str], typer.Argument(metavar="CITY...", help="All of them, 4 to 100.")],
    city: By,
    acting: Acting,
) -> None:
    """Propose who decides blocks from now on: all cities of the new committee are named."""
    from cityid.client import operations

    _propose(acting, city, operations.set_committee(cities))


@proposing.command("parameters", epilog=example(f"cityid gov propose parameters {KEY} --set heartbeat_ms=5000"))
@with_options
def parameters_change(
    city: By,
    values: Annotated[
        list[str], typer.Option("--set", metavar="NAME=VALUE", help="A parameter; say it again for more.")
    ],
    acting: Acting,
) -> None:
    """Propose other limits and intervals; `cityid gov parameters` shows the present ones."""
    from cityid.client import operations

    chosen = named(values, option="--set")
    wrong = [f"{name}={value}" for name, value in chosen.items() if not (value.isascii() and value.isdigit())]
    if wrong:
        raise InputError(f"A parameter is a whole number: {', '.join(wrong)}.")
    known = _configuration(acting.asking)["parameters"]
    if unknown := sorted(set(chosen) - set(known)):
        raise InputError(f"There is no parameter {', '.join(unknown)}. Next: choose among {', '.join(known)}.")
    _propose(acting, city, operations.set_parameters({name: int(value) for name, value in chosen.items()}))


@proposing.command("protocol", epilog=example(f"cityid gov propose protocol {KEY} --version 2 --height 50000"))
@with_options
def protocol_change(
    city: By,
    version: Annotated[int, typer.Option(min=1, help="The next version of the protocol.")],
    height: Annotated[int, typer.Option(min=1, help="The first height with its rules.")],
    acting: Acting,
) -> None:
    """Propose the height from which the rules of the next protocol version hold. Every node must know it by then."""
    from cityid.client import operations

    _propose(acting, city, operations.schedule_protocol(version, height=height))


@proposing.command("merge-city", epilog=example(f"cityid gov propose merge-city 330100 {KEY} --into 130100"))
@with_options
def merge_city(
    subject: Subject,
    city: By,
    into: Annotated[str, typer.Option(metavar="CITY", help="The city that continues it.")],
    acting: Acting,
) -> None:
    """Propose that one city continues another, after a merger or a new name. Codes of both resolve for ever."""
    from cityid.client import operations

    _propose(acting, city, operations.merge_city(subject, into=into))


@proposing.command("change", epilog=example(f"cityid gov propose change {KEY} --change change.json"))
@with_options
def any_change(
    city: By,
    change: Annotated[Path, typer.Option("--change", metavar="FILE", help="A change as JSON: protocol P61 to P68.")],
    acting: Acting,
) -> None:
    """Propose a change that is written in a file, as docs/protocol.md (P61 to P68) spells it."""
    _propose(acting, city, _read_change(change))


@group.command(epilog=example(f"cityid gov vote 7 {KEY}"))
@with_options
def vote(number: Number, city: By, acting: Acting) -> None:
    """Agree to a proposal. What it says is shown before it is signed for."""
    from cityid.client.operations import vote as agree

    with acting.open() as session:
        found = session.client.proposal(number)
        say(in_words(found["change"]))
        session.transact(agree(city, number), f"{choose('提案', 'proposal')} {number}")


@group.command(epilog=example(f"cityid gov withdraw 7 {KEY}"))
@with_options
def withdraw(number: Number, city: By, acting: Acting) -> None:
    """Withdraw a proposal; signed by the city that made it."""
    from cityid.client.operations import withdraw_proposal

    with acting.open() as session:
        session.transact(withdraw_proposal(city, number), f"{choose('提案', 'proposal')} {number}")


@group.command("list", epilog=example("cityid gov list"))
@with_options
def list_proposals(asking: Asking) -> None:
    """List the open proposals, the newest first, as a gateway says."""
    found = _configuration(asking)["open"]
    members = _configuration(asking)["members"]
    lines = [_proposal_line(proposal, members) for proposal in found]
    asking.show({"proposals": found, "proven": False}, "\n".join(lines) or choose("没有待决提案", "no open proposals"))


@group.command(epilog=example("cityid gov show 7"))
@with_options
def show(number: Number, asking: Asking) -> None:
    """Show a proposal: the change in words, who agrees, until when, as a gateway says."""
    with asking.client() as client:
        found = client.proposal(number)
        members = client.configuration()["members"]
    lines = [
        _proposal_line(found, members),
        choose("赞成：", "agree: ") + ", ".join(found["votes"]),
        choose(f"表决至高度 {found['until']}", f"votes until height {found['until']}"),
        json.dumps(found["change"], ensure_ascii=False, indent=1),
    ]
    asking.show(found | {"words": in_words(found["change"]), "proven": False}, "\n".join(lines))


@group.command(epilog=example("cityid gov committee"))
@with_options
def committee(asking: Asking) -> None:
    """Show the cities that decide blocks, as a gateway says; a trust file names them with proof."""
    found = _configuration(asking)["committee"]
    asking.show({"committee": found, "proven": False}, "\n".join(found))


@group.command(epilog=example("cityid gov members"))
@with_options
def members(asking: Asking) -> None:
    """Show all member cities with status and place, as a gateway says; `cityid resolve MA.156.CITY` proves one."""
    found = _configuration(asking)["cities"]
    asking.show({"cities": found, "proven": False}, "\n".join(_city_line(city) for city in found))


@group.command(epilog=example("cityid gov parameters"))
@with_options
def parameters(asking: Asking) -> None:
    """Show the limits and intervals that hold now, and the protocol versions, as a gateway says."""
    found = _configuration(asking)
    lines = [f"{name} {value}" for name, value in found["parameters"].items()]
    lines += [
        choose(f"协议版本 {version}：自高度 {height}", f"protocol {version}: from height {height}")
        for version, height in found["protocol"]
    ]
    value = {"parameters": found["parameters"], "protocol": found["protocol"], "proven": False}
    asking.show(value, "\n".join(lines))


def in_words(change: Mapping[str, Any]) -> str:
    """A change as a sentence."""
    city = change.get("city", "")
    match change["change"]:
        case "admit_city":
            return choose(f"接纳 {city} {change['name']} 为成员城市", f"admit {city} {change['name']} as a member city")
        case "remove_city":
            return choose(f"{city} 不再是成员城市", f"{city} is a member city no longer")
        case "set_city_status" if change["status"] == "active":
            return choose(f"恢复 {city}", f"make {city} active again")
        case "set_city_status":
            return choose(f"暂停 {city}", f"suspend {city}")
        case "replace_keys":
            purposes = ", ".join(sorted({key["purpose"] for key in change["keys"]}))
            return choose(f"更换 {city} 的密钥：{purposes}", f"replace the keys of {city} for {purposes}")
        case "set_committee":
            listed = ", ".join(change["cities"])
            return choose(f"共识委员会改为：{listed}", f"blocks are decided by {listed}")
        case "set_parameters":
            listed = ", ".join(f"{name} = {value}" for name, value in change["parameters"].items())
            return choose(f"参数改为：{listed}", f"set {listed}")
        case "schedule_protocol":
            version, height = change["version"], change["height"]
            return choose(f"自高度 {height} 起用协议版本 {version}", f"protocol {version} from height {height}")
        case "merge_city":
            return choose(f"{city} 由 {change['into']} 接续", f"{change['into']} continues {city}")
        case other:
            return str(other)


def _propose(acting: Acting, city: str, change: "Change") -> None:
    from cityid.client import operations

    with acting.open() as session:
        say(in_words(change))
        session.transact(operations.propose(city, change), f"MA.156.{city}", {"words": in_words(change)})


def _configuration(asking: Asking) -> dict[str, Any]:
    with asking.client() as client:
        return client.configuration()


def _proposal_line(proposal: Mapping[str, Any], members: int) -> str:
    votes = len(proposal["votes"])
    states = {"allocated": ("待决", "open"), "active": ("已通过", "enacted"), "retired": ("已撤回", "withdrawn")}
    state = choose(*states.get(proposal["status"], (proposal["status"], proposal["status"])))
    said = choose(f"{votes}/{members} 城赞成", f"{votes} of {members} cities agree")
    return f"{proposal['number']} {proposal['holder']}: {in_words(proposal['change'])} ({state}, {said})"


def _city_line(city: Mapping[str, Any]) -> str:
    parts = [city["city"], str(city.get("name", "")), str(city.get("status", ""))]
    if city.get("committee"):
        parts.append(choose("委员会", "committee"))
    if city.get("administered_by") not in (None, city["city"]):
        parts.append(choose(f"由 {city['administered_by']} 管理", f"administered by {city['administered_by']}"))
    return " ".join(parts)


def _certificate(path: Path) -> bytes:
    from cityid import keys

    return keys.parse_certificate(read_bounded(path, keys.MAX_FILE_BYTES)).der


def _read_change(path: Path) -> "Change":
    try:
        found = json.loads(read_bounded(path, CHANGE_BYTES))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("change"), str):
        raise InputError(f'{path} is no change: it is an object with "change", as in docs/protocol.md (P61 to P68).')
    return found
