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
LINE = re.compile(r"(?<![\w`])AGI\((agi://[^)]+)\)")


def contexts() -> dict[str, list[str]]:
    """The dialplan: the applications of each context, in their order."""
    found: dict[str, list[str]] = {}
    for line in DIALPLAN.splitlines():
        if header := re.fullmatch(r"\[([\w-]+)\]", line):
            current = found.setdefault(header[1], [])
        elif step := re.fullmatch(r"(?:exten =>|  ?same =>) ?(?:[\w.]+,)?(?:1|n)(?:\(\w+\))?,(.*)", line.rstrip()):
            current.append(step[1])
        else:
            assert not line.strip() or line.startswith(";"), line
    return found


def asked(line: str) -> Question:
    url, *arguments = line.split(",")
    values = {"network_script": url.partition("://")[2].partition("/")[2], "uniqueid": "1.2", "extension": "100"}
    values |= {f"arg_{number}": argument for number, argument in enumerate(arguments, 1)}
    return read_question(Environment(values), {}, ("112",))


@pytest.mark.parametrize("line", sorted({*LINE.findall(DIALPLAN), *LINE.findall(PAGE)}))
def test_every_line_of_the_example_and_the_page_is_understood(line: str) -> None:
    assert asked(line).mistake == ""


def test_the_example_has_the_context_that_the_hangup_handler_runs() -> None:
    assert contexts()[AgiSettings().release_context] == ["AGI(agi://127.0.0.1/release)", "Return()"]


def test_every_route_of_the_example_goes_by_the_answer_and_an_emergency_call_goes_anyway() -> None:
    routes = {name: steps for name, steps in contexts().items() if name != "featurekey-release"}
    assert len(routes) == 2
    for steps in routes.values():
        assert steps[0].startswith("AGI(agi://127.0.0.1/acquire?")
        assert 'GotoIf($["${AGISTATUS}:${FEATUREKEY_STATUS}" = "SUCCESS:allowed"]?dial)' in steps[1]
    emergency = DIALPLAN[DIALPLAN.index("exten => 112,1,AGI") :].splitlines()
    assert emergency[1].startswith(" same => n,Dial(")


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
