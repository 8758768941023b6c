"""Limits of questions, pushed against; docs/limits.md lists all limits with their tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from featurekeyd.daemon.rehearsal_service import MAX_ORDERS, MAX_REMOVED
from featurekeyd.daemon.wire import MANAGE, SERVICE

if TYPE_CHECKING:
    from tests.daemon.conftest import House


@pytest.mark.parametrize(
    ("member", "one", "most"), [("add", {"feature": "trunk"}, MAX_ORDERS), ("remove", "4Q7K", MAX_REMOVED)]
)
def test_a_question_of_too_many_licenses_is_refused(member: str, one: Any, most: int, licensed: House) -> None:
    questions: list[dict[str, Any]] = [{member: [one] * count} for count in (most, most + 1)]
    (good,), (refused,) = (licensed.ask(f"{MANAGE}.WhatIf", **question) for question in questions)
    assert "error" not in good
    assert refused == {"error": f"{SERVICE}.InvalidParameter", "parameters": {"parameter": member}}
