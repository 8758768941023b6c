"""What nothing real has is found in whatever is stored, with its place."""

from __future__ import annotations

import datetime

import pytest

from featurekeyd.daemon.plausible import LAST_YEAR, MAX_NUMBER, find_implausible

LAST_DATE = datetime.date(LAST_YEAR, 12, 31)


def test_the_last_second_and_the_last_date_are_plausible_and_nothing_beyond() -> None:
    last = datetime.datetime.fromtimestamp(MAX_NUMBER, datetime.UTC)
    assert (last.date(), (last + datetime.timedelta(seconds=1)).year) == (LAST_DATE, LAST_YEAR + 1)
    assert find_implausible({"a": [0, MAX_NUMBER, LAST_DATE, datetime.date.min, True, None, "-1"]}) is None
    assert find_implausible(MAX_NUMBER + 1) == f"it is a number below 0 or above {MAX_NUMBER}"
    assert find_implausible(LAST_DATE + datetime.timedelta(days=1)) == "it is 9000-01-01, and no date is after 8999"


@pytest.mark.parametrize("number", [-1, -0.5, float("nan"), float("inf"), 10**400])
def test_a_number_that_nothing_real_has_is_named_by_its_place(number: float) -> None:
    assert find_implausible({"a": {2: [0, number]}}) == f"a.2[1] is a number below 0 or above {MAX_NUMBER}"
