"""Batches between clients, peers and the ledger: what two cities were sent, and what comes too early or too late."""

from typing import Any

import pytest

from cityid import Ledger
from cityid.node.batches import Batches, batch_digest
from cityid.node.messages import BATCH
from cityid.node.outbox import Outbox
from cityid.node.ports import Acknowledged, Now, Send, Settings, Verify, WriteStore
from cityid.testing import Simulation

NOW = Now(0, 1_790_000_000_000)


class Desk:
    """A city's batches on a ledger of their own, and transactions for them."""

    def __init__(self) -> None:
        self.simulation = Simulation(cities=4, seed=1)
        self.ledger = Ledger(self.simulation.genesis)
        self.out = Outbox()
        self.city, *self.peers = self.simulation.cities
        self.batches = Batches(
            self.ledger,
            self.out,
            city=self.city,
            peers=self.peers,
            settings=Settings(),
            parameters=self.simulation.genesis.parameters(),
        )

    def transaction(self, *, valid_for: int = 1_000) -> bytes:
        category = {"op": "register_category", "city": self.city, "use": "10", "class": "010203", "model": "0"}
        return self.simulation.build(self.city, [category | {"name": "Lamp"}], valid_for=valid_for)[1]

    def effects(self, kind: type[Any]) -> list[Any]:
        return [effect for effect in self.out.drain() if isinstance(effect, kind)]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def body_of(*transactions: bytes) -> bytes:
    return bytes([0x80 + len(transactions)]) + b"".join(transactions)


def test_what_another_city_got_into_a_block_first_is_acknowledged_and_not_spread(desk: Desk) -> None:
    data = desk.transaction()
    desk.batches.submit(7, data, NOW)
    # The same bytes were sent to another city, whose batch of one is decided before this one is sealed.
    desk.batches.on_committed([batch_digest(body_of(data))])
    desk.out.drain()
    desk.batches.seal(NOW)
    effects = desk.out.drain()
    assert [effect for effect in effects if isinstance(effect, Acknowledged)] == [Acknowledged(7)]
    assert not [effect for effect in effects if isinstance(effect, Send | WriteStore)]
    assert desk.ledger.pool_size() == (0, 0)


def test_control_what_nobody_has_is_spread_and_waits_for_holders(desk: Desk) -> None:
    data = desk.transaction()
    desk.batches.submit(7, data, NOW)
    desk.out.drain()
    desk.batches.seal(NOW)
    effects = desk.out.drain()
    assert [effect.kind for effect in effects if isinstance(effect, Send)] == [BATCH]
    assert not [effect for effect in effects if isinstance(effect, Acknowledged)]


def test_a_batch_that_a_proposal_needs_is_taken_although_it_was_gone(desk: Desk) -> None:
    body = body_of(desk.transaction())
    digest = batch_digest(body)
    desk.batches.on_committed([digest])
    desk.batches.on_batch(desk.peers[0], body, NOW)
    desk.batches.flush()
    assert desk.effects(Verify) == [], "nobody needs it"
    desk.batches.need(desk.peers[0], [digest], NOW)
    desk.batches.on_batch(desk.peers[0], body, NOW)
    desk.batches.flush()
    assert desk.effects(Verify) == [Verify((body,))]


def test_only_what_has_expired_is_sealed_anew(desk: Desk) -> None:
    last = desk.simulation.genesis.parameters()["window"] + 5
    ((digest, count, error),) = desk.ledger.ingest([body_of(desk.transaction(valid_for=last))])
    assert (count, error) == (1, None)
    includable = [height for height in range(1, last + 3) if desk.ledger.includable(digest, height)]
    expired = [height for height in range(1, last + 3) if desk.ledger.expired(digest, height)]
    assert includable == list(range(6, last + 1))
    assert expired == [last + 1, last + 2]
    # At height 1 its time has not come: a city that is behind keeps it.
    assert not desk.batches.tidy([digest], 1, NOW)
    assert not desk.batches.tidy([digest], last, NOW)
    assert desk.batches.tidy([digest], last + 1, NOW)
    assert desk.ledger.batch(digest) is None
