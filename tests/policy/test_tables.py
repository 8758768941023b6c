"""TOML tables as values: every mistake is named by its dotted key, and nothing but FileMistakes comes out."""

from __future__ import annotations

import contextlib
import enum
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.policy.tables import (
    MAX_DOTS,
    MAX_TEXT,
    FileMistakes,
    Mistake,
    parse_toml,
    read_duration,
    read_table,
)


class Color(enum.StrEnum):
    RED = "red"


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    count: int
    colors: tuple[Color, ...] = ()


class Outer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    title: str
    inner: Inner
    others: dict[str, Inner] = {}
    by_color: dict[Color, int] = {}


def mistakes_in(table: dict[str, Any]) -> dict[str, str]:
    mistakes: list[Mistake] = []
    assert read_table(table, Outer, "", mistakes) is None
    return {mistake.where: mistake.what for mistake in mistakes}


def test_a_table_that_fits_becomes_the_value_and_adds_no_mistake() -> None:
    mistakes: list[Mistake] = []
    value = read_table({"title": "t", "inner": {"count": 1, "colors": ["red"]}}, Outer, "", mistakes)
    assert value == Outer("t", Inner(1, (Color.RED,)))
    assert mistakes == []


def test_all_mistakes_of_a_table_are_named_at_once_by_their_dotted_keys() -> None:
    found = mistakes_in(
        {
            "titel": "t",
            "inner": {"count": "one", "colors": ["red", "blue"], "size": 1},
            "others": {"a": {"count": 1}, "b": {}, "c": 3},
            "by_color": {"green": 1, "red": "x"},
        }
    )
    assert found == {
        "titel": "there is no such key",
        "title": "this key is missing",
        "inner.count": "expected int, got str",
        "inner.colors[1]": "Invalid enum value 'blue'",
        "inner.size": "there is no such key",
        "others.b.count": "this key is missing",
        "others.c": "expected object, got int",
        "by_color.green": "Invalid enum value 'green'",
        "by_color.red": "expected int, got str",
    }


def test_the_place_of_the_table_itself_leads_the_dotted_key() -> None:
    mistakes: list[Mistake] = []
    read_table({"count": 1.5}, Inner, "features.trunk", mistakes)
    assert mistakes == [Mistake("features.trunk.count", "expected int, got float")]


def test_the_text_of_the_error_names_file_key_and_mistake_line_by_line() -> None:
    error = FileMistakes("site.toml", [Mistake("a.b", "is wrong"), Mistake("", "is no file")])
    assert str(error) == "site.toml: a.b: is wrong\nsite.toml: is no file"


@pytest.mark.parametrize("text", ["x = [", "= 1", "a = 1\na = 2", "x = " + "[" * 5000, "x = " + "9" * 5000, "\ud800"])
def test_what_is_not_toml_is_refused_with_the_name_of_the_file(text: str) -> None:
    with pytest.raises(FileMistakes, match=r"^site\.toml: not TOML: "):
        parse_toml(text, "site.toml")


def refusal(text: str) -> str:
    with pytest.raises(FileMistakes) as caught:
        parse_toml(text, "site.toml")
    return str(caught.value)


DOTTED = "a." * (MAX_DOTS + 1) + "a"
QUOTED = ' . "b.c"' * (MAX_DOTS + 1)


@pytest.mark.parametrize(
    "line",
    [
        f"{DOTTED} = 1",
        f"a{QUOTED} = 1",
        f"[{DOTTED}]",
        f"[[ a{QUOTED} ]]",
        f"x = {{ b = 1, {DOTTED} = 1 }}",
        f"x = [{{ {DOTTED} = 1 }}]",
        f"'a'{QUOTED} = 1",
    ],
)
def test_a_key_of_too_many_parts_is_refused_with_its_line_and_the_cure(line: str) -> None:
    text = f'# one\nfirst = """\n{DOTTED}\n"""\n{line}\n'
    assert refusal(text) == "site.toml: line 5: a key has at most 10 dots; join its parts to fewer"


@pytest.mark.parametrize(
    "text",
    [
        "a." * MAX_DOTS + "a = 1",
        "[" + "a." * MAX_DOTS + "a]\n" + "b." * MAX_DOTS + "b = 1",
        f"x = '{DOTTED}'",
        f'x = "\\"{DOTTED}"',
        f'x = """{DOTTED}\n"" {DOTTED}"""""',
        f"x = '''{DOTTED}\n\\'''",
        f'x = 1 # {DOTTED} "',
        "x = [" + "1.5, " * 50 + "]",
        "x = [" + "1979-05-27T00:32:00.999-07:00, " * 50 + "]",
        f'"{DOTTED}" = 1',
        f"x = {'9' * 50}.{'9' * 50}",
    ],
)
def test_dots_of_values_strings_and_comments_are_no_parts_of_a_key(text: str) -> None:
    parse_toml(text, "site.toml")


def test_a_file_has_at_most_so_many_characters() -> None:
    line = "x = 1 "
    parse_toml(line + "#" * (MAX_TEXT - len(line)), "site.toml")
    longer = refusal(line + "#" * (MAX_TEXT + 1 - len(line)))
    assert longer == "site.toml: 262145 characters, and a file has at most 262144; say less, or say it in two files"


@pytest.mark.parametrize(
    "part", ["a.", '"a".', "a", "[", '"', "'", '"""', "\\", '"\\', '"""\\', "\n", "#", ".", ". ", "''."]
)
@pytest.mark.parametrize("before", ["", "x = ", "x = {", "[", 'x = "', 'x = """'])
def test_no_file_of_the_greatest_length_takes_long(part: str, before: str) -> None:
    text = (before + part * MAX_TEXT)[: MAX_TEXT - 6] + "a = 1\n"
    started = time.process_time()
    with contextlib.suppress(FileMistakes):
        parse_toml(text, "site.toml")
    assert time.process_time() - started < 10  # keys of so many dots took minutes; all of these take a second at most


@given(st.text(alphabet="ab=[]{}.,\"'#\n 0123456789-:TZ\\", max_size=60) | st.text(max_size=30))
def test_any_text_is_tables_or_a_refusal(text: str) -> None:
    outcome: object
    try:
        outcome = parse_toml(text, "site.toml")
    except FileMistakes as refused:
        outcome = refused.mistakes[0]
    assert isinstance(outcome, dict | Mistake)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["title", "inner", "others", "count", "colors", "by_color", "red", "x"]), inner, max_size=5
        )
    ),
    max_leaves=12,
)


@given(VALUES)
def test_any_value_gives_the_type_or_at_least_one_mistake(table: object) -> None:
    mistakes: list[Mistake] = []
    value = read_table(table, Outer, "", mistakes)
    assert isinstance(value, Outer) != bool(mistakes)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("72h", 259_200), ("15d", 1_296_000)]
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0s", "00h", "5", "h", "-1h", "1.5h", "1w", "1 h", "1h ", "1H", "12345678s", "\u0661h"]
)
def test_what_is_no_duration_gives_none(text: str) -> None:
    assert read_duration(text) is None
