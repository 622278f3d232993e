"""The judge of client histories: right ones pass, and each thing that clients must never see is found and named.

The wrong histories are made from a right one by changing what somebody was told, as a wrong network would.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cityid.testing import Violation
from cityid.testing.consistency import check, judge
from cityid.testing.histories import Call, Decided, Failed, History, Look, Outcome, Read, Saw, Unknown, Write

ROOTS = {height: f"root {height}" for height in range(100)}


class Bench:
    """Writes down calls, one after the other or at once, by a clock that ticks."""

    def __init__(self) -> None:
        self.now = 0.0
        self.history = History(self._tick)

    def _tick(self) -> float:
        self.now += 1
        return self.now

    def did(self, client: str, question: Write | Read | Look, outcome: Outcome | None) -> Call:
        call = self.history.begin(client, question)
        if outcome is not None:
            self.history.end(call, outcome)
        return call


def write(id: str, expected: int, value: str, key: str = "K") -> Write:
    return Write(key, id, expected, {"value": value})


def saw(height: int, version: int, changed: int, value: str) -> Saw:
    return Saw(height, ROOTS[height], version, changed, {"value": value} if version else {})


def right() -> Bench:
    """Two writers race for version 2; a reader sees each version; everybody is told the same at the end."""
    bench = Bench()
    bench.did("reader", Read("K"), saw(1, 0, 0, ""))
    bench.history.acknowledge(bench.did("a", write("w1", 0, "one"), Decided(2)))
    bench.did("reader", Read("K", 2), saw(2, 1, 2, "one"))
    first = bench.history.begin("a", write("w2", 1, "two"))
    second = bench.history.begin("b", write("w3", 1, "other"))
    bench.history.acknowledge(first)
    bench.history.end(first, Decided(4))
    bench.history.end(second, Decided(4, "stale_version"))
    bench.did("reader", Read("K", 4), saw(5, 2, 4, "two"))
    bench.did("b", write("w4", 2, "three"), Unknown("no reply"))
    bench.did("reader", Read("K"), saw(8, 3, 7, "three"))
    for city in ("city-1", "city-2"):
        for id, outcome in (("w1", Decided(2)), ("w2", Decided(4)), ("w3", Decided(4, "stale_version"))):
            bench.did(city, Look(id), outcome)
    return bench


def test_a_right_history_passes_and_is_counted() -> None:
    report = check(right().history)
    assert (report.committed, report.rejected, report.unknown, report.reads, report.keys) == (2, 1, 1, 4, 1)


def test_an_empty_history_shows_nothing() -> None:
    report = check(Bench().history)
    assert (report.committed, report.reads) == (0, 0)


# ---------------------------------------------------------------- what must be found


def tell(bench: Bench, number: int, **changes: Any) -> None:
    """Somebody was told something else."""
    call = bench.history.calls[number]
    assert call.outcome is not None
    call.outcome = replace(call.outcome, **changes)


def lose_an_update(bench: Bench) -> None:
    for call in bench.history.calls:
        if isinstance(call.question, Write | Look) and call.question.id == "w3":
            call.outcome = Decided(5)


def execute_twice(bench: Bench) -> None:
    bench.did("city-3", Look("w1"), Decided(6))


def execute_twice_with_two_ends(bench: Bench) -> None:
    bench.did("city-3", Look("w2"), Decided(4, "stale_version"))


def show_the_past_as_present(bench: Bench) -> None:
    bench.did("late", Read("K", 8), saw(9, 2, 4, "two"))


def answer_below_what_was_asked(bench: Bench) -> None:
    bench.did("late", Read("K", 8), saw(5, 2, 4, "two"))


def go_back(bench: Bench) -> None:
    bench.did("reader", Read("K"), saw(5, 2, 4, "two"))


def fork_a_height(bench: Bench) -> None:
    bench.did("late", Read("K"), replace(saw(8, 3, 7, "three"), root="another root"))


def fork_a_version(bench: Bench) -> None:
    bench.did("late", Read("K"), saw(9, 3, 7, "else"))


def move_a_version(bench: Bench) -> None:
    bench.did("late", Read("K"), saw(9, 3, 6, "three"))


def forget_what_was_acknowledged(bench: Bench) -> None:
    for call in bench.history.calls:
        if isinstance(call.question, Write | Look) and call.question.id == "w2":
            call.outcome = Unknown("it has no receipt")


def carry_out_what_was_refused(bench: Bench) -> None:
    refused = bench.did("c", write("w5", 3, "four"), Failed("bad_signature"))
    assert refused.ended is not None
    bench.did("late", Read("K"), saw(9, 4, 9, "four"))


def include_what_was_refused(bench: Bench) -> None:
    bench.did("c", write("w5", 3, "four"), Failed("bad_signature"))
    bench.did("city-1", Look("w5"), Decided(9))


def make_it_up(bench: Bench) -> None:
    bench.did("late", Read("K"), saw(9, 5, 9, "five"))


def mix_the_content(bench: Bench) -> None:
    tell(bench, 5, fields={"value": "one"})


def refuse_without_need(bench: Bench) -> None:
    bench.did("c", write("w5", 3, "four"), Decided(9, "stale_version"))
    bench.did("late", Read("K"), saw(10, 3, 7, "three"))
    for call in bench.history.calls:  # with nothing open about the key
        if isinstance(call.question, Write) and call.question.id == "w4":
            call.outcome = Decided(7)


def decide_before_it_was_sent(bench: Bench) -> None:
    bench.did("c", write("w6", 0, "x", key="L"), Decided(3))


def show_it_before_it_was_written(bench: Bench) -> None:
    bench.did("late", Read("L"), saw(9, 1, 9, "x"))
    bench.did("c", write("w6", 0, "x", key="L"), Unknown("no reply"))


def show_what_is_above_the_header(bench: Bench) -> None:
    bench.did("c", write("w6", 0, "x", key="L"), Unknown("no reply"))
    bench.did("late", Read("L"), saw(9, 1, 12, "x"))


def deny_what_is_there(bench: Bench) -> None:
    bench.did("late", Read("K"), saw(9, 0, 0, ""))


def do_two_things_at_once(bench: Bench) -> None:
    bench.history.begin("a", Read("K"))
    bench.history.begin("a", Read("K"))


def turn_the_order_round(bench: Bench) -> None:
    bench.did("c", write("w6", 0, "x", key="L"), Unknown("no reply"))
    bench.did("c", write("w7", 1, "y", key="L"), Unknown("no reply"))
    bench.did("late", Read("L"), saw(20, 1, 15, "x"))
    bench.did("later", Read("L"), saw(20, 2, 12, "y"))


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (lose_an_update, "an update is lost, version 2"),
        (execute_twice, "w1 was executed twice: height 2 and height 6"),
        (execute_twice_with_two_ends, "w2 was executed twice: height 4 and height 4 as stale_version"),
        (show_the_past_as_present, "stale: late was shown version 2 at height 9"),
        (answer_below_what_was_asked, "from height 8 on and was answered of height 5"),
        (go_back, "reader went back"),
        (fork_a_height, "height 8 has two state roots"),
        (fork_a_version, "version 3 has two contents"),
        (move_a_version, "version 3 was made at height 7 and, says a record, at 6"),
        (forget_what_was_acknowledged, "w2 was acknowledged to a, and is lost"),
        (carry_out_what_was_refused, "nobody made version 4; w5, which would have, was refused"),
        (include_what_was_refused, "w5 was refused, and is in the block of height 9"),
        (make_it_up, "nobody made version 4"),
        (mix_the_content, "version 2 shows {'value': 'one'}, and what was written gives {'value': 'two'}"),
        (refuse_without_need, "w5 was stale_version at height 9"),
        (decide_before_it_was_sent, "w6 is in height 3, and began when a client knew of 8"),
        (show_it_before_it_was_written, "late saw version 1 before anybody wrote it"),
        (show_what_is_above_the_header, "an answer of height 9 shows what was made at 12"),
        (deny_what_is_there, "stale: late was shown version 0 at height 9"),
        (do_two_things_at_once, "a does two things at once"),
        (turn_the_order_round, "version 2 was made at 12, below the one before"),
    ],
)
def test_what_clients_must_never_see_is_found(damage: Callable[[Bench], None], finding: str) -> None:
    bench = right()
    damage(bench)
    assert any(finding in found for found in judge(bench.history).findings), judge(bench.history).findings
    with pytest.raises(Violation, match="must never see"):
        check(bench.history)


# ---------------------------------------------------------------- unknown ends


@pytest.mark.parametrize("happened", [True, False])
def test_a_write_without_a_reply_may_have_happened_or_not(happened: bool) -> None:
    bench = Bench()
    bench.did("a", write("w1", 0, "one"), Decided(2))
    bench.did("a", write("w2", 1, "two"), Unknown("no reply"))
    bench.did("b", Read("K"), saw(5, 2, 4, "two") if happened else saw(5, 1, 2, "one"))
    report = check(bench.history)
    assert (report.committed, report.unknown) == (1, 1)


def test_of_two_writes_without_a_reply_the_readers_tell_which_happened() -> None:
    bench = Bench()
    bench.did("a", write("w1", 0, "one"), Decided(2))
    bench.did("a", write("w2", 1, "two"), Unknown("no reply"))
    bench.did("b", write("w3", 1, "other"), Unknown("no reply"))
    bench.did("c", write("w4", 2, "four"), Decided(6))
    bench.did("d", Read("K"), saw(5, 2, 4, "other"))
    check(bench.history)
    bench.did("e", Read("K"), saw(5, 2, 4, "two"))
    assert any("two contents" in found for found in judge(bench.history).findings)


# ---------------------------------------------------------------- many histories


def play(random: Random, calls: int) -> Bench:
    """What concurrent clients of a right network would record: one order of blocks, replies that may be lost."""
    bench = Bench()
    state: dict[str, list[tuple[int, str]]] = {key: [] for key in "KLM"}  # (height, value) of each version
    height, number = 1, 0
    waiting: list[tuple[Call, Write]] = []
    idle = [f"client {index}" for index in range(4)]
    for _ in range(calls):
        match random.choice(("write", "write", "read", "block")):
            case "write" if idle:
                number += 1
                key = random.choice("KLM")
                expected = max(0, len(state[key]) + random.choice((0, 0, 0, -1, 1)))
                question = write(f"w{number}", expected, f"value {number}", key)
                waiting.append((bench.history.begin(idle.pop(), question), question))
            case "read" if idle:
                key, at = random.choice("KLM"), height
                shown = [one for one in state[key] if one[0] <= at]
                changed, value = shown[-1] if shown else (0, "")
                bench.did(idle[0], Read(key), saw(at, len(shown), changed, value))
            case "block" if waiting and height < 99:
                height += 1
                for call, question in random.sample(waiting, random.randint(0, len(waiting))):
                    waiting.remove((call, question))
                    idle.append(call.client)
                    fits = len(state[question.key]) == question.expected
                    if fits:
                        state[question.key].append((height, question.sets["value"]))
                    outcome: Outcome = Decided(height, None if fits else "stale_version")
                    bench.history.end(call, outcome if random.random() < 0.8 else Unknown("no reply"))
            case _:
                pass
    for key in "KLM":
        changed, value = state[key][-1] if state[key] else (0, "")
        bench.did("last", Read(key), saw(height, len(state[key]), changed, value))
    return bench


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), calls=st.integers(0, 80))
def test_every_history_of_a_right_network_passes(seed: int, calls: int) -> None:
    report = judge(play(Random(seed), calls).history)
    assert not report.findings


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_version_that_a_reader_saw_differently_is_always_found(seed: int) -> None:
    random = Random(seed)
    bench = play(random, 80)
    seen = [call for call in bench.history.calls if isinstance(call.outcome, Saw) and call.outcome.version]
    if not seen:
        return
    call = random.choice(seen)
    assert isinstance(call.outcome, Saw)
    before = call.outcome
    call.outcome = random.choice(
        (
            replace(before, fields={"value": "of nobody"}),
            replace(before, changed=before.height + 1),
            replace(before, version=before.version + 1),
        )
    )
    assert judge(bench.history).findings


def test_a_recording_is_kept_for_people(tmp_path: Path) -> None:
    right().history.save(tmp_path / "history.jsonl")
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert len(lines) == len(right().history.calls)
    assert '"Saw"' in lines[0]
