"""Rules for calls known by SIP addresses alone: which one fits, and what a Request-URI asks for."""

from __future__ import annotations

import fnmatch
import ipaddress
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from featurekeyd import policy
from featurekeyd.client.limits import key_text
from featurekeyd.policy.callrules import (
    MAX_PATTERN,
    Call,
    CallRule,
    Target,
    call_id_of,
    call_key,
    filed_stand_in,
    filed_under,
    find_rule,
    matches,
    read_target,
    wants_of_established,
)
from featurekeyd.policy.catalogfile import load_catalog
from featurekeyd.policy.decision import expand
from featurekeyd.policy.requests import Phase, Want

CATALOG = load_catalog((Path(policy.__path__[0]) / "catalogs/ip-office.toml").read_text(), "ip-office.toml")


def call(ruri: str = "sip:100@pbx.example", source: str = "192.0.2.7", diverter: str = "") -> Call:
    return Call(read_target(ruri), source, diverter)


def networks(*texts: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


INBOUND = CallRule(source=networks("192.0.2.0/24", "2001:db8::/32"), port="trunk:carrier-a")
OUTBOUND = CallRule(dialed=("+*", "00*"), port="trunk:carrier-b")
DIVERTED = CallRule(diverter=("200@*",), port="trunk:diverted")
SHORT = CallRule(dialed=("1??",), port="internal")


@pytest.mark.parametrize(
    ("asked", "port"),
    [
        (call(source="192.0.2.255"), "trunk:carrier-a"),
        (call(source="2001:db8::1"), "trunk:carrier-a"),
        (call(source="[2001:db8::1]"), "trunk:carrier-a"),
        (call(source="::ffff:192.0.2.1"), "trunk:carrier-a"),
        (call("sip:+4930123456@gw", source="10.0.0.1"), "trunk:carrier-b"),
        (call("sip:004930123456@gw", source="10.0.0.1"), "trunk:carrier-b"),
        (call("sip:100@pbx", source="10.0.0.1"), "internal"),
        (call("sip:1000@pbx", source="10.0.0.1"), None),
        (call("sip:555@pbx", source="10.0.0.1", diverter="200@pbx.example"), "trunk:diverted"),
        (call("sip:555@pbx", source="no address"), None),
        (call("sip:555@pbx", source=""), None),
    ],
)
def test_the_first_rule_fits_whose_conditions_all_do(asked: Call, port: str | None) -> None:
    rule = find_rule((INBOUND, OUTBOUND, DIVERTED, SHORT), asked)
    assert (rule.port if rule else None) == port


def test_all_conditions_of_a_rule_must_be_met() -> None:
    rule = CallRule(source=networks("192.0.2.0/24"), dialed=("0*",), host=("*.example",))
    assert rule.fits(call("sip:030@pbx.example"))
    assert not rule.fits(call("sip:030@pbx.example", source="192.0.3.1"))
    assert not rule.fits(call("sip:130@pbx.example"))
    assert not rule.fits(call("sip:030@pbx.test"))


def test_a_rule_without_conditions_fits_every_call() -> None:
    assert CallRule().fits(Call(Target("", ""), "", ""))


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("sip:100@pbx.example", ("100", "pbx.example")),
        ("SIP:100@PBX.example:5060;transport=udp", ("100", "pbx.example")),
        ("sips:100;phone-context=x:secret@[2001:db8::1]:5061?subject=a@b", ("100", "2001:db8::1")),
        ("<sip:100@pbx>", ("100", "pbx")),
        ("sip:pbx.example", ("", "pbx.example")),
        ("sip:%31%31%32@pbx", ("112", "pbx")),
        ("sip:1-1-2@pbx", ("112", "pbx")),
        ("sip:alice-112@pbx", ("alice-112", "pbx")),
        ("tel:+49-30-(123)4;phone-context=+49", ("+49301234", "")),
        ("urn:service:sos.fire", ("urn:service:sos.fire", "")),
        ("URN:service:sos;x=1", ("urn:service:sos", "")),
        ("nonsense", ("nonsense", "")),
        ("", ("", "")),
    ],
)
def test_a_request_uri_is_read_as_number_and_host(uri: str, target: tuple[str, str]) -> None:
    assert read_target(uri) == target


@given(st.text())
def test_whatever_stands_in_a_request_uri_is_read(uri: str) -> None:
    number, host = read_target(uri)
    assert isinstance(number, str)
    assert isinstance(host, str)


@given(st.text("ab1", max_size=12), st.text("ab1*?", max_size=8))
def test_patterns_mean_what_they_mean_to_a_shell(text: str, pattern: str) -> None:
    assert matches(text, pattern) is fnmatch.fnmatchcase(text, pattern)


def test_the_worst_pattern_takes_no_longer_than_any_other() -> None:
    begun = time.process_time()
    for _ in range(100):
        assert not matches("a" * MAX_PATTERN, "a*" * (MAX_PATTERN // 2 - 1) + "b")
    # Far less than what a regular expression of that form takes, which does not come to an end.
    assert time.process_time() - begun < 5.0


def test_of_a_long_number_only_its_beginning_counts() -> None:
    number = "+" + "1" * 5000 + "2"
    assert CallRule(dialed=("+*",)).fits(call(f"sip:{number}@gw"))
    assert not CallRule(dialed=("*2",)).fits(call(f"sip:{number}@gw"))


@given(st.text(min_size=1), st.text(min_size=1).filter(lambda tag: ";tag=" not in f";tag={tag}"[1:]))
def test_the_call_id_is_found_in_its_key(call_id: str, tag: str) -> None:
    key = call_key(call_id, tag)
    assert call_id_of(key) == call_id or key != f"{call_id};tag={tag}"


@given(st.text(min_size=1, max_size=70), st.text(min_size=1, max_size=20))
@example("x" * 54 + "\x1b", "1")
@example("x" * 600, "1")
def test_every_call_has_the_key_that_the_clients_give_it_and_is_filed_under_its_call_id(call_id: str, tag: str) -> None:
    key = call_key(call_id, tag)
    assert key == key_text(f"{call_id};tag={tag}")
    if key != f"{call_id};tag={tag}" and ";tag=" not in f"{call_id}{tag}":
        assert filed_under(key) == filed_stand_in(call_id)


def test_a_key_without_a_tag_is_a_call_id() -> None:
    assert call_id_of("a84b4c76e66710@pbx") == "a84b4c76e66710@pbx"
    assert call_key("a@b", "7") == "a@b;tag=7"


PARTS = {"sip-trunk-channels": st.integers(1, 9), "vcm-channels": st.integers(1, 9)}


@given(st.fixed_dictionaries({}, optional=PARTS).filter(bool))
def test_what_an_established_call_takes_is_what_was_asked_for_at_first(asked: dict[str, int]) -> None:
    wants = tuple(Want(name, count) for name, count in asked.items())
    held = expand(CATALOG, wants, Phase.SETUP)
    found = wants_of_established(CATALOG, held, {})
    assert {want.feature: want.instances for want in found} == asked
    assert expand(CATALOG, found, Phase.SETUP) == held
