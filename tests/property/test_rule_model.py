"""Random operations on the ledger and on a model of the rule in plain Python give the same receipts and records.

A run is a list of numbers; each says what one transaction asks for, who signs it and whether the block ends with it.
What is drawn is aimed at what is there: mostly present versions, mostly enough signers, so that operations meet. The
same numbers make the same run; a failing one is made short by hypothesis.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cityid import _native
from tests.property.model import Model, item_code, place_of, subject_key
from tests.property.network import CITIES, Network, SealedTable, encode, public, sign

PARAMETERS = {"recovery_delay": 3, "organisation_rate": 6, "city_rate": 16, "receipts": 2}
HOME, ABROAD = "130100", "330100"
OFFICES = ((HOME, "A7K2"), (HOME, "B7K2"), (ABROAD, "C7K2"), (HOME, "D7K2"))
HOLDERS = [f"MA.156.{HOME}", f"MA.156.{ABROAD}", *(f"MA.156.{city}.{org}" for city, org in OFFICES)]
CLASSES = ("010203", "010203", "010203", "010204")
SIGNERS = [f"{HOME}/transaction", f"{ABROAD}/transaction", *(f"key {number}" for number in range(12))]
RANGES: list[dict[str, Any]] = [
    {"city": HOME, "class": "010203", "base": base, "size": 1_000} for base in (0, 1_000, 2_000, 5_000)
]
RANGES.append({"city": HOME, "class": "010203", "base": 3_000_000, "size": 1_000_000})
Operation = dict[str, Any]
T = TypeVar("T")
KINDS = (
    *("admit", "terms", "allocate", "reserve", "register_category", "register_items", "register_items"),
    *("update_items", "update_items", "set_status", "set_status", "rotate", "rotate", "rotate", "controllers"),
    *("controllers", "profile", "start_recovery", "start_recovery", "end_recovery", "end_recovery", "offer"),
    *("offer", "accept", "accept", "aliases", "district", "seal", "seal", "override", "override", "override"),
)


class Draw:
    """One number, taken apart choice by choice."""

    def __init__(self, number: int) -> None:
        self.number = number

    def below(self, limit: int) -> int:
        self.number, choice = divmod(self.number, limit)
        return choice

    def of(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def often(self) -> bool:
        return self.below(8) > 0


class Run:
    """A ledger and a model side by side."""

    def __init__(self) -> None:
        self.network = Network(**PARAMETERS)
        purposes = ("transaction", "consensus", "checkpoint", "tls")
        cities = {city: {purpose: public(f"{city}/{purpose}").hex() for purpose in purposes} for city in CITIES}
        self.model = Model(cities, self.network.genesis.parameters())
        self.pending: list[tuple[list[Operation], list[str]]] = []
        self.tables: dict[bytes, SealedTable] = {}  # the last one that was made of a range
        self.seen: Counter[tuple[str, str]] = Counter()
        self.begin()

    # ------------------------------------------------------------ both sides

    def block(self) -> None:
        """Runs what was drawn, on both, and compares everything."""
        transactions, self.pending = self.pending, []
        given = [(operations, {public(name).hex() for name in signers}) for operations, signers in transactions]
        expected = self.model.block(given)
        receipts = self.network.block(transactions)
        for (operations, signers), receipt, wanted in zip(transactions, receipts, expected, strict=True):
            found = {name: receipt[name] for name in ("status", "outputs", "reason", "operation") if name in receipt}
            assert found == wanted, (operations, signers)
            for index, operation in enumerate(operations):
                if receipt["status"] == "committed" or index == receipt["operation"]:
                    self.seen[operation["op"], receipt.get("reason", "committed")] += 1
        views = self.network.views()
        for key, view in views.items():
            view.pop("previous", None)
            assert view == self.model.records.get(key), key
        written = {key for key, view in self.model.records.items() if view["height"] != "0"}
        assert written == set(views)

    def begin(self) -> None:
        """A town to begin with: two offices of one city, one of another; ranges, categories, items."""
        self.pending = []
        for number, (city, org) in enumerate(OFFICES[:3]):
            keys = [self.key(f"MA.156.{city}.{org}", "transaction", f"key {number}")]
            admit = {
                "op": "admit_organisation",
                "city": city,
                "org": org,
                "name": "Office",
                "quota": 2_000,
                "keys": keys,
            }
            self.pending.append(([admit], [f"{city}/transaction"]))
            holder = {"city": city, "org": org}
            category = {"use": "60", "class": "010203", "model": "1"}
            items = [{"serial": (number % 2) * 1_000 + serial} for serial in range(3)]
            for operation in (
                {"op": "allocate_range", **holder, "class": "010203", "size": 1_000},
                {"op": "register_category", **holder, **category, "name": "Lamp"},
                {"op": "register_items", **holder, **category, "items": items},
            ):
                self.pending.append(([operation], [f"key {number}"]))
        self.pending[-1][0][0]["items"] = [{"serial": 0}]
        self.block()
        assert {reason for _, reason in self.seen} == {"committed"}

    # ------------------------------------------------------------ what is drawn

    def step(self, number: int) -> None:
        draw = Draw(number)
        operations = [self.operation(draw) for _ in range(draw.of((1, 1, 1, 2)))]
        signers = SIGNERS if draw.below(4) else [name for name in SIGNERS if draw.below(2)] or SIGNERS[:1]
        self.pending.append((operations, list(signers)))
        if draw.below(3) == 0:
            self.block()

    def operation(self, draw: Draw) -> Operation:
        make: Callable[[Draw], Operation] = getattr(self, draw.of(KINDS))
        operation = make(draw)
        if draw.below(8) == 0:
            operation |= {"reason": draw.below(3), "basis": bytes([draw.below(3)] * 32).hex()}
        return operation

    def key(self, subject: str, purpose: str, name: str, **validity: int | None) -> dict[str, Any]:
        return self.network.key_entry(subject, purpose, name, **validity)

    def keys(self, draw: Draw, subject: str) -> list[dict[str, Any]]:
        """Mostly one transaction key, of few that there are, so that they collide."""
        height, given = self.model.height, []
        for name in {f"key {draw.below(12)}" for _ in range(draw.of((1, 1, 1, 0, 2)))}:
            purpose = draw.of(("transaction",) * 5 + ("recovery", "recovery", "assertion", "tls"))
            limits: tuple[tuple[int, int | None], ...] = ((0, None),) * 8
            limits += ((height + 2, None), (0, height + 4), (height + 3, height + 2))
            first, until = draw.of(limits)
            given.append(self.key(subject, purpose, name, **{"from": first, "until": until}))
        return sorted(given, key=lambda entry: str(entry["key"]))

    def office(self, draw: Draw) -> dict[str, Any]:
        city, org = draw.of((OFFICES[0], *OFFICES, (HOME, None)))
        return {"city": city, "org": org}

    def category(self, draw: Draw) -> dict[str, Any]:
        return {"use": "60", "class": draw.of(CLASSES), "model": draw.of(("1", "1", "1", "X"))}

    def item(self, draw: Draw) -> str:
        """Mostly one that is registered."""
        if draw.often():
            codes = sorted(view["code"] for view in self.model.records.values() if view["kind"] == "item")
            return str(draw.of(codes))
        office = self.office(draw)
        holder = f"MA.156.{office['city']}" + (f".{office['org']}" if office["org"] else "")
        return item_code(holder, ("60", draw.of(CLASSES), "1"), draw.of((0, 1, 4, 1_000, 5_001)))

    def subject(self, draw: Draw) -> str:
        return draw.of(HOLDERS) if draw.below(2) else self.item(draw)

    def version(self, draw: Draw, key: bytes) -> int:
        present = int(self.model.records.get(key, {"version": 0})["version"])
        return present if draw.often() else draw.of((present + 1, max(present - 1, 0), 0))

    def serial(self, draw: Draw) -> int:
        return int(draw.of(RANGES)["base"]) + draw.below(8)

    def target(self, draw: Draw) -> tuple[dict[str, Any], bytes]:
        if draw.below(2):
            span = draw.of(RANGES)
            kind = 6 if span["size"] == 1_000_000 else 7
            return {"range": span}, place_of(span["city"], span["class"], span["base"], kind)
        code = self.item(draw)
        return {"code": code}, subject_key(code)

    def admit(self, draw: Draw) -> Operation:
        city, org = draw.of((OFFICES[3], *OFFICES))
        terms = {"name": "Office", "quota": 1_000 * draw.below(4), "rate": draw.of((None, None, 3))}
        keys = self.keys(draw, f"MA.156.{city}.{org}")
        return {"op": "admit_organisation", "city": city, "org": org, **terms, "keys": keys}

    def terms(self, draw: Draw) -> Operation:
        city, org = draw.of(OFFICES)
        version = self.version(draw, subject_key(f"MA.156.{city}.{org}"))
        terms = {"name": draw.of(("Office", "Lighting")), "quota": 1_000 * draw.below(5), "rate": draw.of((None, 4))}
        return {"op": "set_terms", "city": city, "org": org, "expected_version": version, **terms}

    def allocate(self, draw: Draw) -> Operation:
        size = draw.of((1_000, 1_000, 1_000, 1_000_000))
        return {"op": "allocate_range", **self.office(draw), "class": draw.of(CLASSES), "size": size}

    def reserve(self, draw: Draw) -> Operation:
        office, span = self.office(draw), draw.of(RANGES)
        return {"op": "reserve_range", **office, **{name: span[name] for name in ("class", "base", "size")}}

    def register_category(self, draw: Draw) -> Operation:
        schema = draw.of((None, "ab" * 32))
        return {"op": "register_category", **self.office(draw), **self.category(draw), "name": "Lamp", "schema": schema}

    def register_items(self, draw: Draw) -> Operation:
        serials = sorted({self.serial(draw) for _ in range(draw.of((1, 1, 3)))})
        status = draw.of(("active", "active", "allocated"))
        items = [{"serial": serial, "status": status, "commitments": self.commitments(draw)} for serial in serials]
        return {"op": "register_items", **self.office(draw), **self.category(draw), "items": items}

    def commitments(self, draw: Draw) -> dict[str, str]:
        return {draw.of(("a", "bb")): bytes([draw.below(4)] * 32).hex() for _ in range(draw.below(3))}

    def update_items(self, draw: Draw) -> Operation:
        serials = sorted({self.serial(draw) if draw.below(3) else draw.below(3) for _ in range(draw.of((1, 1, 2)))})
        items = [
            {
                "serial": serial,
                "expected_version": self.version(draw, place_of(HOME, "010203", serial)),
                "commitments": self.commitments(draw),
                "services": draw.of(([], [["site", "https://city.example/"]])),
            }
            for serial in serials
        ]
        return {"op": "update_items", "city": HOME, "class": "010203", "items": items}

    def set_status(self, draw: Draw) -> Operation:
        about, key = self.target(draw)
        if draw.below(3) == 0:
            code = draw.of([*HOLDERS, *(f"{holder}/60.010203.1" for holder in HOLDERS)])
            about, key = {"code": code}, subject_key(code)
        status = draw.of(("active", "active", "active", "suspended", "suspended", "allocated", "retired"))
        return {"op": "set_status", **about, "expected_version": self.version(draw, key), "status": status}

    def rotate(self, draw: Draw) -> Operation:
        code = self.subject(draw)
        held = [key["key"] for key in self.model.records.get(subject_key(code), {}).get("keys", ())]
        remove = [draw.of(held)] if held and draw.below(3) == 0 else [public("nobody").hex()][: draw.below(12) == 0]
        version = self.version(draw, subject_key(code))
        return {
            "op": "rotate_keys",
            "code": code,
            "expected_version": version,
            "add": self.keys(draw, code),
            "remove": remove,
        }

    def controllers(self, draw: Draw) -> Operation:
        code = self.subject(draw)
        version = self.version(draw, subject_key(code))
        return {
            "op": "set_controllers",
            "code": code,
            "expected_version": version,
            "threshold": draw.of((1, 2, 2, 3, 0)),
        }

    def profile(self, draw: Draw) -> Operation:
        holder = draw.of(HOLDERS)
        code = draw.of((holder, holder, f"{holder}/60.010203.1", f"{holder}/60.010203.1", self.item(draw)))
        schema = "cd" * 32 if ("/" in code and draw.below(2)) or draw.below(8) == 0 else None
        fields = {"commitments": self.commitments(draw), "schema": schema}
        return {
            "op": "update_profile",
            "code": code,
            "expected_version": self.version(draw, subject_key(code)),
            **fields,
        }

    def start_recovery(self, draw: Draw) -> Operation:
        code = self.subject(draw)
        version = self.version(draw, subject_key(code))
        return {"op": "start_recovery", "code": code, "expected_version": version, "keys": self.keys(draw, code)}

    def end_recovery(self, draw: Draw) -> Operation:
        code = self.subject(draw)
        pending = sorted(key for key, view in self.model.records.items() if "recovery" in view)
        if pending and draw.often():
            key = draw.of(pending)
            code = self.model.records[key].get("code") or next(one for one in HOLDERS if subject_key(one) == key)
        version = self.version(draw, subject_key(code))
        return {"op": "end_recovery", "code": code, "expected_version": version, "cancel": draw.below(3) == 0}

    def offer(self, draw: Draw) -> Operation:
        about, key = self.target(draw)
        receiver = draw.of([*HOLDERS, *HOLDERS[2:], None])
        return {"op": "offer_transfer", **about, "expected_version": self.version(draw, key), "to": receiver}

    def accept(self, draw: Draw) -> Operation:
        about, key = self.target(draw)
        offered = sorted(key for key, view in self.model.records.items() if "offered_to" in view)
        if offered and draw.often():
            key = draw.of(offered)
            code = self.model.records[key].get("code")
            ranges = [span for span in RANGES if key == self.range_key(span)]
            about = {"code": code} if code else {"range": ranges[0]}
        return {"op": "accept_transfer", **about, "expected_version": self.version(draw, key)}

    def range_key(self, span: Mapping[str, Any]) -> bytes:
        return place_of(span["city"], span["class"], span["base"], 6 if span["size"] == 1_000_000 else 7)

    def aliases(self, draw: Draw) -> Operation:
        namespace = draw.of((HOME, f"{HOME}.A7K2", f"{HOME}.A7K2/old", f"{HOME}.B7K2", ABROAD))
        given = {str(draw.below(6)): self.item(draw) for _ in range(draw.of((1, 1, 2)))}
        aliases = [{"alias": alias, "code": code} for alias, code in given.items()]
        return {"op": "register_aliases", "namespace": namespace, "aliases": aliases}

    def district(self, draw: Draw) -> Operation:
        return {
            "op": "map_district",
            "city": draw.of((HOME, ABROAD)),
            "district": draw.of(("130102", "130104", ABROAD)),
        }

    def seal(self, draw: Draw) -> Operation:
        """A table of what is committed, of what the last table held, and of new items."""
        span = draw.of(RANGES[:4])
        key = self.range_key(span)
        holder = self.model.records.get(key, {}).get("holder", HOLDERS[2])
        last = self.tables.get(key)
        records: dict[int, bytes] = dict(last.records) if last and draw.often() else {}
        for index in range(8):
            own = self.network.records.get(place_of(HOME, "010203", span["base"] + index))
            newer = own is not None and (index not in records or version_of(own) >= version_of(records[index]))
            if own is not None and newer:
                records[index] = own
            elif index not in records and draw.below(3) == 0:
                code = item_code(str(holder), ("60", "010203", "1"), span["base"] + index)
                records[index] = encode({0: 8, 1: 1, 2: self.network.ledger.height, 4: 1, 17: code})
        table = self.tables[key] = SealedTable(records)
        for record in records.values():
            self.model.leaves[record] = view = json.loads(_native.record_json(record))
            view.pop("previous", None)
        version = self.version(draw, key)
        stated = {"root": table.root.hex(), "digest": table.digest.hex(), "count": len(records)}
        receipts = []
        for city in (CITIES[:2], CITIES[1:3], CITIES[1:2], CITIES)[draw.of((0, 0, 0, 1, 2, 3))]:
            signed = version if draw.often() else version + 1
            receipts.append({"city": city, "signature": self.receipt(city, span, key, signed, stated)})
        return {"op": "seal_range", "range": span, "expected_version": version, "table": stated, "receipts": receipts}

    def receipt(self, city: str, span: Mapping[str, Any], key: bytes, version: int, stated: Mapping[str, Any]) -> str:
        root, digest = bytes.fromhex(stated["root"]), bytes.fromhex(stated["digest"])
        place = (span["city"], span["class"], span["base"], span["size"])
        message = _native.storage_receipt_message(
            self.network.genesis.hash, *place, version, root, digest, stated["count"]
        )
        signature = sign(f"{city}/checkpoint", message).hex()
        self.model.statements[signature] = (city, key, version, stated["root"], stated["digest"], stated["count"])
        return signature

    def override(self, draw: Draw) -> Operation:
        span = draw.of(RANGES[:4])
        key, index = self.range_key(span), draw.below(8)
        table = self.tables.get(key) or SealedTable({})
        proven = index if draw.often() else index ^ 1
        proof, leaf = table.prove(proven), table.records.get(index)
        shown = self.model.leaves[leaf] if leaf else None
        own = self.model.records.get(place_of(HOME, "010203", span["base"] + index))
        present = max((view for view in (own, shown) if view), key=lambda view: int(view["version"]), default=None)
        office = self.office(draw)
        if present is not None and draw.often():
            _, _, office["city"], *org = present["code"].split("/")[0].split(".")
            office["org"] = org[0] if org else None
        version = int(present["version"]) if present else 0
        fields = {"commitments": self.commitments(draw) if draw.below(2) else (present or {}).get("commitments", {})}
        return {
            "op": "override_item",
            **office,
            "use": "60",
            "class": "010203",
            "model": draw.of(("1",) * 7 + ("X",)),
            "serial": span["base"] + index,
            "expected_version": version if draw.often() else draw.below(3),
            "status": draw.of(("active", "active", "suspended", "allocated", "retired")),
            **fields,
            "proof": proof.hex(),
        }


def version_of(record: bytes) -> int:
    return int(json.loads(_native.record_json(record))["version"])


def play(numbers: Sequence[int]) -> Run:
    run = Run()
    for number in numbers:
        run.step(number)
    run.block()
    return run


@settings(max_examples=30, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(0, 1 << 160), max_size=60))
def test_random_operations_give_the_receipts_and_records_of_the_model(numbers: list[int]) -> None:
    play(numbers)


def test_long_runs_agree_and_reach_what_they_are_about() -> None:
    seen: Counter[tuple[str, str]] = Counter()
    for seed in range(12):
        source = random.Random(seed)
        seen += play([source.getrandbits(160) for _ in range(250)]).seen
    committed = {name for name, reason in seen if reason == "committed"}
    assert len(committed) == 19, committed
    reasons = {reason for _, reason in seen}
    wanted = {"not_authorised", "suspended", "stale_version", "retired", "recovery_pending", "no_recovery", "too_early"}
    wanted |= {
        "no_key_left",
        "key_in_use",
        "unknown_key",
        "bad_purpose",
        "bad_key",
        "over_quota",
        "not_offered",
        "sealed",
    }
    wanted |= {"bad_receipt", "too_few_receipts", "bad_proof", "not_sealed", "exists", "not_in_range", "rate_exceeded"}
    assert wanted <= reasons, wanted - reasons


def test_a_model_with_another_rule_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a model that forgets one thing disagrees with the ledger."""
    monkeypatch.setattr(Model, "settled", lambda *_: None)
    source = random.Random(0)
    runs = [[source.getrandbits(160) for _ in range(250)] for _ in range(12)]
    with pytest.raises(AssertionError):
        list(map(play, runs))
