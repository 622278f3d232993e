"""`cityid range`: serials handed out, reserved, offered and accepted, suspended and shown."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cityid.cli.acting import Acting, Asking, Session, example, with_options
from cityid.cli.messages import STATUS, choose
from cityid.cli.output import say
from cityid.cli.parts import Base, City, Class, Expected, Org, Size, of_kind, org_code, range_of
from cityid.errors import InputError

if TYPE_CHECKING:
    from cityid.client.operations import Range, Status

__all__ = ["add_commands", "range_record", "range_version"]

group = typer.Typer(
    no_args_is_help=True, help="Ask for ranges of serials, reserve, offer, accept, suspend and show them."
)
WHERE = "--city 130100 --class 010203 --base 0 --size 1000"


def add_commands(app: typer.Typer) -> None:
    """Adds the group `range`."""
    app.add_typer(group, name="range")


@group.command(epilog=example("cityid range allocate --key office.pem --city 130100 --org A7K2 --class 010203"))
@with_options
def allocate(
    city: City,
    org: Org,
    class_code: Class,
    acting: Acting,
    size: Size = 1_000,
    count: Annotated[int, typer.Option(min=1, max=200, help="How many ranges.")] = 1,
) -> None:
    """Ask for the next free range of a class; signed by the organisation."""
    from cityid.client import operations

    sizes: dict[int, Literal[1_000, 1_000_000]] = {1_000: 1_000, 1_000_000: 1_000_000}
    if size not in sizes:
        raise InputError(f"--size is 1000 or 1000000, not {size}.")
    operation = operations.allocate_range(city, org, class_code=class_code, size=sizes[size])
    with acting.open() as session:
        session.transact([operation] * count, org_code(city, org))


@group.command(
    epilog=example(
        "cityid range reserve --key city/keys/transaction.pem --city 130100 --org A7K2 --class 010203 --base 5000"
    )
)
@with_options
def reserve(
    city: City,
    class_code: Class,
    base: Base,
    acting: Acting,
    size: Size = 1_000,
    org: Annotated[
        str | None, typer.Option("--org", metavar="ORG", help="Who holds it; the city itself without it.")
    ] = None,
) -> None:
    """Reserve a range whose serials were given before the city joined; signed by the city."""
    from cityid.client.operations import reserve_range

    reserved = range_of(city, class_code, base, size)
    with acting.open() as session:
        session.transact(reserve_range(reserved, org=org), str(reserved))


@group.command(epilog=example(f"cityid range suspend --key city/keys/transaction.pem {WHERE}"))
@with_options
def suspend(
    city: City, class_code: Class, base: Base, acting: Acting, size: Size = 1_000, expected_version: Expected = None
) -> None:
    """Suspend a range and with it the items in it; signed by its city."""
    _set_status(range_of(city, class_code, base, size), "suspended", acting, expected_version)


@group.command(epilog=example(f"cityid range reinstate --key city/keys/transaction.pem {WHERE}"))
@with_options
def reinstate(
    city: City, class_code: Class, base: Base, acting: Acting, size: Size = 1_000, expected_version: Expected = None
) -> None:
    """Make a suspended range active again; signed by its city."""
    _set_status(range_of(city, class_code, base, size), "active", acting, expected_version)


@group.command(epilog=example(f"cityid range retire --key city/keys/transaction.pem {WHERE}"))
@with_options
def retire(
    city: City, class_code: Class, base: Base, acting: Acting, size: Size = 1_000, expected_version: Expected = None
) -> None:
    """Retire a range, for ever; signed by its city."""
    _set_status(range_of(city, class_code, base, size), "retired", acting, expected_version)


@group.command(epilog=example(f"cityid range offer --key office.pem {WHERE} --to MA.156.130100.B3Q8"))
@with_options
def offer(
    city: City,
    class_code: Class,
    base: Base,
    acting: Acting,
    size: Size = 1_000,
    to: Annotated[
        str | None, typer.Option("--to", metavar="HOLDER", help="The code of the receiver; none withdraws the offer.")
    ] = None,
    expected_version: Expected = None,
) -> None:
    """Offer a range to another holder, or withdraw the offer; signed by its holder. Codes never change."""
    from cityid.client.operations import offer_transfer

    offered = range_of(city, class_code, base, size)
    receiver = None if to is None else of_kind(to, "org", "city").text
    with acting.open() as session:
        version = range_version(session, offered, expected_version)
        session.transact(offer_transfer(offered, expected_version=version, to=receiver), str(offered))


@group.command(epilog=example(f"cityid range accept --key other.pem {WHERE}"))
@with_options
def accept(
    city: City, class_code: Class, base: Base, acting: Acting, size: Size = 1_000, expected_version: Expected = None
) -> None:
    """Accept a range that was offered; signed by the receiver, whose quota it counts for."""
    from cityid.client.operations import accept_transfer

    offered = range_of(city, class_code, base, size)
    with acting.open() as session:
        version = range_version(session, offered, expected_version)
        session.transact(accept_transfer(offered, expected_version=version), str(offered))


@group.command("show", epilog=example("cityid range show --city 130100 --class 010203 --base 12000"))
@with_options
def show_range(city: City, class_code: Class, base: Base, asking: Asking) -> None:
    """Show the ranges that hold a serial, as a gateway says; the answer about an item in them has the proof."""
    with asking.client() as client:
        found = client.ranges_of(city, class_code, base)
    lines = [_line(record) for record in found]
    nothing = choose("该流水号不在任何号段内", "no range holds that serial")
    asking.show({"ranges": found, "proven": False}, "\n".join(lines) or nothing)
    say(choose("网关所言，未经证明", "as the gateway says; not proven"))
    if not found:
        raise typer.Exit(4)


def range_version(session: Session, held: "Range", expected: int | None) -> int:
    """The version that is to be replaced: the one that was named, else the present one as a gateway says.

    A wrong word of the gateway's costs a refusal (`stale_version`) and nothing else.
    """
    return expected if expected is not None else int(range_record(session, held)["version"])


def range_record(session: Session, held: "Range") -> dict[str, Any]:
    """The present record of a range, as a gateway says."""
    for record in session.client.ranges_of(held.city, held.class_code, held.base):
        if record["range"]["size"] == held.size:
            return record
    raise InputError(
        f"The gateway knows no range {held}. Next: look at what there is with cityid range show; "
        "a thousand inside a million that is held as a whole has no record of its own."
    )


def _set_status(changed: "Range", status: "Status", acting: Acting, expected: int | None) -> None:
    from cityid.client.operations import set_range_status

    with acting.open() as session:
        version = range_version(session, changed, expected)
        session.transact(set_range_status(changed, expected_version=version, status=status), str(changed))


def _line(record: dict[str, Any]) -> str:
    where = record["range"]
    end = where["base"] + where["size"] - 1
    chinese, english = STATUS.get(record["status"], (record["status"], record["status"]))
    holder = record.get("holder", choose("（无持有者：按千分配）", "(no holder: handed out in thousands)"))
    table = record.get("table")
    sealed = ""
    if table is not None:
        sealed = choose(
            f"，已封存：第 {table['version']} 版，{table['count']} 项，{table['overrides']} 项覆盖",
            f", sealed: version {table['version']}, {table['count']} items, {table['overrides']} overrides",
        )
    offered = f" → {record['offered_to']}" if "offered_to" in record else ""
    version = choose(f"第 {record['version']} 版", f"version {record['version']}")
    state = choose(chinese, english)
    return f"{where['base']:09d}-{end:09d} {holder}{offered} {state}, {version}{sealed}"
