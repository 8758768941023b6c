"""The files for Asterisk that are shipped, and docs/asterisk.md: they say what featurekey-agi understands."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

from featurekeyd.client.agi_protocol import Environment
from featurekeyd.client.agi_question import PARAMETERS, Question, read_question, variables
from featurekeyd.client.agi_settings import AgiSettings, AmiSettings, parse_settings
from featurekeyd.client.answer import Answer

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "client" / "asterisk"
PAGE = (ROOT / "docs" / "asterisk.md").read_text(encoding="utf-8")
DIALPLAN = (EXAMPLES / "extensions.conf").read_text(encoding="utf-8")
LINE = re.compile(r"(?<![\w`])AGI\((agi://(?:[^()]|\([^()]*\))+)\)")
EXTENSION = re.compile(r"\$\{FILTER\(0-9,\$\{EXTEN(?::(\d))?\}\)\}|\$\{EXTEN(?::(\d))?\}")
STEP = re.compile(r"(?:exten => ?([\w.]+),1| ?same => ?n)(?:\(\w+\))?,(.*)")


def contexts() -> dict[str, dict[str, list[str]]]:
    """The dialplan: the applications of each extension of each context, in their order."""
    found: dict[str, dict[str, list[str]]] = {}
    steps: list[str] = []
    for line in DIALPLAN.splitlines():
        if header := re.fullmatch(r"\[([\w-]+)\]", line):
            current = found.setdefault(header[1], {})
        elif step := STEP.fullmatch(line.rstrip()):
            steps = current.setdefault(step[1], []) if step[1] else steps
            steps.append(step[2])
        else:
            assert not line.strip() or line.startswith(";"), line
    return found


def run(context: str, number: str) -> list[str]:
    """What is done for a dialed number, with its digits put in: an extension that is it goes before a pattern."""
    extensions = contexts()[context]
    (pattern,) = [it for it in extensions if it.startswith("_")]
    assert re.fullmatch(pattern[1:].replace("X", "[0-9]").replace(".", ".+"), number) or number in extensions
    steps = extensions.get(number, extensions[pattern])
    if onward := re.fullmatch(r"Goto\(([\w-]+),(\d+),1\)", steps[0]):
        return run(onward[1], onward[2])
    return [EXTENSION.sub(lambda it: number[int(it[1] or it[2] or 0) :], step) for step in steps]


def asked(line: str) -> Question:
    line = EXTENSION.sub("100", line)
    url, *arguments = line.split(",")
    values = {"network_script": url.partition("://")[2].partition("/")[2], "uniqueid": "1.2", "extension": "100"}
    values |= {f"arg_{number}": argument for number, argument in enumerate(arguments, 1)}
    return read_question(Environment(values), {}, ("112", "911"))


@pytest.mark.parametrize("line", sorted({*LINE.findall(DIALPLAN), *LINE.findall(PAGE)}))
def test_every_line_of_the_example_and_the_page_is_understood(line: str) -> None:
    assert asked(line).mistake == ""


def test_the_example_has_the_context_that_the_hangup_handler_runs() -> None:
    assert contexts()[AgiSettings().release_context] == {"s": ["AGI(agi://127.0.0.1/hangup)", "Return()"]}


@pytest.mark.parametrize("context", ["to-carrier-a", "from-carrier-a"])
def test_every_route_of_the_example_goes_by_the_answer(context: str) -> None:
    (steps,) = [steps for exten, steps in contexts()[context].items() if exten.startswith("_")]
    assert steps[0].startswith("AGI(agi://127.0.0.1/acquire?")
    assert 'GotoIf($["${AGISTATUS}:${FEATUREKEY_STATUS}" = "SUCCESS:allowed"]?dial)' in steps[1]


def test_what_a_route_of_the_example_asks_for_is_what_it_dials() -> None:
    steps = run("to-carrier-a", "0170123")
    assert asked(LINE.findall(steps[0])[0]).dialed == "170123"
    assert steps[-2] == "Dial(PJSIP/170123@carrier-a)"


@pytest.mark.parametrize("number", ["112", "911"])
@pytest.mark.parametrize("prefix", ["", "0"])
def test_an_emergency_call_of_the_example_is_dialed_whatever_the_answer_is(prefix: str, number: str) -> None:
    ask, dial, _ = run("to-carrier-a", prefix + number)
    question = asked(LINE.findall(ask)[0])
    assert (question.emergency, question.dialed, question.mistake) == (True, number, "")
    assert dial == f"Dial(PJSIP/{number}@carrier-a)"


def test_the_one_line_of_the_page_knows_an_emergency_call_behind_the_digit_of_the_trunk() -> None:
    line = next(it for it in PAGE.splitlines() if it.strip().startswith("exten => _0X."))
    (url,) = LINE.findall(EXTENSION.sub(lambda it: "0112"[int(it[1] or it[2] or 0) :], line))
    assert asked(url).emergency


def test_the_variables_of_example_and_page_are_those_that_are_set() -> None:
    answer = variables(asked("agi://127.0.0.1/acquire?wants=x"), Answer(allowed=True, reason="granted"))
    read = {f"FEATUREKEY_{name.upper()}" for name in ("port", "wants", "fail")}
    named = set(re.findall(r"FEATUREKEY_[A-Z_]+", DIALPLAN + PAGE))
    assert named == {*answer, *read}
    assert all(f"| `{name}` |" in PAGE for name in PARAMETERS)


def test_the_user_of_ami_may_read_calls_and_lists_and_nothing_else() -> None:
    parser = configparser.ConfigParser(strict=False)
    parser.read(EXAMPLES / "manager.conf", encoding="utf-8")
    user = parser["featurekey"]
    assert (user["read"], user["write"]) == ("call", "reporting")
    assert (user["deny"], user["permit"]) == ("0.0.0.0/0.0.0.0", "127.0.0.1/255.255.255.255")
    assert parser["general"]["bindaddr"] == "127.0.0.1"


def test_the_settings_of_the_example_are_the_defaults() -> None:
    settings = parse_settings((EXAMPLES / "featurekey-agi.toml").read_bytes(), "file")
    assert settings == AgiSettings(ami=AmiSettings("featurekey", Path("/etc/featurekeyd/ami-secret")))
