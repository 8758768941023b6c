"""Erlang B against published tables, and what `sizing` and `history` make of the daemon's rows."""

from __future__ import annotations

import csv
import datetime
import io
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.client import exits
from featurekeyd.client.control import run
from featurekeyd.client.erlang import MAX_CHANNELS, blocking, channels_for
from featurekeyd.client.moments import local, seconds_of
from featurekeyd.client.sizing import USUAL_HOLD, busy_hour, offered, usual_busy_hour
from featurekeyd.client.uses import COUNTING, Use, counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.client.conftest import Peer, StandIn

    Control = Callable[..., tuple[int, str, str]]

TRUNK = ("feature", "sip-trunk-channels")
NAME = {"sort": "feature", "name": "sip-trunk-channels"}
HOUR = 1_790_000_000 // 3600 * 3600

PUBLISHED = {
    # Channels: traffic in Erlang at 0.1 %, 1 %, 2 %, 5 % and 10 % blocked, as in every printed table of Erlang B.
    1: ("0.00100", "0.0101", "0.0204", "0.0526", "0.111"),
    2: ("0.0458", "0.153", "0.223", "0.381", "0.595"),
    5: ("0.762", "1.36", "1.66", "2.22", "2.88"),
    10: ("3.09", "4.46", "5.08", "6.22", "7.51"),
    20: ("9.41", "12.0", "13.2", "15.2", "17.6"),
    30: ("16.7", "20.3", "21.9", "24.8", "28.1"),
    50: ("32.5", "37.9", "40.3", "44.5", "49.6"),
    100: ("75.2", "84.1", "88.0", "95.2", "104"),
}
GRADES = (0.001, 0.01, 0.02, 0.05, 0.1)


def traffic_for(channels: int, grade: float) -> float:
    """The traffic at which that part is blocked, by halving."""
    low, high = 0.0, 2.0 * channels + 1
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if blocking(middle, channels) < grade else (low, middle)
    return low


@pytest.mark.parametrize("channels", PUBLISHED)
def test_the_traffic_of_the_published_tables_comes_out(channels: int) -> None:
    found = [traffic_for(channels, grade) for grade in GRADES]
    assert [f"{traffic:.3g}" for traffic in found] == [f"{float(text):.3g}" for text in PUBLISHED[channels]]


def test_it_is_the_sum_that_defines_it() -> None:
    # B = (A^N / N!) / sum of A^k / k!
    terms = [1.0]
    for k in range(1, 13):
        terms.append(terms[-1] * 7.5 / k)
    assert blocking(7.5, 12) == pytest.approx(terms[12] / sum(terms))


@given(st.floats(0, 2_000), st.sampled_from(GRADES))
def test_the_fewest_channels_are_found(erlangs: float, grade: float) -> None:
    channels = channels_for(erlangs, grade)
    assert channels == 0 or blocking(erlangs, channels) <= grade
    assert erlangs == 0 or channels == 0 or blocking(erlangs, channels - 1) > grade


def test_the_ends_of_the_scale() -> None:
    assert (blocking(0, 0), blocking(0, 5), blocking(3, 0)) == (1.0, 0.0, 1.0)
    assert channels_for(0, 0.01) == 0
    assert blocking(20_000, 20_000) == pytest.approx(0.0056, abs=0.0005)
    with pytest.raises(ValueError, match="more than 100000 channels"):
        channels_for(2.0 * MAX_CHANNELS, 0.01)


@pytest.mark.parametrize(("erlangs", "channels"), [(-1, 3), (float("nan"), 3), (float("inf"), 3), (1, -1)])
def test_what_is_no_traffic_is_refused(erlangs: float, channels: int) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        blocking(erlangs, channels)


@pytest.mark.parametrize("grade", [0, 1, -0.1, 2, float("nan")])
def test_what_is_no_grade_of_service_is_refused(grade: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        channels_for(3, grade)


# From the history to the traffic that was offered


def hours(*rows: tuple[int, float, int, int], counted_seconds: float = 3600) -> Any:
    """Hours with busy seconds, granted and blocked."""
    uses = [Use(HOUR + n * 3600, TRUNK, 5, granted, blocked, blocked, busy) for n, busy, granted, blocked in rows]
    uses += [Use(HOUR + n * 3600, ("counting", ""), busy_seconds=counted_seconds) for n, *_ in rows]
    return counted(uses, "hour")


def test_what_was_blocked_is_offered_too_for_the_time_that_a_call_takes() -> None:
    (hour,) = offered(hours((0, 36_000, 300, 30)))
    assert (hour.carried, hour.hold) == (10.0, 120.0)
    assert hour.lost == pytest.approx(30 * 120 / 3600)
    assert hour.erlangs == pytest.approx(11.0)


def test_the_time_of_a_call_is_that_of_the_whole_history() -> None:
    quiet, busy = offered(hours((0, 1_000, 10, 0), (1, 35_000, 290, 60)))
    assert quiet.hold == busy.hold == 120.0


def test_where_nothing_was_granted_a_call_takes_three_minutes() -> None:
    (hour,) = offered(hours((0, 0, 0, 60)))
    assert hour.hold == USUAL_HOLD
    assert hour.erlangs == pytest.approx(3.0)


def test_the_busiest_hour_is_the_one_with_the_most_offered() -> None:
    found = offered(hours((0, 36_000, 300, 0), (1, 30_000, 250, 200), (2, 35_000, 300, 0)))
    busiest = busy_hour(found)
    assert busiest is not None
    assert busiest.start == HOUR + 3600
    assert busy_hour([]) is None


def test_an_hour_that_was_counted_in_part_stands_for_that_part_or_not_at_all() -> None:
    (half,) = offered(hours((0, 18_000, 150, 0), counted_seconds=2000))
    assert half.carried == 9.0
    assert offered(hours((0, 18_000, 150, 0), counted_seconds=600)) == []


def test_the_usual_busy_hour_is_that_of_the_days_on_average() -> None:
    midnight = HOUR - (HOUR - int(local(HOUR).replace(hour=0).timestamp()))
    rows = [Use(midnight + day * 86_400 + 36_000, TRUNK, busy_seconds=busy) for day, busy in ((0, 3600), (1, 10_800))]
    rows += [Use(row.start + 3600, TRUNK, busy_seconds=60) for row in rows]
    rows += [Use(row.start, ("counting", ""), busy_seconds=3600) for row in rows]
    assert usual_busy_hour(offered(counted(rows, "hour"))) == pytest.approx(2.0)


# The verbs


@pytest.fixture
def control(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> Control:
    def start(*arguments: str) -> tuple[int, str, str]:
        status = run(["--socket", daemon.path, *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return start


def row(hour: int, busy: float = 36_000, granted: int = 300, blocked: int = 30, **others: Any) -> dict[str, Any]:
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(HOUR + hour * 3600))
    counts = {"peak": 15, "granted": granted, "denied": blocked + 1, "blocked": blocked, "busy_seconds": float(busy)}
    return {"time": moment, **NAME, **counts} | others


def counting(hour: int, seconds: float = 3600.0) -> dict[str, Any]:
    return row(hour, seconds, 0, 0, sort="counting", name=None, peak=0, denied=0)


def answers(daemon: StandIn, uses: list[dict[str, Any]], limit: int | None = 12) -> None:
    """Give rows by what is asked for, one in each page."""

    def react(peer: Peer) -> None:
        wanted = peer.call["parameters"]
        rows = [use for use in uses if wanted.get("sort") in {None, use["sort"]}]
        place = int(wanted.get("after") or 0)
        more = {"more": str(place + 1)} if place + 1 < len(rows) else {}
        page = [{name: value for name, value in use.items() if value is not None} for use in rows[place : place + 1]]
        peer.say(json.dumps({"parameters": {"uses": page, **more}}).encode() + b"\0")

    daemon.on("History", react)
    feature = {"feature": "sip-trunk-channels", "limit": limit or 0, "unlimited": limit is None}
    daemon.on("ListFeatures", {"features": [feature]})
    daemon.on("Status", {"ports": [{"port": "trunk:carrier-a", "ceiling": 10}]})


def test_sizing_says_what_to_order(daemon: StandIn, control: Control) -> None:
    answers(daemon, [row(0), row(1, busy=7200, granted=60, blocked=0), counting(0), counting(1)])
    status, out, _ = control("sizing", "sip-trunk-channels")
    assert status == exits.DONE
    lines = [line.split("  ", 1) for line in out.splitlines()]
    said = {name.strip(): value.strip() for name, value in lines}
    assert said["carried"] == "10.00 Erlang, 300 requests granted"
    assert said["lost, estimated"] == "1.00 Erlang, 30 blocked of 120 s each"
    assert said["offered"] == "11.00 Erlang"
    assert said["for 1 % blocked"] == "19 channels"
    assert said["limit"] == f"12, with which {blocking(11.0, 12):.2%} would be blocked"
    assert said["to order"] == "7"


def test_the_worked_example_of_the_documents_is_what_comes_out(daemon: StandIn, control: Control) -> None:
    moments = [datetime.datetime(2026, 11, day, 10).astimezone(datetime.UTC) for day in (19, 20)]
    at = [{"time": moment.isoformat().replace("+00:00", "Z")} for moment in moments]
    loads = [row(0) | at[0], row(0, 5.8 * 3600, 174, 0) | at[1]]
    answers(daemon, [*loads, counting(0) | at[0], counting(0) | at[1]])
    status, out, _ = control("sizing", "sip-trunk-channels")
    page = (Path(__file__).parents[2] / "docs/history.md").read_text()
    example = page.partition("$ featurekeyctl sizing sip-trunk-channels\n")[2].partition("\n\n")[0]
    assert (status, out.rstrip("\n").splitlines()) == (0, [line[4:] for line in example.splitlines()])
    assert channels_for(8.4, 0.01) == 16, "as the page says of a usual day"


def test_sizing_in_json_has_the_same_numbers(daemon: StandIn, control: Control) -> None:
    answers(daemon, [row(0), counting(0)])
    status, out, _ = control("sizing", "sip-trunk-channels", "--json")
    answer = json.loads(out)
    assert (status, answer["offered_erlang"], answer["needs"], answer["limit"], answer["order"]) == (0, 11.0, 19, 12, 7)
    assert answer["blocking"] == pytest.approx(blocking(11.0, 12))
    assert seconds_of(answer["busy_hour"]) == HOUR


def test_sizing_of_a_port_compares_with_its_ceiling(daemon: StandIn, control: Control) -> None:
    answers(daemon, [row(0, sort="port", name="trunk:carrier-a"), counting(0)])
    assert json.loads(control("sizing", "--port", "trunk:carrier-a", "--json")[1])["limit"] == 10
    assert {"sort": "port", "name": "trunk:carrier-a"}.items() <= daemon.calls[0]["parameters"].items()


def test_sizing_of_what_has_no_limit_names_none(daemon: StandIn, control: Control) -> None:
    answers(daemon, [row(0), counting(0)], limit=None)
    answer = json.loads(control("sizing", "sip-trunk-channels", "--json")[1])
    assert "limit" not in answer
    assert "order" not in answer


@pytest.mark.parametrize(
    ("arguments", "offers", "needs"),
    [
        (["--erlang", "12"], 12.0, 20),
        (["--calls", "300", "--hold", "180"], 15.0, 24),
        (["--erlang", "12", "--grade", "0.1%"], 12.0, 24),
        (["--erlang", "12", "--grade", "0.05"], 12.0, 17),
        (["--erlang", "0"], 0.0, 0),
    ],
)
def test_traffic_may_be_given_by_hand_and_nobody_is_asked(
    daemon: StandIn, control: Control, arguments: list[str], offers: float, needs: int
) -> None:
    status, out, _ = control("sizing", *arguments, "--json")
    answer = json.loads(out)
    assert (status, answer["offered_erlang"], answer["needs"], daemon.calls) == (0, offers, needs, [])


def test_traffic_by_hand_may_be_compared_with_channels_by_hand(control: Control) -> None:
    answer = json.loads(control("sizing", "--erlang", "12", "--limit", "15", "--json")[1])
    assert (answer["order"], answer["blocking"]) == (5, pytest.approx(blocking(12, 15)))
    assert "nothing: the limit is enough" in control("sizing", "--erlang", "12", "--limit", "30")[1]


def test_without_any_history_it_is_said_what_to_do(daemon: StandIn, control: Control) -> None:
    answers(daemon, [])
    status, out, err = control("sizing", "no-such-feature")
    assert (status, out) == (exits.REFUSED, "")
    assert "nothing of no-such-feature was counted in 28 days; give the traffic: --erlang NUMBER" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["sizing"],
        ["sizing", "f", "--port", "p"],
        ["sizing", "--calls", "3"],
        ["sizing", "--hold", "3"],
        ["sizing", "--erlang", "3", "--calls", "3", "--hold", "3"],
        ["sizing", "--erlang", "-1"],
        ["sizing", "--erlang", "nan"],
        ["sizing", "--calls", "inf", "--hold", "3"],
        ["sizing", "--erlang", "3", "--grade", "100%"],
        ["sizing", "--erlang", "3", "--grade", "0"],
        ["sizing", "--erlang", "3", "--grade", "good"],
        ["sizing", "f", "--days", "0"],
        ["history", "--feature", "f", "--port", "p"],
        ["history", "--by", "week"],
        ["history", "--from", "yesterday"],
        ["history", "--from", "1d", "--to", "2d"],
        ["history", "--csv", "--json"],
    ],
)
def test_wrong_usage_asks_nobody(daemon: StandIn, control: Control, arguments: list[str]) -> None:
    status, out, err = control(*arguments)
    assert (status, out, daemon.calls) == (exits.WRONG_USAGE, "", [])
    assert "Error: " in err


def test_history_shows_a_table_of_all_pages(daemon: StandIn, control: Control) -> None:
    port = row(1, 3600, 30, 0, sort="port", name="trunk:carrier-a")
    answers(daemon, [row(0), counting(0), row(1), port, counting(1)])
    status, out, _ = control("history", "--from", "2026-01-01")
    assert status == exits.DONE
    head, *lines = out.splitlines()
    assert head.split() == ["TIME", "FEATURE", "OR", "PORT", "PEAK", "ERLANG", "GRANTED", "DENIED", "BLOCKED"]
    assert [line.split()[2:] for line in lines] == [
        ["sip-trunk-channels", "15", "10.00", "300", "31", "30"],
        ["sip-trunk-channels", "15", "10.00", "300", "31", "30"],
        ["trunk:carrier-a", "15", "1.00", "30", "1", "0"],
    ]
    assert lines[0].startswith(local(HOUR).strftime("%Y-%m-%d %H:%M"))


def test_history_says_how_much_was_counted_where_that_is_not_all(daemon: StandIn, control: Control) -> None:
    answers(daemon, [row(0), counting(0, 900.0)])
    out = control("history", "--from", "2026-01-01")[1]
    assert out.splitlines()[0].endswith("COUNTED")
    assert out.splitlines()[1].endswith("25%")
    assert " 40.00 " in out, "the average is that of the time that was counted"


def test_history_by_day_sums_hours_up(daemon: StandIn, control: Control) -> None:
    midnight = int(local(HOUR).replace(hour=0, minute=0, second=0).timestamp())
    first = (midnight - HOUR) // 3600 + 1
    answers(daemon, [row(first), row(first + 1, 7200, 60, 0), counting(first), counting(first + 1)])
    rows = json.loads(control("history", "--by", "day", "--from", "2026-01-01", "--json")[1])["rows"]
    assert [(it["granted"], it["busy_seconds"], it["counted_seconds"], it["erlang"]) for it in rows] == [
        (360, 43_200.0, 7200.0, 6.0)
    ]
    assert daemon.calls[0]["parameters"]["step"] == "hour"


def test_history_as_csv_is_read_by_a_spreadsheet(daemon: StandIn, control: Control) -> None:
    answers(daemon, [row(0, name='trunk "a", b'), counting(0)])
    out = control("history", "--from", "2026-01-01", "--csv")[1]
    (found,) = csv.DictReader(io.StringIO(out))
    assert (found["name"], found["peak"], found["erlang"], found["blocked"]) == ('trunk "a", b', "15", "10.0", "30")
    assert seconds_of(found["time"]) == HOUR


def test_history_asks_for_the_time_and_the_subject_that_are_wanted(daemon: StandIn, control: Control) -> None:
    answers(daemon, [])
    status, out, _ = control(
        "history", "--by", "minute", "--port", "trunk:a", "--from", "2026-11-22T10:00Z", "--to", "2026-11-22T11:00Z"
    )
    assert (status, out) == (
        exits.DONE,
        "nothing was in use or denied in that time, or it was not counted; minutes are kept for a week\n",
    )
    asked = [call["parameters"] for call in daemon.calls]
    begin, end = seconds_of("2026-11-22T10:00:00Z"), seconds_of("2026-11-22T11:00:00Z")
    assert all((it["step"], it["since"], it["until"]) == ("minute", begin, end) for it in asked)
    assert [(it["sort"], it.get("name")) for it in asked] == [("port", "trunk:a"), ("counting", None)]


@pytest.mark.parametrize(("text", "seconds"), [("90min", 5400), ("6h", 21_600), ("7d", 604_800)])
def test_a_time_may_be_so_long_ago(daemon: StandIn, control: Control, text: str, seconds: int) -> None:
    answers(daemon, [])
    before = time.time()
    control("history", "--from", text)
    since = daemon.calls[0]["parameters"]["since"]
    assert before - seconds - 1 <= since <= time.time() - seconds + 1


@pytest.mark.parametrize("text", ["nan", "-nan", "NaN"])
def test_what_is_no_number_is_called_so(control: Control, text: str) -> None:
    assert "is no number" in control("sizing", f"--erlang={text}")[2]


@pytest.mark.parametrize("name", ['=HYPERLINK("http://x")', "+1", "-1", "@sum"])
def test_a_name_in_csv_is_never_a_formula(daemon: StandIn, control: Control, name: str) -> None:
    answers(daemon, [row(0, sort="port", name=name), counting(0)])
    (found,) = csv.DictReader(io.StringIO(control("history", "--from", "2026-01-01", "--csv")[1], newline=""))
    assert found["name"] == f"'{name}"


def test_a_line_end_in_a_name_ends_no_line_of_csv(daemon: StandIn, control: Control) -> None:
    answers(daemon, [row(0, sort="port", name="\r=x"), counting(0)])
    (found,) = csv.DictReader(io.StringIO(control("history", "--from", "2026-01-01", "--csv")[1], newline=""))
    assert found["name"] == "\\r=x"


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A place whose clocks are put forward and back."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(("day", "hours"), [((2026, 3, 29), 23), ((2026, 10, 25), 25), ((2026, 11, 22), 24)])
def test_a_day_on_which_the_clocks_are_put_is_one_day(day: tuple[int, int, int], hours: int) -> None:
    begin = int(datetime.datetime(*day).timestamp())  # noqa: DTZ001 - of this place
    around = range(begin - 3600, begin + (hours + 1) * 3600, 3600)
    rows = [Use(start, subject, busy_seconds=3600.0) for start in around for subject in (TRUNK, (COUNTING, ""))]
    found = counted(rows, "day")
    (whole,) = (use for use in found.uses if use.start == begin)
    assert len(found.uses) == 3
    assert (whole.busy_seconds, found.seconds[begin], found.whole(begin)) == (hours * 3600.0,) * 3
    assert found.erlangs(whole) == 1.0
