"""The check symbols: every single mistake that people make with a key is found and placed."""

from __future__ import annotations

import itertools
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurekeyd.policy.checksymbols import CHECKS, LENGTH, Exchanged, WrongSymbol, append_checks, find_mistake

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A loaded machine may be slow."""

SYMBOL = st.integers(0, 31)
DATA = st.lists(SYMBOL, min_size=LENGTH - CHECKS, max_size=LENGTH - CHECKS)


def times(a: int, b: int) -> int:
    """A product in GF(32) by shift and reduction with x^5 + x^2 + 1, told apart from the tables of the module."""
    product = 0
    for bit in range(5):
        if b >> bit & 1:
            product ^= a << bit
    for bit in (8, 7, 6, 5):
        if product >> bit & 1:
            product ^= 0b100101 << (bit - 5)
    return product


def locators() -> list[int]:
    found = [0, 1]
    while len(found) < LENGTH:
        found.append(times(found[-1], 2))
    return found


def test_all_32_elements_are_locators() -> None:
    assert sorted(locators()) == list(range(32))


@relaxed
@given(DATA)
def test_both_sums_over_a_key_are_zero(data: list[int]) -> None:
    symbols = append_checks(data)
    plain = weighted = 0
    for locator, symbol in zip(locators(), symbols, strict=True):
        plain ^= symbol
        weighted ^= times(locator, symbol)
    assert (plain, weighted) == (0, 0)
    assert symbols[: LENGTH - CHECKS] == data
    assert find_mistake(symbols) is None


def test_the_check_symbols_of_known_data_do_not_drift() -> None:
    assert append_checks([0] * 30)[-2:] == [0, 0]
    assert append_checks([1] * 30)[-2:] == [1, 1]
    assert append_checks(list(range(30)))[-2:] == [11, 10]


def test_every_wrong_symbol_at_every_place_is_named() -> None:
    symbols = append_checks([random.Random(1).randrange(32) for _ in range(30)])
    for place, change in itertools.product(range(LENGTH), range(1, 32)):
        wrong = [*symbols]
        wrong[place] ^= change
        assert find_mistake(wrong) == WrongSymbol(place, symbols[place])


@relaxed
@given(DATA, st.integers(0, LENGTH - 2))
def test_every_exchange_of_neighbors_is_found_at_its_place(data: list[int], place: int) -> None:
    symbols = append_checks(data)
    wrong = [*symbols]
    wrong[place], wrong[place + 1] = wrong[place + 1], wrong[place]
    mistake = find_mistake(wrong)
    if wrong == symbols:
        assert mistake is None
    else:
        assert isinstance(mistake, Exchanged)
        assert place in mistake.places


@relaxed
@given(DATA, st.integers(0, LENGTH - 1), st.integers(0, LENGTH - 1))
def test_an_exchange_of_any_two_different_symbols_is_found(data: list[int], one: int, other: int) -> None:
    symbols = append_checks(data)
    wrong = [*symbols]
    wrong[one], wrong[other] = wrong[other], wrong[one]
    assert (find_mistake(wrong) is None) == (wrong == symbols)


@relaxed
@given(DATA, st.lists(st.integers(0, LENGTH - 1), min_size=2, max_size=2, unique=True), st.integers(1, 31), SYMBOL)
def test_two_wrong_symbols_never_pass(data: list[int], places: list[int], first: int, second: int) -> None:
    wrong = append_checks(data)
    wrong[places[0]] ^= first
    wrong[places[1]] ^= second
    assert find_mistake(wrong) is not None
