"""The distribution rule once more, in plain Python: a dictionary of records, a function for each operation.

It shares no code with the product; its lines are those of docs/protocol.md that it names. Records are the JSON views
of the product without `previous`; 64-bit integers are texts there, and so they are here. What is not modelled:
signatures (who signed is given, what a storage receipt states is told to `statements`), the limits of P18 and of texts,
and governance.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tests.property import oracle

__all__ = ["Model", "item_code", "place_of", "subject_key"]

View = dict[str, Any]
PURPOSES = ("transaction", "consensus", "checkpoint", "tls", "recovery", "assertion")
MANAGED = ("transaction", "recovery", "assertion")
STATUSES = ("active", "allocated", "suspended", "retired")  # from best to worst
MOVES = {("allocated", "active"), ("active", "suspended"), ("suspended", "active")}
MOVES |= {(status, "retired") for status in STATUSES[:3]}
OWN_RATE = 16
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Refused(Exception):
    """An operation is refused, for a reason."""


def demand(holds: object, reason: str) -> None:
    if not holds:
        raise Refused(reason)


# ---------------------------------------------------------------- codes and map keys (P8)


def map_key(kind: int, *fields: str) -> bytes:
    return bytes([kind]) + "".join(fields).encode()


def prefixed(field: str | None) -> str:
    return chr(len(field or "")) + (field or "")


def parts(code: str) -> tuple[str, str | None, tuple[str, ...], int | None]:
    """City, organisation, (use, class, model), serial."""
    holder, category, serial = (code + "//").split("/")[:3]
    nodes = holder.split(".")
    return (
        nodes[2],
        nodes[3] if nodes[3:] else None,
        tuple(filter(None, category.split("."))),
        int(serial[:9]) if serial else None,
    )


def holder_of(city: str, org: str | None) -> str:
    return f"MA.156.{city}" + (f".{org}" if org else "")


def item_code(holder: str, category: Sequence[str], serial: int) -> str:
    text, product = f"{holder}/{'.'.join(category)}/{serial:09}", 36
    for character in text:
        if character in ALPHABET:  # ISO/IEC 7064 MOD 37,36
            product = ((product + ALPHABET.index(character)) % 36 or 36) * 2 % 37
    return text + ALPHABET[(1 - product) % 36]


def place_of(city: str, class_: str, serial: int, kind: int = 8) -> bytes:
    """The key of an item (8), or of the thousand (7) or million (6) around its serial."""
    return map_key(kind, city, class_, f"{serial:09}"[: {6: 3, 7: 6, 8: 9}[kind]])


def subject_key(code: str) -> bytes:
    city, org, category, serial = parts(code)
    if serial is not None:
        return place_of(city, category[1], serial)
    if category:
        return map_key(4, city, prefixed(org), category[0], category[1], prefixed(category[2]))
    return map_key(3, city, prefixed(org)) if org else map_key(2, city)


def range_key(span: Mapping[str, Any]) -> bytes:
    return place_of(span["city"], span["class"], span["base"], 6 if span["size"] == 1_000_000 else 7)


def counts(entry: Mapping[str, Any], height: int) -> bool:
    return int(entry["from"]) <= height and (entry["until"] is None or height < int(entry["until"]))


class Model:
    """The state, and what a block does to it."""

    def __init__(self, cities: Mapping[str, Mapping[str, str]], parameters: Mapping[str, int]) -> None:
        self.parameters, self.height = parameters, 0
        self.records: dict[bytes, View] = {}
        self.leaves: dict[bytes, View] = {}  # what an encoded record of a table says
        self.statements: dict[str, tuple[Any, ...]] = {}  # signature: city, range, version, table
        self.ground: View = {}
        for city, keys in cities.items():
            entries = [
                {"suite": 1, "purpose": purpose, "key": key, "from": "0", "until": None}
                for purpose, key in keys.items()
            ]
            self.put(map_key(2, city), "city", name=f"City {city}", children="map", keys=self.sorted_keys(entries))
            for purpose, key in keys.items():
                self.put(map_key(12) + bytes.fromhex(key), "key", holder=f"MA.156.{city}", purpose=purpose)

    # ------------------------------------------------------------ records (P11)

    def put(self, key: bytes, kind: str, **fields: Any) -> None:
        shared = {"kind": kind, "version": "1", "height": str(self.height), "status": "active"}
        self.records[key] = _without_nothing(shared | fields | self.ground)

    def change(self, key: bytes, before: View, **fields: Any) -> None:
        step = {
            "version": str(int(before["version"]) + 1),
            "height": str(self.height),
            "previous_height": before["height"],
        }
        old = {name: value for name, value in before.items() if name not in ("reason", "basis")}
        self.records[key] = _without_nothing(old | step | fields | self.ground)

    def sorted_keys(self, entries: Iterable[View]) -> list[View]:
        return sorted(entries, key=lambda entry: (PURPOSES.index(entry["purpose"]), entry["key"]))

    # ------------------------------------------------------------ blocks (P20, P72)

    def block(self, transactions: Iterable[tuple[Sequence[Mapping[str, Any]], set[str]]]) -> list[View]:
        self.height += 1
        self.used: dict[str, int] = {}
        return [self.transaction(operations, signers) for operations, signers in transactions]

    def transaction(self, operations: Sequence[Mapping[str, Any]], signers: set[str]) -> View:
        before, self.signers, outputs = dict(self.records), signers, []
        for index, operation in enumerate(operations):
            self.ground = {name: operation[name] for name in ("reason", "basis") if operation.get(name) is not None}
            self.weight = max(1, len(operation.get("items", operation.get("aliases", ()))))
            self.charged: set[str] = set()
            run: Callable[[Any], Any] = getattr(self, operation["op"])
            try:
                outputs.append(run(operation))
            except Refused as refused:
                self.records = before
                return {"status": "rejected", "reason": str(refused), "operation": index}
        return {"status": "committed", "outputs": outputs}

    # ------------------------------------------------------------ authority (P13, P29, P72)

    def counting(self, record: View, purpose: str) -> set[str]:
        return {
            entry["key"]
            for entry in record.get("keys", ())
            if entry["purpose"] == purpose and counts(entry, self.height)
        }

    def signed(self, record: View | None) -> bool:
        return record is not None and len(self.counting(record, "transaction") & self.signers) >= record.get(
            "threshold", 1
        )

    def charge(self, who: str, rate: int) -> None:
        if who not in self.charged:
            self.charged.add(who)
            self.used[who] = self.used.get(who, 0) + self.weight
        demand(self.used[who] <= rate, "rate_exceeded")

    def active(self, holder: str) -> None:
        city, org, *_ = parts(holder)
        chain = [holder_of(city, None), *([holder] if org else [])]
        demand(all(self.records.get(subject_key(code), {}).get("status") == "active" for code in chain), "suspended")

    def authorise(self, holder: str) -> None:
        record = self.records.get(subject_key(holder))
        demand(record is not None and self.signed(record), "not_authorised")
        assert record is not None
        if parts(holder)[1]:
            self.charge(holder, min(int(record.get("rate", 1 << 63)), self.parameters["organisation_rate"]))
        else:
            self.charge(holder, self.parameters["city_rate"])
        self.active(holder)

    def administration(self, city: str) -> str:
        record = self.records.get(map_key(2, city))
        demand(record, "unknown_city")
        assert record is not None
        return holder_of(record.get("administered_by", city), None)

    def as_holder(self, holder: str) -> None:
        city, org, *_ = parts(holder)
        self.authorise(holder if org else self.administration(city))
        self.active(holder)

    def settled(self, record: View | None) -> None:
        demand(record is None or "recovery" not in record, "recovery_pending")

    def current(self, record: View, operation: Mapping[str, Any]) -> None:
        demand(int(record["version"]) == operation["expected_version"], "stale_version")

    # ------------------------------------------------------------ organisations and keys (P16, P22, P28, P51 to P55)

    def register_keys(self, subject: str, given: Sequence[Mapping[str, Any]], purposes: Sequence[str]) -> list[View]:
        entries = []
        for proof in self.sorted_keys(map(dict, given)):
            demand(proof["purpose"] in purposes, "bad_purpose")
            first, until = max(proof.get("from") or 0, self.height), proof.get("until")
            demand(until is None or until > first, "bad_key")
            key = map_key(12) + bytes.fromhex(proof["key"])
            demand(key not in self.records, "key_in_use")
            self.put(key, "key", holder=subject, purpose=proof["purpose"])
            end = None if until is None else str(until)
            entries.append(
                {"suite": 1, "purpose": proof["purpose"], "key": proof["key"], "from": str(first), "until": end}
            )
        return entries

    def standing(self, keys: Iterable[View], height: int, threshold: int) -> None:
        lasting = [
            key
            for key in keys
            if key["purpose"] == "transaction" and int(key["from"]) <= height and key["until"] is None
        ]
        demand(len(lasting) >= threshold, "no_key_left")

    def admit_organisation(self, o: Mapping[str, Any]) -> None:
        city = holder_of(o["city"], None)
        self.as_holder(city)
        subject = holder_of(o["city"], o["org"])
        demand(subject_key(subject) not in self.records, "exists")
        keys = self.register_keys(subject, o["keys"], MANAGED)
        self.standing(keys, self.height, 1)
        terms = {"name": o["name"], "quota": str(o["quota"]), "rate": _text(o.get("rate"))}
        self.put(subject_key(subject), "organisation", children="map", keys=self.sorted_keys(keys), **terms)

    def set_terms(self, o: Mapping[str, Any]) -> None:
        self.as_holder(holder_of(o["city"], None))
        key = subject_key(holder_of(o["city"], o["org"]))
        record = self.existing(key)
        demand(record["status"] != "retired", "retired")
        self.current(record, o)
        self.change(key, record, name=o["name"], quota=str(o["quota"]), rate=_text(o.get("rate")))

    def existing(self, key: bytes) -> View:
        demand(key in self.records, "unknown_code")
        return self.records[key]

    def subject(self, code: str) -> tuple[View, str | None, Callable[..., None]]:
        """The record of a subject with keys; of an item its holder; how it is changed."""
        _, _, category, serial = parts(code)
        if serial is not None:
            return self.item_of(code)
        demand(not category, "unknown_code")
        record = self.existing(subject_key(code))
        return record, None, lambda **fields: self.change(subject_key(code), record, **fields)

    def speaks(self, code: str, record: View, item_holder: str | None) -> None:
        """P28: a subject itself; an item without transaction keys by its holder."""
        if item_holder is None:
            self.authorise(code)
        elif not any(key["purpose"] == "transaction" for key in record.get("keys", ())):
            self.as_holder(item_holder)
        else:
            demand(self.signed(record), "not_authorised")
            self.charge_own(code)
            city, org, category, serial = parts(code)
            assert serial is not None
            self.active(holder_of(city, org))
            around = self.range_of(city, category[1], serial)
            demand(around and around[1]["status"] == "active" and record["status"] == "active", "suspended")

    def charge_own(self, code: str) -> None:
        self.used["own " + code] = self.used.get("own " + code, 0) + 1
        demand(self.used["own " + code] <= OWN_RATE, "rate_exceeded")

    def parent(self, code: str, item_holder: str | None) -> None:
        city, org, *_ = parts(code)
        demand(item_holder or org, "not_authorised")
        self.as_holder(item_holder or holder_of(city, None))

    def unretired(self, record: View, o: Mapping[str, Any]) -> None:
        demand(record["status"] != "retired", "retired")
        self.current(record, o)

    def rotate_keys(self, o: Mapping[str, Any]) -> None:
        record, item_holder, change = self.subject(o["code"])
        self.speaks(o["code"], record, item_holder)
        self.unretired(record, o)
        self.settled(record)
        keys = list(record.get("keys", ()))
        for old in sorted(o["remove"]):
            found = [key for key in keys if key["key"] == old]
            demand(found, "unknown_key")
            demand(found[0]["purpose"] in MANAGED, "bad_purpose")
            keys.remove(found[0])
        had = any(key["purpose"] == "transaction" for key in record.get("keys", ()))
        keys += self.register_keys(o["code"], o["add"], MANAGED)
        demand(all(sum(key["purpose"] == purpose for key in keys) <= 16 for purpose in MANAGED), "too_large")
        if item_holder is None or had or any(key["purpose"] == "transaction" for key in keys):
            self.standing(keys, self.height, record.get("threshold", 1))
        change(keys=self.sorted_keys(keys) or None)

    def set_controllers(self, o: Mapping[str, Any]) -> None:
        record, item_holder, change = self.subject(o["code"])
        self.speaks(o["code"], record, item_holder)
        self.unretired(record, o)
        self.settled(record)
        demand(o["threshold"], "no_key_left")
        self.standing(record.get("keys", ()), self.height, o["threshold"])
        change(threshold=o["threshold"] if o["threshold"] > 1 else None)

    def start_recovery(self, o: Mapping[str, Any]) -> None:
        record, item_holder, change = self.subject(o["code"])
        self.parent(o["code"], item_holder)
        self.unretired(record, o)
        self.settled(record)
        demand(any(key["purpose"] == "transaction" for key in record.get("keys", ())), "unknown_key")
        due = self.height + self.parameters["recovery_delay"]
        keys = self.register_keys(o["code"], o["keys"], MANAGED[:1])
        self.standing(keys, due, 1)
        change(recovery={"due": str(due), "keys": keys})

    def end_recovery(self, o: Mapping[str, Any]) -> None:
        record, item_holder, change = self.subject(o["code"])
        if o["cancel"] and (self.signed(record) or self.counting(record, "recovery") & self.signers):
            self.charge_own(o["code"])
        else:
            self.parent(o["code"], item_holder)
        self.unretired(record, o)
        demand("recovery" in record, "no_recovery")
        if o["cancel"]:
            return change(recovery=None)
        demand(self.height >= int(record["recovery"]["due"]), "too_early")
        new = [key | {"from": str(max(int(key["from"]), self.height))} for key in record["recovery"]["keys"]]
        kept = [key for key in record["keys"] if key["purpose"] != "transaction"]
        return change(keys=self.sorted_keys(kept + new), threshold=None, recovery=None)

    def update_profile(self, o: Mapping[str, Any]) -> None:
        city, org, category, serial = parts(o["code"])
        demand(serial is None and (category or o.get("schema") is None), "unknown_code")
        record = self.existing(subject_key(o["code"]))
        self.as_holder(holder_of(city, org))
        self.unretired(record, o)
        fields = {name: o.get(name) or None for name in ("commitments", "services", "schema")}
        self.change(subject_key(o["code"]), record, **fields)

    # ------------------------------------------------------------ ranges (P12, P23, P48)

    def range_of(self, city: str, class_: str, serial: int) -> tuple[bytes, View] | None:
        million, thousand = place_of(city, class_, serial, 6), place_of(city, class_, serial, 7)
        key = thousand if self.records.get(million, {}).get("children") == "map" else million
        return (key, self.records[key]) if key in self.records else None

    def hold(self, key: bytes, holder: str) -> None:
        self.put(key, "million" if key[0] == 6 else "thousand", holder=holder, children="items")

    def count(self, holder: str, class_: str, size: int, *, within_quota: bool = False) -> None:
        city, org, *_ = parts(holder)
        if not org:
            return
        key = map_key(13, city, prefixed(org), class_)
        held = int(self.records.get(key, {"serials": 0})["serials"])
        demand(not within_quota or held + size <= int(self.records[subject_key(holder)]["quota"]), "over_quota")
        if key in self.records:
            self.change(key, self.records[key], serials=str(held + size))
        else:
            self.put(key, "holding", serials=str(size))

    def space(self, city: str, class_: str) -> dict[str, Any]:
        empty = {"next_million": 0, "open_million": None, "next_thousand": 0}
        return dict(self.records.get(map_key(5, city, class_), {"allocation": empty})["allocation"])

    def advance(self, city: str, class_: str, space: dict[str, Any]) -> None:
        while "holder" in self.records.get(place_of(city, class_, space["next_million"] * 1_000_000, 6), {}):
            space["next_million"] += 1

    def settle(self, city: str, class_: str, space: dict[str, Any]) -> None:
        self.advance(city, class_, space)
        key = map_key(5, city, class_)
        if key not in self.records:
            self.put(key, "class", allocation=space, children="map")
        elif self.records[key]["allocation"] != space:
            self.change(key, self.records[key], allocation=space)

    def allocate_range(self, o: Mapping[str, Any]) -> View:
        city, class_, size = o["city"], o["class"], o["size"]
        holder = holder_of(city, o.get("org"))
        self.as_holder(holder)
        self.count(holder, class_, size, within_quota=True)
        space = self.space(city, class_)
        if size == 1_000_000:
            base = space["next_million"] * size
            while place_of(city, class_, base, 6) in self.records:
                base += size
        else:
            base = self.next_thousand(city, class_, space)
        self.hold(place_of(city, class_, base, 6 if size == 1_000_000 else 7), holder)
        self.settle(city, class_, space)
        return {"base": base, "size": size}

    def next_thousand(self, city: str, class_: str, space: dict[str, Any]) -> int:
        while True:
            while space["open_million"] is not None and space["next_thousand"] < 1_000:
                base = int(space["open_million"] * 1_000_000 + space["next_thousand"] * 1_000)
                space["next_thousand"] += 1
                if place_of(city, class_, base, 7) not in self.records:
                    return base
            self.advance(city, class_, space)
            million = place_of(city, class_, space["next_million"] * 1_000_000, 6)
            if million not in self.records:
                self.put(million, "million", children="map")
            space["open_million"], space["next_thousand"] = space["next_million"], 0
            space["next_million"] += 1

    def reserve_range(self, o: Mapping[str, Any]) -> None:
        city, class_, base, size = o["city"], o["class"], o["base"], o["size"]
        holder = holder_of(city, o.get("org"))
        self.as_holder(holder_of(city, None))
        self.existing(subject_key(holder))
        self.active(holder)
        million, key = place_of(city, class_, base, 6), range_key(o)
        demand(
            self.records.get(million, {"children": "map"})["children"] == "map" and key not in self.records, "exists"
        )
        if size == 1_000 and million not in self.records:
            self.put(million, "million", children="map")
        self.hold(key, holder)
        self.count(holder, class_, size)
        self.settle(city, class_, self.space(city, class_))

    # ------------------------------------------------------------ categories and items (P24 to P27)

    def register_category(self, o: Mapping[str, Any]) -> None:
        holder = holder_of(o["city"], o.get("org"))
        self.as_holder(holder)
        key = subject_key(f"{holder}/{o['use']}.{o['class']}.{o['model']}")
        demand(key not in self.records, "exists")
        self.put(key, "category", name=o["name"], schema=o.get("schema"))

    def check_category(self, holder: str, o: Mapping[str, Any]) -> None:
        category = self.records.get(subject_key(f"{holder}/{o['use']}.{o['class']}.{o['model']}"))
        demand(category, "no_category")
        demand(category and category["status"] == "active", "suspended")

    def register_items(self, o: Mapping[str, Any]) -> None:
        city, class_ = o["city"], o["class"]
        holder = holder_of(city, o.get("org"))
        self.as_holder(holder)
        self.check_category(holder, o)
        for item in sorted(o["items"], key=lambda item: int(item["serial"])):
            around = self.range_of(city, class_, item["serial"])
            demand(around and around[1].get("holder") == holder, "not_in_range")
            assert around is not None
            demand(around[1]["children"] != "table", "sealed")
            demand(around[1]["status"] == "active", "suspended")
            if not around[1].get("used"):
                self.change(*around, used=True)
            self.new_item(holder, o, item)

    def new_item(self, holder: str, o: Mapping[str, Any], item: Mapping[str, Any]) -> None:
        key = place_of(o["city"], o["class"], item["serial"])
        demand(key not in self.records, "exists")
        code = item_code(holder, (o["use"], o["class"], o["model"]), item["serial"])
        profile = {name: item.get(name) or None for name in ("commitments", "services")}
        self.put(key, "item", code=code, **profile, status=item.get("status", "active"))

    def item(self, city: str, class_: str, serial: int, touched: bytes = b"") -> tuple[View, str, Callable[..., None]]:
        around, key = self.range_of(city, class_, serial), place_of(city, class_, serial)
        demand(around, "unknown_code")
        assert around is not None
        record, table = self.records.get(key), around[1].get("table")
        demand(table is None or (record and int(record["height"]) > int(table["height"])), "sealed")
        demand(record, "unknown_code")
        assert record is not None

        def change(**fields: Any) -> None:
            self.change(key, record, **fields)
            if (
                table is not None and around[0] != touched
            ):  # P46: the range has another version, so that an older seal is stale
                self.change(around[0], self.records[around[0]])

        return record, str(record.get("holder", around[1].get("holder"))), change

    def item_of(self, code: str) -> tuple[View, str, Callable[..., None]]:
        city, _, category, serial = parts(code)
        assert serial is not None
        found = self.item(city, category[1], serial)
        demand(found[0]["code"] == code, "unknown_code")
        return found

    def update_items(self, o: Mapping[str, Any]) -> None:
        touched = b""  # the items of one operation make one new version of their range
        for item in sorted(o["items"], key=lambda item: int(item["serial"])):
            record, holder, change = self.item(o["city"], o["class"], item["serial"], touched)
            self.as_holder(holder)
            self.unretired(record, item)
            change(**{name: item.get(name) or None for name in ("commitments", "services")})
            around = self.range_of(o["city"], o["class"], item["serial"])
            touched = around[0] if around else b""

    def set_status(self, o: Mapping[str, Any]) -> None:
        holder: str | None = None
        if "range" in o:
            key, city = range_key(o["range"]), o["range"]["city"]
            demand("holder" in self.records.get(key, {}), "unknown_code")
        else:
            key, (city, org, category, serial) = subject_key(o["code"]), parts(o["code"])
            demand(org or category, "not_authorised")
            holder = holder_of(city, org) if category else None
        change: Callable[..., None] = lambda **fields: self.change(key, record, **fields)  # noqa: E731
        if "code" in o and serial is not None:
            record, holder, change = self.item_of(o["code"])
        else:
            record = self.existing(key)
        registrar = self.administration(city)
        by_city = self.signed(self.records.get(subject_key(registrar)))
        if holder and not by_city:
            self.as_holder(holder)
        else:
            self.authorise(registrar)
        self.current(record, o)
        self.check_move(record, o["status"], by_city)
        change(**_status(o["status"], by_city))

    def check_move(self, record: View, status: str, by_city: bool) -> None:
        demand((record["status"], status) in MOVES, "bad_transition")
        demand(by_city or not record.get("status_by_city"), "not_authorised")

    # ------------------------------------------------------------ seals and overrides (P46, P47)

    def seal_range(self, o: Mapping[str, Any]) -> None:
        key, table = range_key(o["range"]), o["table"]
        record = self.records.get(key, {})
        demand("holder" in record, "not_in_range")
        self.as_holder(record["holder"])
        demand(record["status"] == "active", "suspended")
        self.current(record, o)
        before = record.get("table")
        demand(before is None or table["count"] >= before["count"], "bad_table")
        demand(len(o["receipts"]) >= self.parameters["receipts"], "too_few_receipts")
        for receipt in o["receipts"]:
            stated = (receipt["city"], key, o["expected_version"], table["root"], table["digest"], table["count"])
            member = self.records.get(map_key(2, receipt["city"]), {})
            demand(
                member.get("status") == "active" and self.statements.get(receipt["signature"]) == stated, "bad_receipt"
            )
        sealed = {name: table[name] for name in ("root", "digest", "count")} | {
            "depth": 20 if o["range"]["size"] == 1_000_000 else 10,
            "version": str(int(before["version"]) + 1 if before else 1),
            "height": str(self.height),
            "overrides": "1" if before is None and record.get("used") else "0",
        }
        self.change(key, record, children="table", table=sealed)

    def override_item(self, o: Mapping[str, Any]) -> None:
        city, class_, serial = o["city"], o["class"], o["serial"]
        holder = holder_of(city, o.get("org"))
        around, key = self.range_of(city, class_, serial), place_of(city, class_, serial)
        demand(around and "table" in around[1], "not_sealed")
        assert around is not None
        table, index = around[1]["table"], serial % (1_000_000 if around[0][0] == 6 else 1_000)
        proof = oracle.decode(bytes.fromhex(o["proof"]))
        demand(oracle.proven_table_root(table["depth"], index, proof).hex() == table["root"], "bad_proof")
        leaf = None if proof[1] is None else self.leaves[proof[1]]
        own = self.records.get(key)
        counted = own is not None and int(own["height"]) > int(table["height"])
        newer = leaf if own is None or (leaf and int(leaf["version"]) > int(own["version"])) else own
        if newer is None:
            demand(o["expected_version"] == 0, "unknown_code")
            demand(around[1].get("holder") == holder, "not_authorised")
            self.as_holder(holder)
            self.check_category(holder, o)
            demand(around[1]["status"] == "active", "suspended")
            demand(o["status"] in ("active", "allocated"), "bad_transition")
            self.new_item(holder, o, o)
        else:
            self.change_sealed(o, key, newer, str(newer.get("holder", around[1].get("holder"))))
        overrides = int(table["overrides"]) + (not counted)
        self.change(*around, table=table | {"overrides": str(overrides)})

    def change_sealed(self, o: Mapping[str, Any], key: bytes, record: View, holder: str) -> None:
        demand(o["expected_version"], "exists")
        issuer = holder_of(o["city"], o.get("org"))
        demand(record["code"] == item_code(issuer, (o["use"], o["class"], o["model"]), o["serial"]), "unknown_code")
        registrar, city = self.administration(o["city"]), holder_of(o["city"], None)
        profile = {name: o.get(name) or None for name in ("commitments", "services")}
        moves = record["status"] != o["status"]
        only_status = moves and all(record.get(name) == value for name, value in profile.items())
        by_city = (only_status or holder == city) and self.signed(self.records.get(subject_key(registrar)))
        if by_city and only_status:
            self.authorise(registrar)
        else:
            self.as_holder(holder)
        self.unretired(record, o)
        if moves:
            self.check_move(record, o["status"], by_city)
        self.change(key, record, **profile, **(_status(o["status"], by_city) if moves else {}))

    # ------------------------------------------------------------ adopted numbers (P49, P50)

    def register_aliases(self, o: Mapping[str, Any]) -> None:
        owner = "MA.156." + o["namespace"].split("/")[0]
        self.as_holder(owner)
        agreed = {owner}
        for alias in sorted(o["aliases"], key=lambda alias: (len(alias["alias"]), alias["alias"])):
            city, _, category, serial = parts(alias["code"])
            demand(serial is not None and city == parts(owner)[0], "unknown_code")
            assert serial is not None
            around = self.range_of(city, category[1], serial)
            demand(around, "not_in_range")
            assert around is not None
            demand(around[1]["status"] == "active", "suspended")
            if around[1]["holder"] not in agreed:
                self.as_holder(around[1]["holder"])
                agreed.add(around[1]["holder"])
            key = map_key(9, prefixed(o["namespace"]), alias["alias"])
            demand(key not in self.records, "exists")
            self.put(key, "alias", code=alias["code"])

    def map_district(self, o: Mapping[str, Any]) -> None:
        self.as_holder(holder_of(o["city"], None))
        key = map_key(14, o["district"])
        demand(map_key(2, o["district"]) not in self.records and key not in self.records, "exists")
        self.put(key, "district", administered_by=o["city"])

    # ------------------------------------------------------------ transfers (P56, P57)

    def asset(self, o: Mapping[str, Any]) -> tuple[View, str, Callable[..., None]]:
        if "code" in o:
            demand(parts(o["code"])[3] is not None, "unknown_code")
            return self.item_of(o["code"])
        key = range_key(o["range"])
        demand("holder" in self.records.get(key, {}), "unknown_code")
        record = self.records[key]
        return record, record["holder"], lambda **fields: self.change(key, record, **fields)

    def movable(self, record: View, holder: str, o: Mapping[str, Any]) -> None:
        self.unretired(record, o)
        demand(record["status"] != "suspended", "suspended")
        self.settled(record)
        self.settled(self.records.get(subject_key(holder)))

    def offer_transfer(self, o: Mapping[str, Any]) -> None:
        record, holder, change = self.asset(o)
        self.as_holder(holder)
        self.movable(record, holder, o)
        demand(o["to"] is None or subject_key(o["to"]) in self.records, "unknown_code")
        pinned: str | None = holder
        if "code" in o and o["to"] is None:
            city, _, category, serial = parts(o["code"])
            assert serial is not None
            around = self.range_of(city, category[1], serial)
            pinned = None if around and around[1]["holder"] == holder else holder
        change(offered_to=o["to"], holder=pinned)

    def accept_transfer(self, o: Mapping[str, Any]) -> None:
        record, holder, change = self.asset(o)
        demand("offered_to" in record, "not_offered")
        receiver = record["offered_to"]
        self.as_holder(receiver)
        self.movable(record, holder, o)
        self.settled(self.records.get(subject_key(receiver)))
        self.active(holder)
        if "range" in o:
            self.count(holder, o["range"]["class"], -o["range"]["size"])
            self.count(receiver, o["range"]["class"], o["range"]["size"], within_quota=True)
        change(holder=receiver, offered_to=None)


def _without_nothing(record: View) -> View:
    return {name: value for name, value in record.items() if value is not None and value is not False}


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _status(status: str, by_city: bool) -> View:
    """P27; what is retired has nothing left to recover or to hand over."""
    fields: View = {"status": status, "status_by_city": by_city and status != "active"}
    return fields | ({"recovery": None, "offered_to": None} if status == "retired" else {})
