"""Requests that break a rule: an emergency call is found in them, and nothing else is granted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.policy.decision import Decision
from featurekeyd.policy.events import EventName
from featurekeyd.policy.legible import MOST_SHOWN, Legible, read_legible
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.requests import CallClass

if TYPE_CHECKING:
    from tests.policy.conftest import Site


CLAIM: dict[str, Any] = {"key": "", "dialed": "0815", "class": "emergency"}


def legible(**members: Any) -> Legible:
    found = read_legible(json.dumps(members).encode())
    assert found is not None
    return found


def granted(site: Site, uid: int = 1000, **members: Any) -> bool:
    found = site.enforcer.acquire_unreadable(legible(**members), uid, site.now)
    if found is not None:
        assert found[1] == Decision(allowed=True, reason=Reason.EMERGENCY)
    return found is not None


@pytest.mark.parametrize(
    "members",
    [
        {"dialed": "112"},
        {"dialed": 112},
        {"class": "emergency"},
        {"dialed": ["112"], "class": "emergency"},
        {"dialed": "112", "class": 7},
        {"dialed": "112", "holder": None, "key": [], "port": {}},
        {"dialed": "112", "key": 10**400},
    ],
)
def test_a_listed_number_or_the_class_is_enough(members: dict[str, Any], site: Site) -> None:
    assert granted(site, **members)
    assert site.enforcer.emergencies_total == 1
    assert len(site.enforcer.ledger) == 0


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"dialed": "4711"},
        {"dialed": "112" + " " * 100},
        {"dialed": "112\n"},
        {"dialed": None},
        {"dialed": True},
        {"dialed": 10**400},
        {"class": "callback"},
        {"class": ["emergency"]},
        {"key": "112", "holder": "emergency"},
    ],
)
def test_nothing_else_is_granted(members: dict[str, Any], site: Site) -> None:
    assert not granted(site, **members)
    assert site.told() == []


def test_it_is_told_with_what_a_terminal_can_show(site: Site) -> None:
    assert granted(site, holder="kamailio", key="a\x1b" + "b" * 1000, port="x\ny", dialed="112")
    (event,) = site.enforcer.events
    assert event.name is EventName.EMERGENCY_CALL
    fields = event.fields
    assert fields["LEASE"] == "a?" + "b" * (MOST_SHOWN - 3) + "…"
    assert (fields["HOLDER"], fields["PORT"], fields["DIALED"]) == ("kamailio", "x?y", "112")


def test_a_claim_without_a_listed_number_raises_the_alarm(site: Site) -> None:
    assert granted(site, **CLAIM)
    assert site.told() == [EventName.EMERGENCY_CALL, EventName.EMERGENCY_CLAIM]


def test_a_callback_comes_back_to_it(site: Site) -> None:
    assert granted(site, holder="kamailio", key="", dialed="112")
    callback = site.acquire("back", "trunk", call_class=CallClass.CALLBACK)
    assert callback.reason is Reason.EMERGENCY_CALLBACK


def test_neither_a_name_of_another_user_nor_one_that_is_none_is_anybodys_by_it(site: Site) -> None:
    site.acquire("a", "trunk")
    assert granted(site, uid=1001, holder="kamailio", dialed="112")
    for holder in ("", "x" * 65, "a\nb", 7):
        assert granted(site, uid=1001, holder=holder, dialed="112")
    assert [holder.name for holder in site.enforcer.holders] == ["kamailio"]
    assert site.acquire("back", "trunk", call_class=CallClass.CALLBACK).reason is Reason.GRANTED


@given(
    st.dictionaries(
        st.sampled_from(["holder", "key", "port", "dialed", "class", "wants"]),
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=3),
    )
)
def test_whatever_the_members_are_a_request_is_made_of_them(members: dict[str, Any]) -> None:
    request = legible(**members).request()
    shown = (request.holder, request.key, request.port or "", request.dialed or "")
    assert all(text.isprintable() and len(text) <= MOST_SHOWN for text in shown)


@pytest.mark.parametrize("parameters", [b"[]", b"7", b"null", b"", b'{"dialed":'])
def test_what_is_no_object_is_not_looked_at(parameters: bytes) -> None:
    assert read_legible(msgspec.Raw(parameters)) is None
