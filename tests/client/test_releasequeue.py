"""The bounded queue of releases, and how wants are written."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.client.releasequeue import QUEUE_LIMIT, ReleaseQueue
from featurekeyd.client.wantsyntax import MAX_INSTANCES, Want, parse_want, parse_wants


def test_keys_come_out_oldest_first_and_the_wanted_one_before_all() -> None:
    queue = ReleaseQueue()
    for key in "abc":
        queue.add(key, 0)
    queue.add("a", 1)
    assert queue.keys() == ["b", "c", "a"]
    assert queue.keys("c") == ["c", "b", "a"]
    assert queue.keys("stranger") == ["b", "c", "a"]


def test_the_oldest_makes_room_and_is_counted() -> None:
    queue = ReleaseQueue()
    for number in range(QUEUE_LIMIT + 2):
        queue.add(str(number), 0)
    assert (len(queue), queue.lost, queue.keys()[0], QUEUE_LIMIT) == (1024, 2, "2", 1024)


def test_a_key_that_is_queued_again_pushes_nobody_out() -> None:
    queue = ReleaseQueue(limit=2)
    for key in ("a", "b", "a"):
        queue.add(key, 0)
    assert (queue.keys(), queue.lost) == (["b", "a"], 0)


def test_only_what_was_in_the_queue_is_lost() -> None:
    queue = ReleaseQueue()
    queue.add("a", 0)
    queue.lose("a")
    queue.lose("a")
    queue.discard("a")
    assert (len(queue), queue.lost) == (0, 1)


def test_only_older_keys_of_the_list_are_discarded() -> None:
    queue = ReleaseQueue()
    for key, now in (("old", 1), ("edge", 2), ("young", 3), ("other", 1)):
        queue.add(key, now)
    queue.discard_older(["old", "edge", "young", "stranger"], 2)
    assert queue.keys() == ["edge", "young", "other"]


@given(st.lists(st.tuples(st.sampled_from("alx"), st.sampled_from("abcde"))))
def test_nothing_is_forgotten_without_being_counted(steps: list[tuple[str, str]]) -> None:
    queue, expected, lost = ReleaseQueue(limit=3), set[str](), 0
    for step, key in steps:
        if step == "a":
            pushed_out = queue.keys()[:1] if key not in expected and len(expected) == 3 else []
            queue.add(key, 0)
            expected = (expected - set(pushed_out)) | {key}
            lost += len(pushed_out)
        elif step == "l":
            queue.lose(key)
            lost += key in expected
            expected.discard(key)
        else:
            queue.discard(key)
            expected.discard(key)
        assert (set(queue.keys()), queue.lost) == (expected, lost)


@pytest.mark.parametrize(
    ("text", "want"), [("f", Want("f")), (" f:4 ", Want("f", 4)), (f"f:{MAX_INSTANCES}", Want("f", 16383))]
)
def test_a_want_is_a_feature_and_a_count(text: str, want: Want) -> None:
    assert parse_want(text) == want


@pytest.mark.parametrize("text", ["", ":4", "f:", "f:x", "f:0", "f:-1", "f:16384", "f:²", f"f:{'9' * 5000}", "f:1:2"])
def test_a_want_that_cannot_be_says_why(text: str) -> None:
    with pytest.raises(ValueError, match=r"needs the name|instances"):
        parse_want(text)


@pytest.mark.parametrize("wants", [None, 7, b"f", ["f", 7], [("f", 1)], [], ["f"] * 9, itertools.repeat("f")])
def test_wants_that_cannot_be_say_why(wants: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_wants(wants)


@pytest.mark.parametrize(("feature", "instances"), [(7, 1), ("f" * 65, 1), ("f\n", 1), ("f", 1.5), ("f", True)])
def test_a_want_of_the_wrong_type_or_size_is_not_made(feature: Any, instances: Any) -> None:
    with pytest.raises(ValueError, match=r"needs the name|instances"):
        Want(feature, instances)


def test_eight_features_of_64_characters_may_be_wanted() -> None:
    assert len(parse_wants(["f" * 64] * 8)) == 8


def test_one_want_or_several_as_text_or_value() -> None:
    assert parse_wants("f:2") == parse_wants(Want("f", 2)) == parse_wants(["f:2"]) == (Want("f", 2),)


@given(st.text())
def test_any_text_is_a_want_or_a_value_error(text: str) -> None:
    try:
        want = parse_want(text)
    except ValueError:
        return
    assert parse_want(f"{want.feature}:{want.instances}") == want
