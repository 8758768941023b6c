"""What the interface carries, and the stand-ins of names that it does not carry."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.client import limits
from featurekeyd.client.limits import dialed_text, holder_text, key_text, place_text, sync_parts

INTERFACE = Path(__file__).parents[2] / "daemon" / "io.featurekey.License.varlink"
ANY_TEXT = st.text(st.characters(), max_size=700)


def test_the_limits_are_those_of_the_interface() -> None:
    head, _, _ = INTERFACE.read_text().partition("\ninterface ")
    said = " ".join(head.replace("#", " ").split())
    for sentence in (
        f"A message has at most {limits.MAX_MESSAGE:,} bytes",
        f"a holder name {limits.MAX_HOLDER} characters",
        f"a key {limits.MAX_KEY},",
        f"a port or channel {limits.MAX_PLACE}",
        f"a feature name or dialed number {limits.MAX_DIALED}",
        f"a request wants at most {limits.MAX_WANTS} features",
    ):
        assert sentence in said
    assert limits.MAX_FEATURE == limits.MAX_DIALED
    assert f"At most {limits.MAX_SYNC_LEASES} leases fit in one call" in INTERFACE.read_text()


@pytest.mark.parametrize("key", ["a", "x" * 512, "\u00e9" * 512, "a b"])
def test_a_key_that_can_be_carried_is_left_alone(key: str) -> None:
    assert key_text(key) == key


@pytest.mark.parametrize(
    ("key", "head"),
    [("x" * 513, "x" * 60), ("a\nb", "ab"), ("\n" * 99 + "a" * 61, "a" * 60), ("call\udcff", "call"), ("\0", "")],
)
def test_a_stand_in_is_the_beginning_and_the_digest_of_the_whole(key: str, head: str) -> None:
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    assert key_text(key) == f"{head}~{digest[:32]}"


@given(ANY_TEXT.filter(bool))
def test_any_key_can_be_carried_and_a_stand_in_is_its_own(key: str) -> None:
    carried = key_text(key)
    assert 1 <= len(carried) <= limits.MAX_KEY
    assert carried.isprintable()
    assert key_text(carried) == carried


@given(st.lists(ANY_TEXT.filter(bool), unique=True, max_size=20))
def test_two_keys_have_two_stand_ins(keys: list[str]) -> None:
    assert len({key_text(key) for key in keys}) == len(keys)


def test_keys_that_differ_far_behind_have_two_stand_ins() -> None:
    assert key_text("x" * 9999 + "a") != key_text("x" * 9999 + "b")


def test_a_key_is_a_text_or_a_number_and_not_empty() -> None:
    assert key_text(17) == "17"
    for wrong in ("", None, True, 1.5, b"a", 10**5000):
        with pytest.raises(ValueError, match=r"must|limit"):
            key_text(wrong)


@pytest.mark.parametrize(("place", "carried"), [(None, None), ("", None), (7, "7"), ("p" * 128, "p" * 128)])
def test_a_place_is_left_out_where_there_is_none(place: object, carried: str | None) -> None:
    assert place_text("port", place) == carried


@given(ANY_TEXT.filter(bool))
def test_any_place_can_be_carried(place: str) -> None:
    carried = place_text("channel", place)
    assert carried is not None
    assert 1 <= len(carried) <= limits.MAX_PLACE
    assert place_text("channel", carried) == carried


@pytest.mark.parametrize(
    ("dialed", "carried"),
    [
        (None, None),
        (112, "112"),
        (" 112\n", "112"),
        ("1" * 64, "1" * 64),
        ("1" * 65, None),
        ("11\x002", None),
        (" ", None),
    ],
)
def test_a_number_is_carried_whole_or_not_at_all(dialed: object, carried: str | None) -> None:
    assert dialed_text(dialed) == carried


def test_a_holder_is_refused_when_it_cannot_be_carried() -> None:
    assert holder_text("h" * 64) == "h" * 64
    for wrong in ("", "h" * 65, "a\nb", "\udcff"):
        with pytest.raises(ValueError, match=re.escape("holder must")):
            holder_text(wrong)


def test_a_list_is_parted_by_number_and_by_size() -> None:
    small, large = {"key": "a"}, {"key": "x" * (limits.SYNC_ROOM // 2)}
    assert sync_parts([]) == [[]]
    assert [len(part) for part in sync_parts([small] * 257)] == [256, 1]
    assert [len(part) for part in sync_parts([large] * 3)] == [1, 1, 1]
    assert [len(part) for part in sync_parts([{"key": "x" * limits.MAX_MESSAGE}] * 2)] == [1, 1]
