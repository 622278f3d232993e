"""Which batches may be proposed, who is asked for what, and that every table has a bound."""

from cityid.node import pool as pool_module
from cityid.node.pool import Pool

A, B, C = b"a" * 32, b"b" * 32, b"c" * 32
SECOND = 1_000_000


def make_pool(max_author_bytes: int = 1_000) -> Pool:
    return Pool("1", ["2", "3", "4"], max_author_bytes=max_author_bytes)


def add(pool: Pool, digest: bytes, *, author: str = "1", size_bytes: int = 100, durable: bool = True) -> None:
    """A batch that is durable here; another city that made it has announced it too."""
    pool.add(digest, size_bytes=size_bytes, transactions=1, author=author, now_us=0)
    if durable:
        pool.make_durable(digest)
        if author != "1":
            pool.announce(author, [digest], now_us=0)


def test_a_batch_needs_two_of_four_durable_holders() -> None:
    pool = make_pool()
    add(pool, A)
    assert pool.proposable(max_bytes=1_000, max_batches=9) == []
    pool.announce("2", [A], now_us=0)
    assert pool.proposable(max_bytes=1_000, max_batches=9) == [A]


def test_others_do_not_make_up_for_this_node() -> None:
    pool = make_pool()
    add(pool, A, durable=False)
    for peer in ("2", "3", "4"):
        pool.announce(peer, [A], now_us=0)
    assert pool.proposable(max_bytes=1_000, max_batches=9) == []
    assert not pool.is_durable(A)


def test_the_author_of_a_batch_counts_only_once_it_says_that_it_is_durable() -> None:
    pool = make_pool()
    pool.add(A, size_bytes=100, transactions=1, author="3", now_us=0)
    pool.make_durable(A)
    assert not pool.has_proposable()
    pool.announce("3", [A], now_us=0)
    assert pool.has_proposable()


def test_a_block_is_bounded_in_bytes_and_batches() -> None:
    pool = make_pool()
    for digest in (A, B, C):
        add(pool, digest, author="2")
    assert pool.proposable(max_bytes=250, max_batches=9) == [A, B]
    assert pool.proposable(max_bytes=1_000, max_batches=1) == [A]


def test_a_client_waits_until_its_batches_are_safe() -> None:
    pool = make_pool()
    add(pool, A)
    add(pool, B, author="2")
    pool.expect(7, [A, B])
    assert pool.acknowledged() == []
    pool.announce("3", [A], now_us=0)
    assert pool.acknowledged() == [7]
    assert pool.acknowledged() == []


def test_a_committed_batch_is_safe() -> None:
    pool = make_pool()
    add(pool, A)
    pool.expect(7, [A])
    pool.remove([A])
    assert pool.acknowledged() == [7]
    assert not pool.is_news(A)


def test_a_client_follows_its_transactions_into_another_batch() -> None:
    pool = make_pool()
    add(pool, A)
    pool.expect(7, [A])
    pool.replace(A, [B])
    pool.remove([A])
    assert pool.acknowledged() == []
    add(pool, B, author="2")
    assert pool.acknowledged() == [7]


def test_an_author_has_a_quota_and_gets_it_back() -> None:
    pool = make_pool(max_author_bytes=250)
    add(pool, A, author="2")
    add(pool, B, author="2")
    assert not pool.has_room("2", 100)
    assert pool.has_room("3", 100)
    pool.remove([A])
    assert pool.has_room("2", 100)


def test_a_needed_batch_is_asked_for_at_once_and_then_from_everybody() -> None:
    pool = make_pool()
    pool.need("3", [A], now_us=0)
    assert pool.is_needed(A)
    asked = [pool.fetches(now_us=second * SECOND, patience_us=0, limit=9) for second in range(4)]
    assert asked == [{"3": [A]}, {"2": [A]}, {"4": [A]}, {"3": [A]}]
    assert pool.fetches(now_us=3 * SECOND + 1, patience_us=0, limit=9) == {}


def test_a_batch_heard_of_is_asked_for_after_a_while_from_its_holders() -> None:
    pool = make_pool()
    pool.announce("4", [A], now_us=0)
    assert pool.fetches(now_us=10, patience_us=100, limit=9) == {}
    assert pool.fetches(now_us=100, patience_us=100, limit=9) == {"4": [A]}
    add(pool, A, author="4")
    assert not pool.is_fetching


def test_a_city_that_announces_what_nobody_has_takes_no_room_from_others() -> None:
    pool = make_pool()
    pool.announce("2", [bytes([number % 256]) * 31 + bytes([number // 256]) for number in range(6_000)], now_us=0)
    assert pool.fetches(now_us=SECOND, patience_us=0, limit=10**6).keys() == {"2"}
    pool.announce("3", [A], now_us=SECOND)
    assert pool.fetches(now_us=2 * SECOND, patience_us=0, limit=10**6)["3"] == [A]


def test_what_does_not_come_is_forgotten_and_heard_of_again() -> None:
    pool = make_pool()
    pool.announce("2", [A], now_us=0)
    asked = sum(bool(pool.fetches(now_us=second * SECOND, patience_us=0, limit=9)) for second in range(1, 30))
    assert asked == pool_module.MAX_ASKS
    assert not pool.is_fetching
    pool.announce("2", [A], now_us=30 * SECOND)
    assert pool.fetches(now_us=31 * SECOND, patience_us=0, limit=9) == {"2": [A]}


def test_what_a_signed_proposal_needs_is_asked_for_until_the_height_is_over() -> None:
    pool = make_pool()
    pool.announce("2", [A], now_us=0)
    pool.need("3", [A], now_us=0)
    asked = sum(bool(pool.fetches(now_us=second * SECOND, patience_us=0, limit=9)) for second in range(1, 30))
    assert asked == 29
    pool.forget_needs()
    assert not pool.is_fetching


def test_tables_are_bounded() -> None:
    pool = make_pool()
    many = [number.to_bytes(32, "big") for number in range(pool_module.MAX_HEARD + 10)]
    pool.announce("2", many, now_us=0)
    asked = pool.fetches(now_us=SECOND, patience_us=0, limit=10**6)
    assert len(asked["2"]) == pool_module.MAX_HEARD // 3
    pool.remove(number.to_bytes(32, "big") for number in range(pool_module.MAX_GONE + 10))
    assert pool.is_news(many[0])
    assert not pool.is_news((pool_module.MAX_GONE + 9).to_bytes(32, "big"))
