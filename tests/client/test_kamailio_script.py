"""The script for Kamailio, in a stand-in of its interface KSR: what routes are told, and what is kept for the list."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.client.answer import Answer
from featurekeyd.client.kamailio_script import (
    CALLS_TTL,
    NO_ACK_SECONDS,
    PHONES_TTL,
    Routes,
    mod_init,
    read_words,
    reason_header,
)
from featurekeyd.client.limits import MAX_KEY
from featurekeyd.client.wantsyntax import Want

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.client.conftest import StandIn

TRUNK = "sip-trunk-channels"
WORDS = f"{TRUNK} port=trunk:carrier-a"
KEY = "call-1@host;tag=from-1"


class Variables:
    """KSR.pv: pseudo-variables as Kamailio has them; bytes that are no UTF-8 raise as they do there."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def get(self, name: str) -> str | int | None:
        value = self.values.get(name)
        if value is None and name.startswith("$shv"):
            return 0
        return value.decode() if isinstance(value, bytes) else value

    def sets(self, name: str, value: str) -> None:
        assert isinstance(value, str)
        value.encode()
        self.values[name] = value

    def seti(self, name: str, value: int) -> None:
        assert type(value) is int
        self.values[name] = value


class Rpc:
    """KSR.jsonrpcs: answers each method with what the test has put there."""

    def __init__(self, variables: Variables) -> None:
        self._variables = variables
        self.results: dict[str, object] = {}

    def exec(self, question: str) -> None:
        result = self.results.get(json.loads(question)["method"])
        body = {"error": {"code": 404}} if result is None else {"result": result}
        raw = result if isinstance(result, bytes) else json.dumps(body).encode()
        self._variables.values["$jsonrpl(body)"] = raw


class Ksr:
    """What the script uses of KSR; `log` is what it has logged."""

    def __init__(self, socket: str) -> None:
        values: dict[str, Any] = {"$ci": "call-1@host", "$ft": "from-1", "$rU": "100", "$tU": "201", "$td": "site.org"}
        # A time limit that a loaded machine does not meet.
        values |= {"$shv(featurekey_socket)": socket, "$shv(featurekey_time_limit_ms)": "20000"}
        self.pv = Variables(values)
        self.jsonrpcs = Rpc(self.pv)
        self.log: list[str] = []

    def err(self, line: str) -> None:
        self.log.append(f"error: {line}")

    def notice(self, line: str) -> None:
        self.log.append(f"notice: {line}")

    def told(self, name: str) -> object:
        return self.pv.values[f"$avp(featurekey_{name})"]

    def kept(self) -> object:
        return self.pv.values.get("$dlg_var(featurekey)")


@pytest.fixture
def ksr(absent: StandIn) -> Ksr:
    return Ksr(absent.path)


@pytest.fixture
def routes(ksr: Ksr) -> Iterator[Routes]:
    made = Routes(ksr)
    yield made
    if "_client" in vars(made):
        made._client.close()


def dialog(
    key: str | None = KEY, words: str = f"{TRUNK}:1 class=normal", state: int = 4, age: int = 9
) -> dict[str, Any]:
    variables = [] if key is None else [{"another": "x"}, {"featurekey": f"{words} key={key}"}]
    return {"state": state, "duration": age, "variables": variables, "call-id": "not looked at"}


# Asking.


def test_a_grant_lets_the_route_go_on_and_is_kept_with_the_dialog(daemon: StandIn, ksr: Ksr, routes: Routes) -> None:
    assert routes.acquire_license(None, f"{WORDS} channel=7") == 1
    asked = {"holder": "kamailio", "key": KEY, "wants": [{"feature": TRUNK, "instances": 1}], "dialed": "100"}
    assert daemon.parameters() == asked | {"port": "trunk:carrier-a", "channel": "7"}
    assert ksr.kept() == f"{TRUNK}:1 port=trunk:carrier-a channel=7 class=normal key={KEY}"
    told = {name: ksr.told(name) for name in ("reason", "limit", "in_use", "port", "channel", "class", "message")}
    assert told == {
        "reason": "granted",
        "limit": 4,
        "in_use": 1,
        "port": "trunk:carrier-a",
        "channel": "7",
        "class": "normal",
        "message": "",
    }


def test_a_denial_refuses_and_leaves_nothing_with_the_dialog(daemon: StandIn, ksr: Ksr, routes: Routes) -> None:
    daemon.on("Acquire", daemon.DENIED)
    assert routes.acquire_license(None, WORDS) == -1
    assert ksr.kept() is None
    assert (ksr.told("status"), ksr.told("phrase")) == (503, "Service Unavailable")
    assert ksr.told("header") == 'Q.850;cause=34;text="4 of 4 channels in use"'
    assert ksr.told("message") == "all 4 sip-trunk-channels are in use"


@pytest.mark.parametrize(("status", "phrase"), [("486", "Busy Here"), ("480", "Temporarily Unavailable")])
def test_a_site_chooses_what_a_call_is_refused_with(
    daemon: StandIn, ksr: Ksr, routes: Routes, status: str, phrase: str
) -> None:
    daemon.on("Acquire", daemon.DENIED)
    assert routes.acquire_license(None, f"{WORDS} refuse={status}") == -1
    assert (ksr.told("status"), ksr.told("phrase")) == (int(status), phrase)


def test_each_trunk_fails_open_or_closed_and_says_that_the_daemon_is_away(ksr: Ksr, routes: Routes) -> None:
    assert routes.acquire_license(None, WORDS) == -1
    assert ksr.told("header") == 'Q.850;cause=38;text="license daemon is away"'
    assert ksr.kept() is None
    assert routes.acquire_license(None, f"{WORDS} away=open") == 1
    assert ksr.told("reason") == "daemon_away"
    assert ksr.kept() == f"{TRUNK}:1 port=trunk:carrier-a class=normal key={KEY}"


def test_what_the_daemon_refuses_to_decide_is_no_question_of_limits(daemon: StandIn, ksr: Ksr, routes: Routes) -> None:
    daemon.on("Acquire", daemon.refuses("org.varlink.service.InvalidParameter", parameter="wants"))
    assert routes.acquire_license(None, f"{WORDS} away=open") == -1
    assert ksr.told("header") == 'Q.850;cause=38;text="license daemon refused the question"'


def test_a_reason_without_numbers_is_given_in_words() -> None:
    assert reason_header(Answer(allowed=False, reason="not_licensed", limit=0, in_use=0)) == (
        'Q.850;cause=34;text="not licensed"'
    )


@pytest.mark.parametrize("words", ["", "sip-trunk-channels away=maybe", "sip-trunk-channels refuse=200", "x color=red"])
def test_a_mistake_in_the_words_refuses_and_is_logged(daemon: StandIn, ksr: Ksr, routes: Routes, words: str) -> None:
    assert routes.acquire_license(None, words) == -1
    assert daemon.asked() == []
    assert (ksr.told("status"), ksr.told("reason")) == (503, "refused")
    (line,) = ksr.log
    assert line.startswith("error: featurekey: ")


@given(st.text())
def test_no_words_are_beyond_reading(text: str) -> None:
    words = read_words(text)
    assert words.mistake or words.wants


def test_several_features_and_instances_are_wanted_at_once() -> None:
    assert read_words("a b:3 port=p").wants == (Want("a"), Want("b", 3))


# Emergency.


@pytest.mark.parametrize("words", [WORDS, f"{WORDS} away=closed", "no such=word", ""])
def test_an_emergency_call_passes_with_no_daemon_and_whatever_the_words(ksr: Ksr, routes: Routes, words: str) -> None:
    ksr.pv.values["$rU"] = "112"
    assert routes.acquire_license(None, words) == 1
    assert (ksr.told("reason"), ksr.told("class")) == ("emergency", "emergency")


@pytest.mark.parametrize(
    ("uri", "user"),
    [
        ("sip:%31%31%32@gw", "%31%31%32"),
        ("sip:1-1-2@gw", "1-1-2"),
        ("sip:112;phone-context=x@gw", "112;phone-context=x"),
        ("urn:service:sos", ""),
        ("URN:service:sos.police", ""),
    ],
)
def test_an_emergency_call_passes_in_every_form(ksr: Ksr, routes: Routes, uri: str, user: str) -> None:
    ksr.pv.values |= {"$ru": uri, "$rU": user}
    assert routes.acquire_license(None, WORDS) == 1
    ksr.pv.values |= {"$ru": "urn:service:counseling", "$rU": ""}
    assert routes.acquire_license(None, WORDS) == -1


def test_an_emergency_call_passes_with_settings_that_are_no_use(ksr: Ksr, routes: Routes) -> None:
    ksr.pv.values |= {"$rU": "911", "$shv(featurekey_holder)": "k" * 65}
    assert routes.acquire_license(None, WORDS) == 1
    ksr.pv.values["$rU"] = "100"
    assert routes.acquire_license(None, WORDS) == -1


def test_the_number_of_an_emergency_call_is_kept_for_the_list_and_no_other_number(ksr: Ksr, routes: Routes) -> None:
    for number, kept in (("112", True), ("113 x", False)):
        ksr.pv.values["$rU"] = number
        routes.acquire_license(None, f"{TRUNK} class=emergency")
        assert ksr.kept() == f"{TRUNK}:1 class=emergency{' dialed=112' if kept else ''} key={KEY}"


def test_the_emergency_numbers_of_the_site_count_locally(ksr: Ksr, routes: Routes) -> None:
    ksr.pv.values |= {"$rU": "110", "$shv(featurekey_emergency)": "110 112"}
    assert routes.acquire_license(None, WORDS) == 1


def test_a_call_is_listed_in_the_class_that_it_was_granted_in(daemon: StandIn, ksr: Ksr, routes: Routes) -> None:
    routes.acquire_license(None, f"{WORDS} class=callback")
    assert ksr.kept() == f"{TRUNK}:1 port=trunk:carrier-a class=normal key={KEY}"
    daemon.on("Acquire", {"allowed": True, "reason": "emergency_callback"})
    routes.acquire_license(None, f"{WORDS} class=callback")
    assert ksr.kept() == f"{TRUNK}:1 port=trunk:carrier-a class=callback key={KEY}"


# What a far end chooses.


def test_bytes_that_are_no_text_make_no_two_calls_one(daemon: StandIn, ksr: Ksr, routes: Routes) -> None:
    keys = []
    for call_id in (b"\xff@host", b"\xfe@host"):
        ksr.pv.values["$ci"] = call_id
        assert routes.acquire_license(None, WORDS) == 1
        keys.append(daemon.parameters()["key"])
    assert len(set(keys)) == 2


def test_a_call_id_of_any_length_and_content_is_asked_for_and_released_by_one_key(
    daemon: StandIn, ksr: Ksr, routes: Routes
) -> None:
    ksr.pv.values["$ci"] = "x\0 key=y\n" * 500
    assert routes.acquire_license(None, WORDS) == 1
    routes.release_license(None)
    acquired, released = daemon.parameters(0)["key"], daemon.parameters(1)["key"]
    assert acquired == released
    assert len(acquired) <= MAX_KEY
    assert str(ksr.kept()).isprintable()


# The rest of a call.


def test_an_answered_call_gives_back_what_it_held_for_its_set_up(daemon: StandIn, ksr: Ksr, routes: Routes) -> None:
    routes.acquire_license(None, WORDS)
    assert routes.answer_license(None) == 1
    asked = {"holder": "kamailio", "key": KEY, "wants": [{"feature": TRUNK, "instances": 1}], "phase": "established"}
    assert daemon.parameters() == asked


def test_an_end_releases_by_the_key_of_the_dialog_whatever_message_comes(
    daemon: StandIn, ksr: Ksr, routes: Routes
) -> None:
    routes.acquire_license(None, WORDS)
    ksr.pv.values |= {"$ci": "made-up", "$ft": "made-up"}
    assert routes.release_license(None) == 1
    assert daemon.asked() == [f"Acquire {KEY}", f"Release {KEY}"]


def test_a_dialog_that_never_asked_is_left_alone(daemon: StandIn, routes: Routes) -> None:
    assert routes.answer_license(None) == routes.release_license(None) == 1
    assert daemon.asked() == []


# The list of calls.


def test_the_list_has_each_call_once_with_its_words(daemon: StandIn, ksr: Ksr, routes: Routes) -> None:
    daemon.on("Sync", {"adopted": 0, "changed": 0, "freed": 0, "held": 2})
    words = f"{TRUNK}:1 vcm-channels:2 port=trunk:b channel=3 class=emergency dialed=112"
    ksr.jsonrpcs.results["dlg.list"] = [dialog(), dialog(), dialog("other", words, state=1), dialog(None)]
    assert routes.sync_calls(None) == 1
    sent = daemon.parameters()
    assert (sent["scope"], sent["ttl_seconds"]) == ("calls", CALLS_TTL)
    assert sent["leases"] == [
        {"key": KEY, "wants": [{"feature": TRUNK, "instances": 1}], "class": "normal"},
        {
            "key": "other",
            "wants": [{"feature": TRUNK, "instances": 1}, {"feature": "vcm-channels", "instances": 2}],
            "port": "trunk:b",
            "channel": "3",
            "class": "emergency",
            "dialed": "112",
        },
    ]


def test_calls_that_are_over_or_were_never_acknowledged_are_left_out(daemon: StandIn, ksr: Ksr, routes: Routes) -> None:
    daemon.on("Sync", {"adopted": 0, "changed": 0, "freed": 0, "held": 1})
    young, old = NO_ACK_SECONDS - 1, NO_ACK_SECONDS
    ksr.jsonrpcs.results["dlg.list"] = [
        dialog("a", state=5),
        dialog("b", state=3, age=young),
        dialog("c", state=3, age=old),
    ]
    routes.sync_calls(None)
    assert [lease["key"] for lease in daemon.parameters()["leases"]] == ["b"]


def test_a_list_with_bytes_that_are_no_text_is_sent(daemon: StandIn, ksr: Ksr, routes: Routes) -> None:
    daemon.on("Sync", {"adopted": 0, "changed": 0, "freed": 0, "held": 1})
    body = json.dumps({"result": [dialog("kä", age=1)]}, ensure_ascii=False).encode()
    ksr.jsonrpcs.results["dlg.list"] = body.replace(b"not looked at", b"\xff")
    routes.sync_calls(None)
    assert [lease["key"] for lease in daemon.parameters()["leases"]] == ["kä"]


def test_trouble_with_the_list_is_logged_when_it_begins_and_when_it_ends(
    absent: StandIn, ksr: Ksr, routes: Routes
) -> None:
    absent.on("Sync", {"adopted": 0, "changed": 0, "freed": 0, "held": 1})
    assert [routes.sync_calls(None) for _ in range(3)] == [1, 1, 1]
    ksr.jsonrpcs.results["dlg.list"] = []
    routes.sync_calls(None)
    absent.appear()
    routes.sync_calls(None)
    routes.sync_calls(None)
    assert [line.partition(":")[0] for line in ksr.log] == ["error", "notice"]


def test_a_standby_says_whom_it_takes_over_from_the_moment_that_it_is_told(
    daemon: StandIn, ksr: Ksr, routes: Routes
) -> None:
    daemon.on("Sync", {"adopted": 0, "changed": 0, "freed": 0, "held": 0})
    ksr.jsonrpcs.results["dlg.list"] = []
    routes.sync_calls(None)
    assert "takes_over" not in daemon.parameters()
    ksr.pv.values["$shv(featurekey_takes_over)"] = "switch-a"  # by kamcmd pv.shvSet
    routes.sync_calls(None)
    assert daemon.parameters()["takes_over"] == "switch-a"


# Phones.


def phone(address: str, *expires: object) -> dict[str, Any]:
    contacts = [{"Contact": {"Address": "sip:x", "Expires": it}} for it in expires]
    return {"Info": {"AoR": address, "Contacts": contacts}}


@pytest.mark.parametrize(("use_domain", "key"), [(None, "201"), ("1", "201@site.org")])
def test_a_phone_is_known_by_the_address_that_it_registers(
    daemon: StandIn, ksr: Ksr, routes: Routes, use_domain: str | None, key: str
) -> None:
    ksr.pv.values["$shv(featurekey_use_domain)"] = use_domain
    assert routes.acquire_phone(None, "third-party-ip-endpoints refuse=403") == 1
    assert routes.release_phone(None) == 1
    assert daemon.asked() == [f"Acquire {key}", f"Release {key}"]
    assert ksr.kept() is None


def test_the_list_of_phones_has_those_with_a_contact_that_is_good(daemon: StandIn, ksr: Ksr, routes: Routes) -> None:
    daemon.on("Sync", {"adopted": 0, "changed": 0, "freed": 0, "held": 2})
    phones = [phone("201", 60), phone("202", "expired"), phone("203", "deleted", "permanent"), phone("204")]
    phones += [phone("201", 5), phone("", 60)]
    ksr.jsonrpcs.results["ul.dump"] = {"Domains": [{"Domain": {"Domain": "location", "AoRs": phones}}]}
    routes.sync_phones(None, "third-party-ip-endpoints")
    sent = daemon.parameters()
    assert (sent["scope"], sent["ttl_seconds"]) == ("registrations", PHONES_TTL)
    assert [lease["key"] for lease in sent["leases"]] == ["201", "203"]


def test_a_phone_without_a_name_is_refused_and_releases_nothing(daemon: StandIn, ksr: Ksr, routes: Routes) -> None:
    ksr.pv.values["$tU"] = None
    assert routes.acquire_phone(None, "third-party-ip-endpoints") == -1
    assert routes.release_phone(None) == 1
    assert daemon.asked() == []


# The page.


def test_the_page_explains_every_setting_option_and_answer(daemon: StandIn, ksr: Ksr, routes: Routes) -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "kamailio.md").read_text(encoding="utf-8")
    script = (root / "client" / "kamailio_script.py").read_text(encoding="utf-8")
    routes.acquire_license(None, WORDS)
    names = re.findall(r'_(?:setting|number)\("(\w+)"', script)
    names += [name.removeprefix("$avp(featurekey_").rstrip(")") for name in ksr.pv.values if name.startswith("$avp")]
    assert len(names) > 12
    assert [name for name in names if f"`{name}`" not in page] == []
    assert [name for name in ("port", "channel", "class", "away", "refuse") if f"| `{name}=" not in page] == []


# Loading.


def test_kamailio_gets_an_object_that_opens_nothing(daemon: StandIn, ksr: Ksr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "KSR", ksr)
    assert mod_init().child_init(1) == 0
    assert daemon.connections == 0


def test_no_module_of_this_folder_hides_one_of_python() -> None:
    """Kamailio puts the folder of the script first where Python looks for modules."""
    folder = Path(sys.modules[Routes.__module__].__file__ or "").parent
    names = {path.stem for path in folder.glob("*.py")}
    assert "kamailio_script" in names
    assert names & set(sys.stdlib_module_names) == set()
