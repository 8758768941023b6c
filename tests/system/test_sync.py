"""Sync: the PBX's own list is the truth, also when it is long, late, or does not come any more."""

from __future__ import annotations

import pytest

import rig
from featurekeyd.client.license import SyncLease

MANY = 600
"""Leases of a list that needs three calls."""


SPARED_SECONDS = 2.1
"""A list frees no lease that was granted less than two seconds before it was taken (io.featurekey.License)."""


def let_pass(site: rig.Site, seconds: float) -> None:
    """Let time pass: nothing happens that would be told."""
    with site.watch() as events:
        events.connection.socket.settimeout(seconds)
        with pytest.raises(TimeoutError):
            events.connection.socket.recv(1)


def listed(*numbers: int) -> list[SyncLease]:
    return [SyncLease(f"call-{number}", ("sip-trunk-channels",)) for number in numbers]


def keys(site: rig.Site) -> set[str]:
    return {lease["key"] for lease in site.leases()}


def test_a_long_list_is_taken_in_parts_and_counts_as_one(licensed: rig.Licensed) -> None:
    kamailio = licensed.site.client("kamailio")
    first = kamailio.sync("calls", listed(*range(MANY)))
    assert (first.adopted, first.freed, first.held) == (MANY, 0, MANY)
    # More than is licensed: the calls are there, so they are counted, and new ones are refused.
    assert licensed.site.feature("sip-trunk-channels")["in_use"] == MANY
    assert kamailio.acquire("new", "sip-trunk-channels").reason == "limit_reached"
    kamailio.sync("registrations", [SyncLease("phone-1", ("third-party-ip-endpoints",))])
    let_pass(licensed.site, SPARED_SECONDS)
    second = kamailio.sync("calls", listed(*range(300, MANY)))
    assert (second.adopted, second.freed, second.held) == (0, 300, 300)
    assert keys(licensed.site) == {"phone-1"} | {f"call-{number}" for number in range(300, MANY)}


def test_a_call_granted_after_the_list_was_taken_is_kept(licensed: rig.Licensed) -> None:
    kamailio = licensed.site.client("kamailio")
    kamailio.acquire("call-1", "sip-trunk-channels")
    assert kamailio.sync("calls", listed(2), list_age_ms=5000).held == 2
    assert keys(licensed.site) == {"call-1", "call-2"}


def test_a_lost_release_is_mended_by_the_next_list_after_a_crash(licensed: rig.Licensed) -> None:
    site = licensed.site
    kamailio = site.client("kamailio")
    kamailio.sync("calls", listed(1, 2))
    site.kill()
    assert kamailio.release("call-1") is False
    site.start()
    kamailio.sync("calls", listed(2))
    assert keys(site) == {"call-2"}


def test_a_successor_takes_over_what_the_earlier_holder_had(licensed: rig.Licensed) -> None:
    site = licensed.site
    site.client("kamailio-1").sync("calls", listed(1, 2))
    assert site.client("kamailio-2").sync("calls", listed(1, 2), takes_over="kamailio-1").held == 2
    assert {lease["holder"] for lease in site.leases()} == {"kamailio-2"}
    assert site.feature("sip-trunk-channels")["in_use"] == len(site.leases())


def test_a_holder_that_falls_silent_loses_what_it_promised_to_renew(licensed: rig.Licensed) -> None:
    site = licensed.site
    with site.watch() as events:
        site.client("kamailio").sync("calls", listed(1), ttl_seconds=1)
        site.client("asterisk").sync("calls", listed(2))
        assert "kamailio fell silent" in events.wait("drift", "silent")["message"]
    assert keys(site) == {"call-2"}
