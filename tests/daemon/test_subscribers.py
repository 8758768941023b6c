"""Those who watch: who is told what, and how much they lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from featurekeyd.daemon import limits, subscribers
from featurekeyd.daemon.subscribers import KINDS, Subscriber, Subscribers
from featurekeyd.policy.decision import Decision
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.requests import Request, Want

WALL = 1_767_225_600.25
REQUEST = Request(holder="kamailio", key="call", wants=(Want("trunk"),))
GRANTED = Decision(allowed=True, reason=Reason.GRANTED, feature="trunk", limit=8, in_use=3)


class Watcher:
    """A connection that watches, and reads or does not."""

    def __init__(self, *, decisions: bool = False) -> None:
        self.reads = True
        self.said: list[dict[str, Any]] = []
        self.subscriber = Subscriber(self._push, 1000, decisions=decisions)

    def _push(self, reply: bytes) -> bool:
        if self.reads:
            self.said.append(json.loads(reply[:-1]))
        return self.reads


@pytest.fixture
def watchers() -> Subscribers:
    return Subscribers()


def drift() -> Event:
    return Event(name=EventName.CHANNEL_DRIFT, message="Drift.", fields={"HOLDER": "kamailio", "LEASE": "call"})


def test_an_event_is_told_to_all_with_its_fields(watchers: Subscribers) -> None:
    both = [Watcher(), Watcher(decisions=True)]
    for watcher in both:
        watchers.add(watcher.subscriber)
    watchers.tell_event(drift(), WALL)
    event = {
        "kind": "drift",
        "time": "2026-01-01T00:00:00.250Z",
        "message": "Drift.",
        "holder": "kamailio",
        "key": "call",
    }
    assert [watcher.said for watcher in both] == [[{"parameters": {"event": event}, "continues": True}]] * 2


@pytest.mark.parametrize("name", EventName)
def test_an_event_that_is_for_the_log_alone_is_not_told(name: EventName, watchers: Subscribers) -> None:
    watcher = Watcher()
    watchers.add(watcher.subscriber)
    watchers.tell_event(Event(name=name, message="It happened."), WALL)
    kinds = [it["parameters"]["event"]["kind"] for it in watcher.said]
    assert kinds == ([KINDS[name]] if name in KINDS else [])


def test_decisions_are_told_to_those_who_asked_for_them(watchers: Subscribers) -> None:
    asked, other = Watcher(decisions=True), Watcher()
    for watcher in (asked, other):
        watchers.add(watcher.subscriber)
    watchers.tell_decision(REQUEST, GRANTED, WALL)
    assert other.said == []
    event = asked.said[0]["parameters"]["event"]
    assert event["message"] == "granted to kamailio"
    assert [event[name] for name in ("kind", "allowed", "reason", "feature", "holder", "key", "limit", "in_use")] == [
        "decision",
        True,
        "granted",
        "trunk",
        "kamailio",
        "call",
        8,
        3,
    ]


def test_a_watcher_is_told_how_much_it_lost_and_only_once(watchers: Subscribers) -> None:
    slow, quick = Watcher(), Watcher()
    for watcher in (slow, quick):
        watchers.add(watcher.subscriber)
    slow.reads = False
    for _ in range(5):
        watchers.tell_event(drift(), WALL)
    slow.reads = True
    for _ in range(2):
        watchers.tell_event(drift(), WALL)
    assert [it["parameters"].get("lost") for it in slow.said] == [5, None]
    assert [it["parameters"].get("lost") for it in quick.said] == [None] * 7


def test_what_was_lost_is_told_by_itself_once_the_client_reads_again(watchers: Subscribers) -> None:
    slow = Watcher()
    watchers.add(slow.subscriber)
    slow.subscriber.reads_again()
    assert slow.said == [], "nothing was lost"
    slow.reads = False
    for _ in range(5):
        watchers.tell_event(drift(), WALL)
    slow.subscriber.reads_again()
    slow.reads = True
    slow.subscriber.reads_again()
    slow.subscriber.reads_again()
    watchers.tell_event(drift(), WALL)
    assert [it["parameters"].get("lost") for it in slow.said] == [5, None]
    assert "event" not in slow.said[0]["parameters"]


def test_an_event_is_encoded_once_however_many_watch(watchers: Subscribers) -> None:
    sent: list[bytes] = []

    def push(reply: bytes) -> bool:
        sent.append(reply)
        return True

    for number in range(5):
        watchers.add(Subscriber(push, number, decisions=True))
    watchers.tell_decision(REQUEST, GRANTED, WALL)
    assert len(sent) == 5
    assert all(reply is sent[0] for reply in sent)


def test_nothing_is_encoded_where_nobody_is_told(watchers: Subscribers, monkeypatch: pytest.MonkeyPatch) -> None:
    watchers.add(Watcher().subscriber)
    monkeypatch.setattr(subscribers, "_ENCODER", None)
    watchers.tell_decision(REQUEST, GRANTED, WALL)
    watchers.tell_event(Event(name=EventName.DENIED, message="Denied."), WALL)
    assert not watchers.decisions


def test_one_user_has_so_many_subscribers_and_all_together_so_many(watchers: Subscribers) -> None:
    many = [Subscriber(lambda _: True, 1, decisions=False) for _ in range(limits.MAX_SUBSCRIBERS_OF_USER)]
    for subscriber in many:
        assert watchers.full(1) is None
        watchers.add(subscriber)
    assert (watchers.full(1), watchers.full(2)) == (limits.MAX_SUBSCRIBERS_OF_USER, None)
    watchers.discard(many[0])
    watchers.discard(many[0])
    assert watchers.full(1) is None
    for uid in range(limits.MAX_SUBSCRIBERS - len(watchers)):
        watchers.add(Subscriber(lambda _: True, 100 + uid, decisions=False))
    assert watchers.full(2) == limits.MAX_SUBSCRIBERS


def test_who_left_is_told_nothing_more(watchers: Subscribers) -> None:
    watcher = Watcher(decisions=True)
    watchers.add(watcher.subscriber)
    watchers.discard(watcher.subscriber)
    watchers.discard(watcher.subscriber)
    watchers.tell_event(drift(), WALL)
    watchers.tell_decision(REQUEST, GRANTED, WALL)
    assert watcher.said == []
    assert len(watchers) == 0
