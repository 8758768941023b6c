"""What a holder may ask for: each limit at its last good value and one beyond, and nothing that a terminal hides."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from featurekeyd.policy.licensekey import MAX_INSTANCES
from featurekeyd.policy.requests import MAX_SYNC_LEASES, CallClass, Request, SyncLease, SyncRequest, Want

GOOD: dict[str, Any] = {"holder": "kamailio", "key": "call", "wants": [{"feature": "trunk"}]}
LISTED: dict[str, Any] = {"key": "call", "wants": [{"feature": "trunk"}]}
LIST: dict[str, Any] = {"holder": "kamailio", "scope": "calls", "leases": [LISTED]}
HIDDEN = ["a\nb", "\x1b[2J", "\u202eabc", "\x00", "a\tb", "\u200b"]


def fits(type_: type[msgspec.Struct], fields: dict[str, Any]) -> bool:
    try:
        msgspec.json.decode(msgspec.json.encode(fields), type=type_)
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize("rest", [{}, {"class": None, "phase": None, "port": None, "channel": None, "dialed": None}])
def test_an_optional_member_may_be_left_out_or_null(rest: dict[str, object]) -> None:
    request = msgspec.convert({**GOOD, **rest, "wants": [{"feature": "trunk", "instances": None}]}, Request)
    assert request == msgspec.convert({**GOOD, "wants": [{"feature": "trunk"}]}, Request)
    assert (request.call_class, request.phase, request.wants) == (None, None, (Want("trunk"),))


def test_a_want_has_no_member_but_its_two() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `instance`"):
        msgspec.convert({**GOOD, "wants": [{"feature": "trunk", "instance": 5}]}, Request)


def test_the_class_of_a_call_is_called_class_on_the_wire() -> None:
    assert msgspec.convert({**GOOD, "class": "callback"}, Request).call_class is CallClass.CALLBACK
    assert not fits(Request, {**GOOD, "call_class": "callback"})


@pytest.mark.parametrize(
    ("field", "longest", "shortest"),
    [("holder", 64, 1), ("key", 512, 1), ("port", 128, 1), ("channel", 128, 1), ("dialed", 64, 0)],
)
def test_each_text_is_taken_up_to_its_longest_and_no_further(field: str, longest: int, shortest: int) -> None:
    assert fits(Request, {**GOOD, field: "x" * longest})
    assert not fits(Request, {**GOOD, field: "x" * (longest + 1)})
    assert fits(Request, {**GOOD, field: ""}) is (shortest == 0)


@pytest.mark.parametrize(("instances", "good"), [(-1, False), (0, False), (1, True), (16383, True), (16384, False)])
def test_instances_fit_into_a_license_key(instances: int, good: bool) -> None:
    assert MAX_INSTANCES == 16383
    assert fits(Request, {**GOOD, "wants": [{"feature": "trunk", "instances": instances}]}) is good


@pytest.mark.parametrize(("count", "good"), [(0, True), (8, True), (9, False)])
def test_a_request_wants_at_most_eight_features(count: int, good: bool) -> None:
    wants = [{"feature": f"f{number}"} for number in range(count)]
    assert fits(Request, {**GOOD, "wants": wants}) is good
    assert fits(SyncLease, {**LISTED, "wants": wants}) is good


@pytest.mark.parametrize(("length", "good"), [(0, False), (1, True), (64, True), (65, False)])
def test_a_feature_name_has_at_most_64_characters(length: int, good: bool) -> None:
    assert fits(Request, {**GOOD, "wants": [{"feature": "f" * length}]}) is good


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("field", ["holder", "key", "port", "channel", "dialed"])
def test_what_a_terminal_would_not_show_is_refused_in_every_text_of_a_request(field: str, hidden: str) -> None:
    assert not fits(Request, {**GOOD, field: hidden})


@pytest.mark.parametrize("hidden", HIDDEN)
def test_what_a_terminal_would_not_show_is_refused_in_the_name_of_a_feature(hidden: str) -> None:
    assert not fits(Request, {**GOOD, "wants": [{"feature": hidden}]})
    assert not fits(SyncLease, {**LISTED, "wants": [{"feature": hidden}]})


@pytest.mark.parametrize("hidden", HIDDEN)
def test_what_a_terminal_would_not_show_is_refused_in_a_list(hidden: str) -> None:
    for field in ("key", "port", "channel"):
        assert not fits(SyncLease, {**LISTED, field: hidden})
    for field in ("holder", "takes_over"):
        assert not fits(SyncRequest, {**LIST, field: hidden})


@pytest.mark.parametrize("type_and_fields", [(Request, GOOD), (SyncLease, LISTED), (SyncRequest, LIST)])
def test_an_unknown_field_is_refused(type_and_fields: tuple[type[msgspec.Struct], dict[str, Any]]) -> None:
    type_, fields = type_and_fields
    assert fits(type_, fields)
    assert not fits(type_, {**fields, "priority": 1})


@pytest.mark.parametrize(("field", "value"), [("class", "urgent"), ("phase", "ringing"), ("wants", None), ("key", 7)])
def test_a_value_outside_the_closed_lists_is_refused(field: str, value: object) -> None:
    assert not fits(Request, {**GOOD, field: value})


@pytest.mark.parametrize(("count", "good"), [(0, True), (MAX_SYNC_LEASES, True), (MAX_SYNC_LEASES + 1, False)])
def test_a_list_has_at_most_256_leases_in_one_call(count: int, good: bool) -> None:
    assert MAX_SYNC_LEASES == 256
    assert fits(SyncRequest, {**LIST, "leases": [LISTED] * count}) is good


@pytest.mark.parametrize(
    ("field", "least", "most"),
    [("list_age_ms", 0, 600_000), ("ttl_seconds", 1, 86_400), ("generation", 0, 2**53), ("part", 1, 2**31)],
)
def test_each_number_of_a_list_has_its_bounds(field: str, least: int, most: int) -> None:
    assert fits(SyncRequest, {**LIST, field: least})
    assert fits(SyncRequest, {**LIST, field: most})
    assert not fits(SyncRequest, {**LIST, field: least - 1})
    assert not fits(SyncRequest, {**LIST, field: most + 1})
