"""Persist, sync, send: nothing overtakes what it follows from."""

from cityid.node.messages import STATUS
from cityid.node.outbox import Outbox
from cityid.node.ports import AppendVotes, Effect, Send, WriteStore


def published(effects: list[Effect]) -> list[bytes]:
    return [effect.payload for effect in effects if isinstance(effect, Send)]


def test_a_message_waits_for_the_entries_before_it() -> None:
    out = Outbox()
    out.log_vote(b"entry")
    out.publish(b"vote")
    out.close_votes(7)
    append, *rest = out.drain()
    assert append == AppendVotes(1, 7, (b"entry",))
    assert rest == []
    out.on_durable(1)
    assert published(out.drain()) == [b"vote"]


def test_a_repeated_message_waits_for_earlier_entries_too() -> None:
    out = Outbox()
    out.log_vote(b"entry")
    out.close_votes(1)
    out.publish(b"again")
    out.close_votes(1)
    assert published(out.drain()) == []
    out.on_durable(1)
    out.publish(b"later")
    out.close_votes(1)
    assert published(out.drain()) == [b"again", b"later"]


def test_durable_entries_release_only_what_followed_them() -> None:
    out = Outbox()
    for name in (b"1", b"2", b"3"):
        out.log_vote(name)
        out.publish(name)
        out.close_votes(1)
    out.drain()
    out.on_durable(2)
    assert published(out.drain()) == [b"1", b"2"]
    out.on_durable(3)
    assert published(out.drain()) == [b"3"]


def test_the_two_lanes_do_not_wait_for_each_other() -> None:
    out = Outbox()
    done: list[str] = []
    out.log_vote(b"entry")
    out.publish(b"vote")
    out.close_votes(1)
    out.write(lambda: done.append("stored"), forget=(b"x",))
    append, write = out.drain()
    assert isinstance(append, AppendVotes)
    assert isinstance(write, WriteStore)
    out.on_durable(write.token)
    assert done == ["stored"]
    assert published(out.drain()) == []
    out.on_durable(append.token)
    assert published(out.drain()) == [b"vote"]


def test_other_frames_leave_at_once() -> None:
    out = Outbox()
    out.log_vote(b"entry")
    out.close_votes(1)
    out.send(None, STATUS, b"status")
    assert published(out.drain()) == [b"status"]
