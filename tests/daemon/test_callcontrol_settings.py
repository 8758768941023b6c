"""`[call_control]`: what a site may write, and each mistake by its dotted key."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from featurekeyd.daemon.callcontrol_settings import CallControl, check_wants
from featurekeyd.daemon.settings import parse_settings
from featurekeyd.policy.callrules import MAX_CONDITIONS, MAX_ENTRIES, MAX_PATTERN, MAX_RULES, CallRule
from featurekeyd.policy.requests import CallClass, Want
from featurekeyd.policy.tables import FileMistakes

if TYPE_CHECKING:
    from featurekeyd.policy.catalog import Catalog

PRODUCT = '[product]\ncatalog = "exchange"\nplatform = "large"\n'
RULE = "[[call_control.rules]]\n"


def read(text: str) -> CallControl | None:
    return parse_settings(PRODUCT + text, "site.toml").call_control


def mistakes(text: str) -> dict[str, str]:
    with pytest.raises(FileMistakes) as caught:
        read(text)
    return {it.where: it.what for it in caught.value.mistakes}


def test_without_the_table_there_is_no_socket() -> None:
    assert read("") is None


def test_one_rule_is_enough() -> None:
    assert read(RULE) == CallControl(
        socket=Path("/run/featurekeyd/call_control"),
        holder="kamailio",
        survive=False,
        longest_call=43_500.0,
        rules=(CallRule(),),
    )


def test_everything_can_be_set() -> None:
    control = read(
        """
        [call_control]
        socket = "/run/sbc"
        holder = "sbc"
        dialogs = "database"
        longest_call_seconds = 7200
        [[call_control.rules]]
        source = ["192.0.2.0/24", "2001:db8::1"]
        dialed = ["+*"]
        host = ["*.Example"]
        diverter = ["200@*"]
        port = "trunk:carrier-a"
        wants = ["trunk", "recorder:2"]
        [[call_control.rules]]
        dialed = ["sos"]
        class = "emergency"
        """
    )
    assert control is not None
    assert (control.socket, control.holder, control.survive) == (Path("/run/sbc"), "sbc", True)
    assert control.longest_call == 7200.0
    assert control.rules == (
        CallRule(
            source=(ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::1/128")),
            dialed=("+*",),
            host=("*.example",),
            diverter=("200@*",),
            port="trunk:carrier-a",
            wants=(Want("trunk"), Want("recorder", 2)),
        ),
        CallRule(dialed=("sos",), call_class=CallClass.EMERGENCY),
    )


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[call_control]\n", "call_control.rules"),
        ("[call_control]\nrules = []\n", "call_control.rules"),
        ('[call_control]\nsocket = "run/x"\n' + RULE, "call_control.socket"),
        ('[call_control]\nholder = "a\\u001b"\n' + RULE, "call_control.holder"),
        ('[call_control]\ndialogs = "disk"\n' + RULE, "call_control.dialogs"),
        ("[call_control]\nlongest_call_seconds = 1\n" + RULE, "call_control.longest_call_seconds"),
        (RULE + 'sources = ["192.0.2.1"]\n', "call_control.rules[0].sources"),
        (RULE + RULE + 'source = ["192.0.2.1/24"]\n', "call_control.rules[1].source"),
        (RULE + 'source = ["carrier.example"]\n', "call_control.rules[0].source"),
        (RULE + 'wants = ["trunk:0"]\n', "call_control.rules[0].wants"),
        (RULE + 'wants = ["trunk:16384"]\n', "call_control.rules[0].wants"),
        (RULE + 'wants = ["trunk:"]\n', "call_control.rules[0].wants"),
        (RULE + 'wants = [""]\n', "call_control.rules[0].wants"),
        (RULE + 'port = "trunk:a"\n', "call_control.rules[0].port"),
        (RULE + 'port = "\\u001b"\nwants = ["trunk"]\n', "call_control.rules[0].port"),
        (RULE + 'class = "urgent"\n', "call_control.rules[0].class"),
    ],
)
def test_each_mistake_is_named_by_its_dotted_key(text: str, where: str) -> None:
    assert where in mistakes(text)


def test_a_feature_that_the_catalog_does_not_have_is_named(catalog: Catalog) -> None:
    control = read(RULE + RULE + 'wants = ["trunk", "trnuk"]\n')
    (mistake,) = check_wants(control, catalog)
    assert mistake.where == "call_control.rules[1].wants"
    assert "trnuk" in mistake.what
    assert check_wants(None, catalog) == []


def test_there_may_be_so_many_rules() -> None:
    control = read(RULE * MAX_RULES)
    assert control is not None
    assert len(control.rules) == MAX_RULES
    assert "call_control.rules" in mistakes(RULE * (MAX_RULES + 1))


@pytest.mark.parametrize("condition", ["source", "dialed", "host", "diverter"])
def test_a_condition_may_have_so_many_entries(condition: str) -> None:
    entries = '"192.0.2.1",' * MAX_CONDITIONS
    assert read(RULE + f"{condition} = [{entries}]\n")
    assert f"call_control.rules[0].{condition}" in mistakes(RULE + f'{condition} = [{entries}"192.0.2.1"]\n')


def test_all_conditions_together_may_have_so_many_entries() -> None:
    full = RULE + "dialed = [" + '"1*",' * MAX_CONDITIONS + "]\n"
    assert read(full * (MAX_ENTRIES // MAX_CONDITIONS))
    more = full * (MAX_ENTRIES // MAX_CONDITIONS) + RULE + 'source = ["192.0.2.1"]\n'
    assert "1025 addresses and patterns" in mistakes(more)["call_control.rules"]


def test_a_pattern_may_have_so_many_characters() -> None:
    assert read(RULE + f'dialed = ["{"1" * MAX_PATTERN}"]\n')
    assert "call_control.rules[0].dialed[0]" in mistakes(RULE + f'dialed = ["{"1" * MAX_PATTERN}1"]\n')
