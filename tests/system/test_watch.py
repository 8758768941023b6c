"""Events as they happen: over the wire, and line by line from featurekeyctl watch."""

from __future__ import annotations

import datetime
import json
import signal
from collections.abc import Iterator

import pytest

import rig
from featurekeyd.client.license import SyncLease


@pytest.fixture
def watching(licensed: rig.Licensed) -> Iterator[rig.Process]:
    """`featurekeyctl watch --json --decisions`, seen to be subscribed."""
    with licensed.site.start_ctl("--json", "watch", "--decisions") as process:
        # What the daemon tells before the subscription stands is told to nobody: ask until an answer comes through.
        kamailio, seen = licensed.site.client("kamailio"), process.output.mark()
        for number in range(1000):
            kamailio.acquire(f"probe-{number}", "no-such-feature")
            try:
                process.output.wait("probe", seen, seconds=0.1)
            except rig.RigFailure:
                assert process.running, str(process.errors)
                continue
            break
        yield process


def test_decisions_arrive_in_their_order_and_say_what_was_decided(licensed: rig.Licensed) -> None:
    with licensed.site.watch(decisions=True) as events:
        kamailio = licensed.site.client("kamailio")
        kamailio.acquire("call-1", "sip-trunk-channels")
        kamailio.acquire("call-2", "softconsole")
        first, second = events.wait("decision"), events.wait("decision")
    assert (first["allowed"], first["reason"], first["key"], first["in_use"]) == (True, "granted", "call-1", 1)
    told = second["allowed"], second["reason"], second["feature"], second["limit"], second["holder"]
    assert told == (False, "not_licensed", "softconsole", 0, "kamailio")
    moment = datetime.datetime.fromisoformat(second["time"])
    assert abs(datetime.datetime.now(datetime.UTC) - moment) < datetime.timedelta(seconds=rig.DEADLINE)


def test_who_does_not_ask_for_decisions_gets_none(licensed: rig.Licensed) -> None:
    with licensed.site.watch() as events:
        licensed.site.client("kamailio").acquire("call-1", "sip-trunk-channels")
        licensed.simulator.tell("unplug")
        reply = events.connection.reply()["parameters"]
    assert reply["event"]["kind"] == "feature_key"


def test_every_sort_of_event_is_told(licensed: rig.Licensed) -> None:
    site = licensed.site
    kamailio = site.client("kamailio")
    with site.watch() as events:
        licensed.simulator.tell("unplug")
        assert "absent" in events.wait("feature_key")["message"]
        assert "grace" in events.wait("standing")["message"]
        (key,) = licensed.vendor.issue(licensed.serial, "softconsole:1")
        site.call("Manage.AddLicense", {"key": key})
        assert events.wait("licenses")["feature"] == "softconsole"
        kamailio.acquire("call-1", "sip-trunk-channels", port="trunk:a", channel="1")
        kamailio.acquire("call-2", "sip-trunk-channels", port="trunk:a", channel="1")
        assert events.wait("drift")["key"] == "call-1"
        kamailio.acquire("call-3", "sip-trunk-channels", call_class="emergency", dialed="999")
        assert "not on the list" in events.wait("emergency_claim")["message"]
        site.call("Manage.ReleaseLease", {"holder": "kamailio", "key": "call-2"})
        assert "freed by uid" in events.wait("drift")["message"]
        kamailio.sync("calls", [SyncLease("call-4", ("sip-trunk-channels",))])
        assert "differed" in events.wait("drift")["message"]


def test_featurekeyctl_watch_writes_one_object_on_each_line(licensed: rig.Licensed, watching: rig.Process) -> None:
    start = watching.output.mark()
    licensed.site.client("kamailio").acquire("call-1", "sip-trunk-channels")
    licensed.simulator.tell("unplug")
    watching.output.wait('"standing"', start)
    events = [json.loads(line)["event"] for line in watching.output.so_far(start)]
    kinds = [event["kind"] for event in events if not (event.get("key") or "").startswith("probe")]
    assert kinds == ["decision", "feature_key", "standing"]


def test_featurekeyctl_watch_ends_with_the_daemon_and_says_so(licensed: rig.Licensed, watching: rig.Process) -> None:
    licensed.site.kill()
    assert watching.wait() == 3
    assert "is featurekeyd running" in watching.errors.wait("featurekeyd")


def test_featurekeyctl_watch_ends_on_an_interrupt(watching: rig.Process) -> None:
    watching.signal(signal.SIGINT)
    assert watching.wait() == 130
    assert "Traceback" not in str(watching.errors)


def test_an_orderly_end_of_the_daemon_ends_every_subscription(licensed: rig.Licensed) -> None:
    with licensed.site.watch() as events:
        assert licensed.site.stop() == 0
        assert events.connection.at_end()
