"""The script for Kamailio's app_python3: routes ask before a call and give back after it; docs/kamailio.md says how.

It is named in `modparam("app_python3", "load", ...)` and runs in Kamailio's own Python 3.11 with the standard library
and this package only. Rules of this module (facts/telephony.md sections 2, 6 and 7):

* What a route passes is words that the site wrote; what a far end chose (Call-ID, tag, dialed number) is read here from
  the message, and no byte of it can make a call fail or two calls look like one.
* The key is CALLID;tag=FROMTAG, as in the call_control listener. It is kept in a variable of the dialog, because the
  message in dialog:end may be a made-up one, and because dialogs that Kamailio keeps in a database come back with it.
* Every process of Kamailio has a connection and a queue of releases of its own, and what a worker leaves undone the
  list mends, which a process of its own sends every 2 s; see `license`.
* A mistake in the words refuses the call, as a trunk that fails closed does, and is logged. An emergency call passes.

A site with a Python script of its own derives its class from `Routes`.
"""

from __future__ import annotations

import importlib
import json
import time
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import unquote

from featurekeyd.client.answer import EMERGENCY_GRANTED, REFUSED, Answer
from featurekeyd.client.call import DEFAULT_SOCKET, CallError
from featurekeyd.client.callrequest import is_emergency
from featurekeyd.client.license import EMERGENCY_NUMBERS, TIME_LIMIT, LicenseClient, SyncLease
from featurekeyd.client.limits import key_text
from featurekeyd.client.wantsyntax import Want, parse_wants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from featurekeyd.client.license import CallClass, Scope

CALLS_TTL = 7
"""Seconds of silence after which the calls of a Kamailio that died are freed: three rounds of 2 s, and one to spare."""

PHONES_TTL = 35
"""The same for registrations, whose list is longer and sent every 10 s."""

ANSWERED, DELETED = 3, 5
"""States of a dialog: answered and not acknowledged; over and not yet swept out of the list."""

NO_ACK_SECONDS = 40
"""Age at which an answered call that was never acknowledged is none any more: its callee has ended it after 32 s
(RFC 3261 section 13.3.1.4), and Kamailio sweeps it out after 60 to 150."""

PHRASES = {"403": "Forbidden", "480": "Temporarily Unavailable", "486": "Busy Here", "503": "Service Unavailable"}
"""What a call may be refused with (RFC 3261 section 21); 503 unless the words say otherwise."""

NO_CHANNEL, OUT_OF_ORDER = 34, 38
"""Causes of ITU-T Q.850: no circuit or channel available; network out of order, where the daemon was not asked."""

GRANTED_CLASS = {"emergency": "emergency", "emergency_callback": "callback"}
"""Class of a call by the reason that it was granted for; any other is a normal call, whatever it claimed."""

COUNTED = {"limit_reached", "reserved", "others_wait", "ceiling_reached"}
"""Reasons that the numbers explain better than words."""

_KEPT, _KEY = "$dlg_var(featurekey)", " key="
"""The variable of a dialog: the words of its lease, and behind the mark its key."""

_SEPARATORS = str.maketrans("", "", "-.()")
_PLACE = ("port", "channel")
_OPTIONS = {*_PLACE, "class", "away", "refuse"}
_LISTED = ("dialed", *_PLACE)


class Words(NamedTuple):
    """What a route asks for; `mistake` says what is wrong, and is empty where nothing is."""

    wants: tuple[Want, ...]
    options: dict[str, str]
    mistake: str


@lru_cache(maxsize=256)
def read_words(text: str) -> Words:
    """Read words such as `sip-trunk-channels vcm-channels:2 port=trunk:carrier-a away=open`; raises nothing."""
    words = text.split()
    options = {name: value for name, equals, value in (word.partition("=") for word in words) if equals}
    wrong = [f"{name}={value}" for name, value in options.items() if not _is_option(name, value)]
    try:
        wants = parse_wants(word for word in words if "=" not in word)
    except ValueError as error:
        return Words((), options, str(error))
    return Words(wants, options, f"not understood: {' '.join(wrong)}" if wrong else "")


def read_kept(text: str) -> tuple[Words, str]:
    """The words and the key that were kept with a dialog; an empty key where nothing was."""
    words, _, key = text.partition(_KEY)
    return read_words(words), key


def _is_option(name: str, value: str) -> bool:
    allowed = {"away": ("open", "closed"), "refuse": PHRASES}.get(name)
    return name in _OPTIONS and (allowed is None or value in allowed)


def reason_header(answer: Answer) -> str:
    """The value of a Reason header (RFC 3326), for example `Q.850;cause=34;text="4 of 4 channels in use"`."""
    if not answer.from_daemon:
        text = "license daemon refused the question" if answer.reason == REFUSED else "license daemon is away"
        return f'Q.850;cause={OUT_OF_ORDER};text="{text}"'
    text = answer.reason.replace("_", " ")
    if answer.reason in COUNTED and None not in (answer.limit, answer.in_use):
        # The last word of a feature's name is what it counts: sip-trunk-channels, voicemail-pro-ports.
        text = f"{answer.in_use} of {answer.limit} {(answer.feature or 'instances').rpartition('-')[2]} in use"
    return f'Q.850;cause={NO_CHANNEL};text="{text}"'


class Routes:
    """What routes call with `python_exec("METHOD", "WORDS")`: true lets the route go on, false refuses."""

    def __init__(self, ksr: Any) -> None:
        self._ksr = ksr
        self._trouble: dict[str, str] = {}

    def child_init(self, _rank: int) -> int:
        """Kamailio calls it in each new process; nothing is opened before there is something to ask."""
        return 0

    # Calls

    def acquire_license(self, _message: object, text: str = "") -> int:
        """Take what the words say for the call of this INVITE; after t_newtran and before dlg_manage."""
        key, words = key_text(f"{self._text('$ci')};tag={self._text('$ft')}"), read_words(text)
        answer = self._answer(key, words, dialed=dialed_number(self._text("$ru"), self._text("$rU")))
        granted_class = GRANTED_CLASS.get(answer.reason, "normal")
        if answer.allowed and words.wants:
            kept = {name: value for name, value in words.options.items() if name in _PLACE} | {"class": granted_class}
            number = self._text("$rU")
            if granted_class == "emergency" and number in self._emergency_numbers:
                kept["dialed"] = number
            wants = [f"{want.feature}:{want.instances}" for want in words.wants]
            self._ksr.pv.sets(_KEPT, " ".join([*wants, *map("=".join, kept.items())]) + _KEY + key)
        return self._tell(answer, words, granted_class)

    def answer_license(self, _message: object, _text: str = "") -> int:
        """Give back what the call held for its set-up only; in event_route[dialog:start]."""
        words, key = read_kept(self._text(_KEPT))
        if key and words.options.get("class") == "normal":
            self._client.acquire(key, words.wants, phase="established")
        return 1

    def release_license(self, _message: object, _text: str = "") -> int:
        """Give back what the call held; in event_route[dialog:end] and event_route[dialog:failed]."""
        _, key = read_kept(self._text(_KEPT))
        if key:
            self._client.release(key)
        return 1

    def sync_calls(self, _message: object, _text: str = "") -> int:
        """Tell which calls there are; by a timer in a process of its own, every 2 s."""
        return self._sync(
            "calls",
            CALLS_TTL,
            lambda: list_calls(self._rpc("dlg.list"), self._number("no_ack_seconds", NO_ACK_SECONDS)),
        )

    # Phones

    def acquire_phone(self, _message: object, text: str = "") -> int:
        """Take what the words say for the phone of this REGISTER; before save."""
        words = read_words(text)
        return self._tell(self._answer(self._phone_key(), words, dialed=""), words, "normal")

    def release_phone(self, _message: object, _text: str = "") -> int:
        """Give back what the phone of this REGISTER held; after a save that took its last contact away."""
        key = self._phone_key()
        if key:
            self._client.release(key)
        return 1

    def sync_phones(self, _message: object, text: str = "") -> int:
        """Tell which phones are registered, each with these words; by a timer in a process of its own."""
        return self._sync("registrations", PHONES_TTL, lambda: list_phones(self._rpc("ul.dump"), read_words(text)))

    # How

    @cached_property
    def _emergency_numbers(self) -> tuple[str, ...]:
        return tuple(self._setting("emergency").split()) or EMERGENCY_NUMBERS

    @cached_property
    def _client(self) -> LicenseClient:
        numbers = self._emergency_numbers
        holder, path = self._setting("holder") or "kamailio", self._setting("socket") or DEFAULT_SOCKET
        limit = self._number("time_limit_ms", round(TIME_LIMIT * 1000)) / 1000
        return LicenseClient(holder, path, limit, emergency_numbers=numbers)

    def _answer(self, key: str, words: Words, *, dialed: str) -> Answer:
        options = words.options
        try:
            return self._client.acquire(
                key,
                () if words.mistake else words.wants,
                port=options.get("port"),
                channel=options.get("channel"),
                call_class=cast("CallClass | None", options.get("class")),
                dialed=dialed,
                fail_open=options.get("away") == "open",
            )
        except ValueError as error:
            mistake = words.mistake or str(error)
        self._ksr.err(f"featurekey: {mistake}\n")
        if is_emergency(options.get("class"), dialed, EMERGENCY_NUMBERS):
            return EMERGENCY_GRANTED
        return Answer(allowed=False, reason=REFUSED, message=mistake, from_daemon=False)

    def _tell(self, answer: Answer, words: Words, granted_class: str) -> int:
        """Leave the answer for the route in $avp(featurekey_...)."""
        status = words.options.get("refuse", "503")
        told = {name: getattr(answer, name) for name in ("reason", "limit", "in_use", "feature", "fallback", "message")}
        told |= {name: words.options.get(name) for name in _PLACE} | {"class": granted_class}
        told |= {"status": int(status) if status in PHRASES else 503, "phrase": PHRASES.get(status, PHRASES["503"])}
        told |= {"header": reason_header(answer)}
        for name, value in told.items():
            put = self._ksr.pv.seti if isinstance(value, int) else self._ksr.pv.sets
            put(f"$avp(featurekey_{name})", "" if value is None else value)
        return 1 if answer.allowed else -1

    def _sync(self, scope: Scope, ttl: int, leases: Callable[[], Iterator[SyncLease]]) -> int:
        """Send a list; trouble is logged when it begins and when it ends."""
        begun, trouble = time.monotonic(), ""
        try:
            listed = list(leases())
            age = round((time.monotonic() - begun) * 1000)
            earlier = self._setting("takes_over") or None
            self._client.sync(scope, listed, list_age_ms=age, ttl_seconds=ttl, takes_over=earlier)
        except (CallError, ValueError, LookupError, TypeError) as error:
            trouble = f"{type(error).__name__}: {error}"
        before, self._trouble[scope] = self._trouble.get(scope), trouble
        if trouble and not before:
            self._ksr.err(f"featurekey: the list of {scope} was not sent: {trouble}\n")
        elif before and not trouble:
            self._ksr.notice(f"featurekey: the list of {scope} is sent again\n")
        return 1

    def _rpc(self, method: str) -> Any:
        self._ksr.jsonrpcs.exec(json.dumps({"jsonrpc": "2.0", "method": method, "id": 1}))
        # What is no UTF-8 in it is nothing that the list is made of: keys are written as text here.
        return json.loads(self._text("$jsonrpl(body)", "replace"))["result"]

    def _phone_key(self) -> str:
        """The extension, as usrloc has it; no call has the same key, since theirs have a tag."""
        return self._text("$tU") + (f"@{self._text('$td')}" if self._setting("use_domain") == "1" else "")

    def _setting(self, name: str) -> str:
        """What modparam("pv", "shvset", "featurekey_NAME=...") says; empty where it says nothing."""
        value = self._text(f"$shv(featurekey_{name})")
        return "" if value == "0" else value

    def _number(self, name: str, usual: int) -> int:
        said = self._setting(name)
        return int(said) if said.isdecimal() else usual

    def _text(self, variable: str, errors: str = "backslashreplace") -> str:
        try:
            value = self._ksr.pv.get(variable)
        except UnicodeDecodeError as error:
            # Not dropped: two calls must not look like one by it.
            return error.object.decode(errors=errors)
        return "" if value is None else str(value)


def dialed_number(uri: str, user: str) -> str:
    """What a Request-URI with that user part dials, in the form in which emergency numbers are listed.

    Without parameters, escapes (RFC 3261 section 19.1.1) and the separators of a telephone number (RFC 3966 section
    5.1); of a URN all of it.
    """
    if uri.lower().startswith("urn:"):
        return uri.partition(";")[0].lower()
    number = unquote(user.partition(";")[0])
    bare = number.translate(_SEPARATORS)
    return bare if bare.strip("+*#").isdecimal() else number


def list_calls(dialogs: list[dict[str, Any]], no_ack_seconds: int) -> Iterator[SyncLease]:
    """The leases of the dialogs that dlg.list names; those that never asked have none."""
    named = set[str]()
    for dialog in dialogs:
        variables = {name: value for pair in dialog["variables"] for name, value in pair.items()}
        words, key = read_kept(variables.get("featurekey", ""))
        if key and words.wants and key not in named and _goes_on(dialog, no_ack_seconds):
            named.add(key)
            place = {name: words.options.get(name) for name in _LISTED}
            yield SyncLease(key, words.wants, **place, call_class=cast("CallClass | None", words.options.get("class")))


def _goes_on(dialog: dict[str, Any], no_ack_seconds: int) -> bool:
    if dialog["state"] == ANSWERED:
        return int(dialog["duration"]) < no_ack_seconds
    return bool(dialog["state"] != DELETED)


def list_phones(dump: dict[str, Any], words: Words) -> Iterator[SyncLease]:
    """The leases of the phones that ul.dump names with a contact that has not expired, each once."""
    phones = [phone["Info"] for domain in dump["Domains"] for phone in domain["Domain"]["AoRs"]]
    registered = {phone["AoR"]: None for phone in phones if phone["AoR"] and _is_registered(phone["Contacts"])}
    for address in registered:
        yield SyncLease(address, words.wants, port=words.options.get("port"))


def _is_registered(contacts: list[dict[str, Any]]) -> bool:
    return any(contact["Contact"]["Expires"] not in ("expired", "deleted") for contact in contacts)


def mod_init() -> Routes:
    """What app_python3 calls when it has loaded the file."""
    return Routes(importlib.import_module("KSR"))
