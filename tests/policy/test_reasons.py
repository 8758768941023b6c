"""The closed lists of policy are those of the interface, and every reason can be said to a technician."""

from __future__ import annotations

import enum
import re
import string
from pathlib import Path

import pytest
from varlink import scanner

from featurekeyd import daemon
from featurekeyd.policy import checkevidence, rescue
from featurekeyd.policy.catalog import Mode, Scope
from featurekeyd.policy.checkevidence import CheckResult
from featurekeyd.policy.decision import ALLOWING
from featurekeyd.policy.findings import REMEDY, Verdict
from featurekeyd.policy.reasons import MEANING, Reason
from featurekeyd.policy.requests import CallClass, Phase
from featurekeyd.policy.rescue import RescueVerdict
from featurekeyd.policy.standing import Standing

FIELDS = {"title", "feature", "unit", "limit", "wanted", "in_use", "kept", "port", "holder", "cause", "known"}


def enumeration(interface: str, name: str) -> list[str]:
    """The members of an enumeration in an interface file, by the independent parser."""
    (folder,) = daemon.__path__
    parsed = scanner.Scanner(Path(folder, f"{interface}.varlink").read_text())
    return list(_members(parsed)[name].type.fields)


def _members(parsed: scanner.Scanner) -> dict[str, scanner._Alias]:
    parsed.expect("interface")
    parsed.expect("interface-name")
    members = {}
    while not parsed.end():
        member = parsed.read_member()
        members[member.name] = member
    return members


@pytest.mark.parametrize(
    ("interface", "name", "ours"),
    [
        ("io.featurekey.License", "Reason", Reason),
        ("io.featurekey.License", "CallClass", CallClass),
        ("io.featurekey.License", "Phase", Phase),
        ("io.featurekey.License", "Scope", Scope),
        ("io.featurekey.License", "Standing", Standing),
        ("io.featurekey.Manage", "Verdict", Verdict),
    ],
)
def test_a_closed_list_is_the_same_here_and_in_the_interface(
    interface: str, name: str, ours: type[enum.StrEnum]
) -> None:
    assert enumeration(interface, name) == [str(member) for member in ours]


def test_the_modes_are_those_that_the_interface_describes() -> None:
    (folder,) = daemon.__path__
    text = Path(folder, "io.featurekey.License.varlink").read_text()
    (line,) = re.findall(r"When an instance is taken: (.*)\.", text)
    assert re.findall(r'"([a-z]+)"', line) == [str(mode) for mode in Mode]


def test_every_reason_has_a_meaning() -> None:
    assert MEANING.keys() == set(Reason)


@pytest.mark.parametrize("reason", list(Reason))
def test_the_sentences_of_a_reason_use_the_documented_fields_only(reason: Reason) -> None:
    meaning = MEANING[reason]
    for template in (meaning.message, meaning.remedy):
        assert {name for _, name, _, _ in string.Formatter().parse(template) if name is not None} <= FIELDS
        filled = template.format(**{field: f"<{field}>" for field in FIELDS})
        assert "{" not in filled
        assert "}" not in filled


@pytest.mark.parametrize("reason", list(Reason))
def test_a_denial_has_a_cure_and_a_grant_needs_none(reason: Reason) -> None:
    meaning = MEANING[reason]
    assert meaning.message
    assert bool(meaning.remedy) != (reason in ALLOWING)


def test_the_fields_of_the_sentences_are_documented_where_the_table_stands() -> None:
    from featurekeyd.policy import reasons  # noqa: PLC0415 - only its docstring is wanted

    assert set(re.findall(r"`\{(\w+)\}`", reasons.__doc__ or "")) == FIELDS


def test_every_refused_finding_has_a_cure() -> None:
    accepted = {
        Verdict.VALID,
        Verdict.ALREADY_THERE,
        Verdict.IMPORTED,
        Verdict.REMOVED,
        Verdict.RESERVED,
        Verdict.RESTORED,
        Verdict.CHECKED,
        Verdict.RESCUED,
        Verdict.ENROLLED,
        Verdict.ANNOUNCED,
        Verdict.REPAIRED,
    }
    # Their cure is worked out where they are refused, each with its own.
    brought = {str(it) for it in [*RescueVerdict, *CheckResult]} | {Verdict.NOT_ENROLLED, Verdict.NOT_ANNOUNCED}
    assert set(Verdict) - REMEDY.keys() - accepted <= brought
    assert accepted.isdisjoint(REMEDY)


@pytest.mark.parametrize("verdict", list(RescueVerdict))
def test_every_refused_rescue_code_has_a_cure(verdict: RescueVerdict) -> None:
    assert rescue._REMEDY[verdict]


@pytest.mark.parametrize("result", [it for it in CheckResult if it is not CheckResult.PASSED])
def test_every_refused_answer_of_the_vendor_has_a_cure(result: CheckResult) -> None:
    assert checkevidence._REMEDY[result]
