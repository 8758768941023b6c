"""Denials as log entries: what stands in one, and which of them are one storm."""

from __future__ import annotations

from featurekeyd.daemon.denials import denial, kind_of_denial
from featurekeyd.policy.decision import Decision
from featurekeyd.policy.events import EventName
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.requests import Request, Want


def request(key: str = "call", holder: str = "kamailio", port: str = "trunk:a") -> Request:
    return Request(holder=holder, key=key, wants=(Want("trunk"),), port=port, channel="7")


def denied(feature: str | None = "trunk", reason: Reason = Reason.LIMIT_REACHED) -> Decision:
    return Decision(
        allowed=False, reason=reason, feature=feature, limit=8, in_use=8, message="8 of 8 are in use.", remedy="Wait."
    )


def test_an_entry_says_all_that_is_known() -> None:
    event = denial(request(), denied())
    assert event.name is EventName.DENIED
    assert event.message == "Denied to kamailio: 8 of 8 are in use. Wait."
    assert event.fields == {
        "FEATURE": "trunk",
        "HOLDER": "kamailio",
        "LEASE": "call",
        "REASON": "limit_reached",
        "LIMIT": "8",
        "IN_USE": "8",
        "PORT": "trunk:a",
        "CHANNEL": "7",
    }


def test_holder_feature_and_reason_make_a_kind_and_key_and_port_do_not() -> None:
    kinds = {
        kind_of_denial(request(), denied()),
        kind_of_denial(request(holder="asterisk"), denied()),
        kind_of_denial(request(), denied("recorder")),
        kind_of_denial(request(), denied(reason=Reason.NOT_LICENSED)),
        kind_of_denial(request(), denied(None, Reason.DEACTIVATED)),
    }
    assert len(kinds) == 5
    assert kind_of_denial(request("other", port="trunk:b"), denied()) in kinds


def test_ports_are_told_apart_where_their_ceilings_are_the_reason() -> None:
    one, two = (kind_of_denial(request(port=port), denied(reason=Reason.CEILING_REACHED)) for port in ("a", "b"))
    assert one != two


def test_names_that_a_client_makes_up_are_one_kind() -> None:
    kinds = {kind_of_denial(request(), denied(f"made up {n}", Reason.UNKNOWN_FEATURE)) for n in range(100)}
    assert len(kinds) == 1
