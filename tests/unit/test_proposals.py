"""What a city proposes: the oldest batches within its bounds, and in a later round what was executed already."""

from tests.unit.test_batches import Desk

from cityid.node.heights import Height, next_height
from cityid.node.outbox import Outbox
from cityid.node.ports import Now, PendingProposal, Settings
from cityid.node.proposals import Proposals

NOW = Now(0, 1_790_000_000_000)


class ProposingDesk(Desk):
    """A desk whose batches every city holds, and the proposals of its city."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        parameters = self.simulation.genesis.parameters()
        self.proposals = Proposals(
            self.ledger, Outbox(), self.batches, city=self.city, parameters=parameters, settings=settings
        )

    def hold(self, number: int) -> bytes:
        """A batch with one transaction, held by all; its digest."""
        category = {"op": "register_category", "city": self.city, "use": "10", "class": "010203", "model": str(number)}
        _, data = self.simulation.build(self.city, [category | {"name": "Lamp"}])
        assert self.ledger.admit(data)[0][1] is None
        batch = self.ledger.seal(1, 1 << 20)
        assert batch is not None
        digest, body = batch
        self.batches.pool.add(digest, size_bytes=len(body), transactions=1, author=self.city, now_us=0)
        self.batches.pool.make_durable(digest)
        for peer in self.peers:
            self.batches.pool.announce(peer, [digest], now_us=0)
        return digest

    def build(self, height: Height, round_: int) -> PendingProposal:
        now = Now(round_, NOW.wall_ms + round_)
        body = self.proposals.build(height, round_, since_us=0, tip_time_ms=self.ledger.time_ms, now=now)
        assert body is not None
        return body


def test_a_later_round_proposes_what_was_executed_and_executes_nothing() -> None:
    desk = ProposingDesk(Settings())
    first = desk.hold(1)
    height = next_height(desk.ledger)
    one = desk.build(height, 0)
    second = desk.hold(2)
    two = desk.build(height, 1)
    assert (one.digests, two.digests) == (first, first)
    assert one.value != two.value
    assert desk.ledger.counters()["executions"] == 1
    # The control: where nothing was executed yet, all that waits is proposed.
    assert desk.build(next_height(desk.ledger), 0).digests == first + second
    assert desk.ledger.counters()["executions"] == 2


def test_an_empty_block_that_failed_is_not_proposed_again() -> None:
    desk = ProposingDesk(Settings(empty_wait_ms=0))
    height = next_height(desk.ledger)
    assert desk.build(height, 0).digests == b""
    digest = desk.hold(1)
    assert desk.build(height, 1).digests == digest


def test_a_block_holds_so_many_items_and_the_rest_waits() -> None:
    desk = ProposingDesk(Settings(block_items=2))
    digests = [desk.hold(number) for number in range(3)]
    assert desk.build(next_height(desk.ledger), 0).digests == b"".join(digests[:2])
