"""Turns: read all, decide, record, and only then answer; each user has its share, and nobody else waits for a flood."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from select import EPOLLIN, EPOLLOUT
from typing import TYPE_CHECKING, Any

import pytest

from featurekeyd.daemon import limits
from featurekeyd.daemon.turns import Share, Turns

if TYPE_CHECKING:
    from tests.daemon.conftest import House


class Answering:
    """A connection that has something to send."""

    def __init__(self, acts: list[str], name: str) -> None:
        self._acts = acts
        self._name = name

    def send(self) -> None:
        self._acts.append(f"{self._name} answered")


class Woken:
    """A stream that counts what it is woken for."""

    def __init__(self) -> None:
        self.events: list[int] = []

    def ready(self, events: int) -> None:
        self.events.append(events)


class Bench:
    """Turns whose settling is noted among the acts."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.acts: list[str] = []
        self.failures: list[Exception] = []
        self.settled: Callable[[], None] = lambda: None
        self.turns = Turns(loop, self._settle, self.failures.append)

    def _settle(self) -> None:
        self.acts.append("settled")
        self.settled()

    def does(self, name: str, calls: int = 1, answers: bool = True) -> Callable[[], None]:
        """Work that counts as so many calls and has an answer."""

        def work() -> None:
            self.acts.append(name)
            self.turns.calls += calls
            if answers:
                self.turns.answer(Answering(self.acts, name))

        return work

    def queue(self, share: Share, *names: str, calls: int = 1) -> None:
        for name in names:
            self.turns.queue(share, self.does(name, calls))


@pytest.fixture
def bench(house: House) -> Iterator[Bench]:
    opened = Bench(house.loop)
    yield opened
    opened.turns.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


# Order


def test_answers_leave_after_all_work_of_their_user_is_done_and_settled(bench: Bench) -> None:
    bench.queue(bench.turns.join(1), "a", "b", "c")
    assert bench.acts == []
    bench.loop.turn()
    assert bench.acts == ["a", "b", "c", "settled", "a answered", "b answered", "c answered"]


def test_the_user_who_wants_least_is_served_first_and_waits_for_nobody(bench: Bench) -> None:
    bench.queue(bench.turns.join(1), "a", "b")
    bench.queue(bench.turns.join(2), "c")
    bench.loop.turn()
    assert bench.acts == ["c", "settled", "c answered", "a", "b", "settled", "a answered", "b answered"]


def test_an_answer_outside_a_turn_is_settled_before_it_leaves_at_once(bench: Bench) -> None:
    bench.turns.answer(Answering(bench.acts, "late"))
    assert bench.acts == ["settled", "late answered"]


def test_what_settling_tells_leaves_with_the_turn_and_is_not_settled_for_itself(bench: Bench) -> None:
    bench.settled = lambda: bench.turns.answer(Answering(bench.acts, "event"))
    bench.queue(bench.turns.join(1), "a")
    bench.loop.turn()
    assert bench.acts == ["a", "settled", "a answered", "event answered"]


def test_an_answer_that_is_given_while_answers_leave_is_settled_too(bench: Bench) -> None:
    class Again(Answering):
        def send(self) -> None:
            super().send()
            bench.turns.answer(Answering(bench.acts, "second"))

    bench.turns.answer(Again(bench.acts, "first"))
    assert bench.acts == ["settled", "first answered", "settled", "second answered"]


def test_work_that_queues_work_has_it_done_in_its_share(bench: Bench) -> None:
    share = bench.turns.join(1)
    bench.turns.queue(share, lambda: bench.queue(share, "next"))
    bench.loop.turn()
    assert bench.acts == ["next", "settled", "next answered"]


# Shares


def test_a_flood_of_one_user_leaves_another_users_call_in_the_same_turn(bench: Bench) -> None:
    flood, other = bench.turns.join(1), bench.turns.join(2)
    bench.queue(flood, *[f"flood {number}" for number in range(10 * limits.CALLS_OF_TURN)])
    bench.queue(other, "call")
    bench.loop.turn()
    assert bench.acts.count("call answered") == 1
    assert bench.acts[0] == "call"
    served = limits.CALLS_OF_TURN // 2
    assert sum(act.startswith("flood") and act.endswith("answered") for act in bench.acts) == served
    bench.loop.turn()
    served += limits.CALLS_OF_TURN
    assert sum(act.startswith("flood") and act.endswith("answered") for act in bench.acts) == served


def test_a_user_of_many_connections_has_one_share(bench: Bench) -> None:
    shares = [bench.turns.join(1) for _ in range(100)]
    assert len(set(map(id, shares))) == 1
    for share in shares[:-1]:
        bench.turns.leave(share)
    assert bench.turns.join(1) is shares[0]
    for _ in range(2):
        bench.turns.leave(shares[0])
    assert bench.turns._shares == {}


def test_work_that_counts_for_many_calls_ends_the_share_of_its_user(bench: Bench) -> None:
    share = bench.turns.join(1)
    bench.queue(share, "a", "b", calls=limits.CALLS_OF_TURN)
    bench.loop.turn()
    assert bench.acts == ["a", "settled", "a answered"]
    bench.loop.turn()
    assert bench.acts[3:] == ["b", "settled", "b answered"]


def test_what_is_left_over_is_done_without_anything_more_coming(bench: Bench) -> None:
    bench.queue(bench.turns.join(1), *[f"{number}" for number in range(5 * limits.CALLS_OF_TURN)])
    bench.loop.turn(5)
    assert sum(act.endswith("answered") for act in bench.acts) == 5 * limits.CALLS_OF_TURN
    done = len(bench.acts)
    bench.loop.turn(5)
    assert len(bench.acts) == done, "an idle daemon has no turns"


def test_a_bug_in_one_connection_holds_no_other_up(bench: Bench) -> None:
    def breaks() -> None:
        raise ZeroDivisionError

    one, two = bench.turns.join(1), bench.turns.join(2)
    bench.turns.queue(one, breaks)
    bench.queue(one, "same user")
    bench.queue(two, "other user")
    bench.loop.turn()
    assert [type(failure) for failure in bench.failures] == [ZeroDivisionError]
    assert {"same user answered", "other user answered"} <= set(bench.acts)


def test_settling_that_meets_a_bug_keeps_no_answer_back_and_no_turn_after_it(bench: Bench) -> None:
    def breaks() -> None:
        bench.settled = lambda: None
        raise ZeroDivisionError

    bench.settled = breaks
    share = bench.turns.join(1)
    bench.queue(share, "a")
    bench.loop.turn()
    assert not bench.turns.running
    bench.queue(share, "b")
    bench.loop.turn()
    assert bench.acts == ["a", "settled", "a answered", "b", "settled", "b answered"]
    assert [type(failure) for failure in bench.failures] == [ZeroDivisionError]


def test_a_connection_that_cannot_send_keeps_nobody_elses_answer_back(bench: Bench) -> None:
    class Broken:
        def send(self) -> None:
            raise ZeroDivisionError

    share = bench.turns.join(1)
    bench.turns.queue(share, lambda: bench.turns.answer(Broken()))
    bench.queue(share, "a")
    bench.loop.turn()
    assert bench.acts == ["a", "settled", "a answered"]
    assert [type(failure) for failure in bench.failures] == [ZeroDivisionError]


# Sockets


def test_a_socket_wakes_its_stream_for_what_is_watched_and_nothing_else(
    bench: Bench, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    woken, number = Woken(), theirs.fileno()
    bench.turns.watch(number, woken, EPOLLIN)
    bench.loop.turn()
    assert woken.events == []
    ours.send(b"x")
    bench.loop.turn()
    assert woken.events == [EPOLLIN]
    bench.turns.watch(number, woken, EPOLLOUT)
    bench.loop.turn()
    assert woken.events == [EPOLLIN, EPOLLOUT]
    bench.turns.watch(number, woken, 0)
    bench.turns.forget(number)
    bench.loop.turn(3)
    assert woken.events == [EPOLLIN, EPOLLOUT]
    assert bench.turns._streams == {}


def test_a_stream_that_another_one_ends_in_the_same_turn_is_woken_no_more(bench: Bench) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    numbers = [theirs.fileno() for _, theirs in pairs]
    woken: list[int] = []

    class Ending:
        def __init__(self, own: int) -> None:
            self._own = own

        def ready(self, _: int) -> None:
            woken.append(self._own)
            for number in numbers:
                bench.turns.forget(number)

    for number in numbers:
        bench.turns.watch(number, Ending(number), EPOLLIN)
    for ours, _ in pairs:
        ours.send(b"x")
    bench.loop.turn(2)
    assert len(woken) == 1
    assert bench.acts[-1] == "settled"
    for both in pairs:
        for end in both:
            end.close()


def test_after_the_end_nothing_is_served_and_ending_twice_does_no_harm(
    bench: Bench, pair: tuple[socket.socket, socket.socket]
) -> None:
    woken = Woken()
    bench.turns.watch(pair[1].fileno(), woken, EPOLLIN)
    bench.queue(bench.turns.join(1), "late")
    pair[0].send(b"x")
    bench.turns.close()
    bench.turns.close()
    bench.turns.forget(pair[1].fileno())
    bench.loop.turn(3)
    assert (woken.events, bench.acts) == ([], [])


def test_a_user_of_dear_calls_has_no_more_time_than_one_of_cheap_ones(bench: Bench) -> None:
    share = bench.turns.join(1)

    def dear(name: str) -> Callable[[], None]:
        def work() -> None:
            bench.loop.moment += limits.TURN_MICROSECONDS / 2e6
            bench.does(name, 1)()

        return work

    for name in "abc":
        bench.turns.queue(share, dear(name))
    bench.loop.turn()
    assert bench.acts == ["a", "b", "settled", "a answered", "b answered"]
    bench.loop.turn()
    assert bench.acts[5:] == ["c", "settled", "c answered"]
