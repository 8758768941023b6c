"""From the line of the dialplan to a question, and from the answer to variables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.client.agi_protocol import Environment
from featurekeyd.client.agi_question import Question, denied, missing, read_question, variables
from featurekeyd.client.answer import EMERGENCY_GRANTED, Answer
from featurekeyd.client.callrequest import is_emergency

NUMBERS = ("112", "911")
ONE_LINE = "acquire?port=trunk:carrier-a&wants=sip-trunk-channels"


def channel(script: str, *arguments: str, **values: str) -> Environment:
    said = {"network_script": script, "uniqueid": "1.2", "channel": "PJSIP/a-1", "extension": "100", "dnid": "unknown"}
    numbered = {f"arg_{number}": argument for number, argument in enumerate(arguments, 1)}
    return Environment(said | numbered | values)


def question(script: str, *arguments: str, **values: str) -> Question:
    return read_question(channel(script, *arguments, **values), {}, NUMBERS)


def test_what_stands_behind_a_comma_belongs_to_the_wants() -> None:
    asked = question(ONE_LINE, "vcm-channels:2", "fail=open")
    assert (asked.verb, asked.key, asked.port) == ("acquire", "1.2", "trunk:carrier-a")
    assert asked.wants == ("sip-trunk-channels", "vcm-channels:2")
    assert (asked.fail_open, asked.mistake, asked.emergency) == (True, "", False)
    assert asked.channel == "PJSIP/a-1"


def test_signs_in_a_name_are_written_with_a_percent_sign_and_a_plus_is_a_plus() -> None:
    asked = question("acquire?port=trunk%3Aa%26b&wants=x&dialed=+4930")
    assert (asked.port, asked.dialed) == ("trunk:a&b", "+4930")


def test_the_request_serves_where_there_is_no_script() -> None:
    asked = question("", request=f"agi://127.0.0.1:4573/{ONE_LINE}")
    assert (asked.verb, asked.wants) == ("acquire", ("sip-trunk-channels",))


def test_only_a_line_without_wants_is_completed_from_the_channel() -> None:
    assert missing(channel(ONE_LINE)) == ()
    assert missing(channel("release")) == ()
    assert missing(channel("acquire?port=a")) == ("wants", "fail")
    found = {"wants": "x", "fail": "open"}
    asked = read_question(channel("acquire?port=a"), found, NUMBERS)
    assert (asked.port, asked.wants, asked.fail_open) == ("a", ("x",), True)


@pytest.mark.parametrize(
    ("script", "values", "emergency"),
    [
        (ONE_LINE, {"extension": "112"}, True),
        (ONE_LINE, {"extension": "s", "dnid": "911"}, True),
        (f"{ONE_LINE}&dialed=112", {"extension": "s"}, True),
        (f"{ONE_LINE}&class=emergency", {}, True),
        ("acquire?wants=&fail=nonsense", {"extension": "112"}, True),
        ("aquire", {"extension": "112"}, True),
        ("release", {"extension": "112"}, False),
        (ONE_LINE, {"extension": "1120"}, False),
    ],
)
def test_an_emergency_call_is_known_whatever_else_is_wrong(
    script: str, values: dict[str, str], emergency: bool
) -> None:
    assert question(script, **values).emergency is emergency


def test_the_status_is_said_last_and_a_grant_leaves_no_old_refusal() -> None:
    asked = question(ONE_LINE)
    granted = variables(asked, Answer(allowed=True, reason="granted", limit=4, in_use=1))
    refusal = Answer(allowed=False, reason="limit_reached", limit=4, in_use=4, message="All in use.", remedy="Wait.")
    refused = variables(asked, refusal)
    assert list(granted) == list(refused)
    assert list(granted)[-1] == "FEATUREKEY_STATUS"
    assert (granted["FEATUREKEY_MESSAGE"], granted["FEATUREKEY_CAUSE"]) == ("", "")
    assert refused["FEATUREKEY_MESSAGE"] == "All in use. Wait."
    assert (refused["FEATUREKEY_STATUS"], refused["FEATUREKEY_CAUSE"]) == ("denied", "34")


@pytest.mark.parametrize(
    ("answer", "status", "cause"),
    [
        (Answer(allowed=False, reason="daemon_away", from_daemon=False), "away", "38"),
        (Answer(allowed=True, reason="daemon_away", from_daemon=False), "allowed", ""),
        (denied("a mistake"), "denied", "38"),
        (EMERGENCY_GRANTED, "allowed", ""),
    ],
)
def test_answers_that_the_daemon_did_not_give_have_their_own_cause(answer: Answer, status: str, cause: str) -> None:
    said = variables(question(f"{ONE_LINE}&refuse=486"), answer)
    assert (said["FEATUREKEY_STATUS"], said["FEATUREKEY_CAUSE"]) == (status, cause)


@given(
    st.text(max_size=200), st.lists(st.text(max_size=50), max_size=4), st.dictionaries(st.text(max_size=9), st.text())
)
def test_any_line_is_a_question_or_a_mistake(script: str, arguments: list[str], values: dict[str, str]) -> None:
    asked = read_question(channel(script, *arguments, **values), {}, NUMBERS)
    assert asked.mistake or asked.verb in ("acquire", "answered", "release")
    assert asked.emergency or not is_emergency("", asked.dialed, NUMBERS) or asked.verb in ("answered", "release")
