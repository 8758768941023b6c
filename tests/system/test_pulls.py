"""The key is pulled some dozens of times, in every way there is; and whether the check of it could fail."""

from __future__ import annotations

from pathlib import Path

import pulls
import pytest

PULLS = 24
"""Each way to pull at least twice on average, in under half a minute; `pulls.py --pulls 1000` is the long form."""

SEED = 0
"""Two of three draws have one silent reader; one takes as long as ten other pulls."""


def test_whatever_way_the_key_is_pulled_the_standing_is_right_and_callers_notice_nothing(tmp_path: Path) -> None:
    figures = pulls.pull_for(PULLS, SEED, tmp_path, print)
    print(pulls.summary(figures))
    assert figures.pulls.total() == PULLS
    assert len(figures.pulls) == 8


@pytest.mark.parametrize(
    ("calm", "pulled", "wrong"),
    [
        ([0.001] * 100, [0.001] * 100, 0),
        ([0.001] * 100, [*[0.001] * 98, 0.2, 0.2], 1),
        ([0.1] * 100, [0.2] * 100, 0),
        ([0.1] * 100, [0.4] * 100, 1),
    ],
)
def test_decisions_that_wait_for_the_reader_are_found(calm: list[float], pulled: list[float], wrong: int) -> None:
    assert len(pulls.Figures(calm=calm, pulled=pulled).wrong()) == wrong
