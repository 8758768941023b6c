"""What is wrong, as the daemon's answers show it: each fault with its cause and its cure, in the order of weight.

Pure: replies in, faults out. What is looked at on this side of the socket stands in `surroundings`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .console import span
from .reading import member, needed, objects

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SOON_DAYS = 30
"""A license that ends within these days is told: time to order another."""

SILENT_SECONDS = 300
"""A switch with calls that announced how long it may be silent is told as silent after this, or later if it said so."""

DRIFT_SECONDS = 86_400
"""Drift is told for a day: an older one is mended and forgotten."""

FULL_PERCENT = 95
"""From here on a file system is nearly full."""

LEAST_FREE = 16 << 20
"""Bytes that the state and the log need at least to go on for a while."""


MOST_NAMED = 5
"""Licenses of a kind that are named: what one takes in at a glance; featurekeyctl licenses has them all."""

RECENT_SECONDS = 600
"""A program that was turned away is told for so long: one that goes on trying is turned away anew each minute."""


class Severity(enum.StrEnum):
    """How much a fault matters."""

    FAULT = "fault"
    """Calls are refused by it, or will be."""
    WARNING = "warning"
    """Calls go on; it should be looked after."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong; `name` is stable, for programs."""

    name: str
    severity: Severity
    what: str
    cause: str
    cure: str
    effect: str = ""
    """What it does, for the sentence about its cause where that is found as well."""

    def as_json(self) -> dict[str, str]:
        """For programs."""
        return {
            "name": self.name,
            "severity": str(self.severity),
            "what": self.what,
            "cause": self.cause,
            "cure": self.cure,
        }


def in_status(reply: Mapping[str, Any]) -> Iterator[Fault]:
    """What Status shows."""
    yield from _in_standing(reply)
    yield from _in_key(reply)
    yield from _in_clock_and_host(reply)
    yield from _in_holders(reply)
    yield from _in_use(reply)
    if reply.get("simulated"):
        cause = "The reader of the settings is a simulated one, which takes only certificates for tests."
        yield _warning(
            "simulated", "Something of this system is simulated.", cause, "Name a real reader under [feature_key]."
        )


def _in_standing(reply: Mapping[str, Any]) -> Iterator[Fault]:
    standing, grace = reply.get("standing"), objects(reply, "grace")
    if reply.get("serial") is None:
        yield _fault(
            "not_certified",
            "No Feature Key certificate is imported: nothing is licensed.",
            "The system was never licensed, its certificate is not believed, or its state was set aside.",
            "featurekeyctl request --output FILE, send it to the vendor, and: featurekeyctl certificate import ANSWER",
        )
    elif standing == "deactivated" and not grace:
        yield _fault(
            "retired",
            "The vendor has retired the serial of this system.",
            "A signed answer of the vendor says so, and no grace stands against it.",
            "Import what the vendor sent with the Feature Key that replaced it: featurekeyctl certificate import FILE",
        )
    for cause in grace:
        left = needed(cause, "seconds_left", int)
        then = str(cause.get("consequence"))
        effect = f"In {span(left)} {then}." if left else f"Its time is over: {then}."
        yield Fault(
            str(cause.get("cause")),
            Severity.WARNING if left else Severity.FAULT,
            f"{_words(cause.get('cause'))}. {effect}",
            "Its budget of time is running." if left else "It has lasted longer than its budget of time.",
            str(cause.get("remedy")),
            effect,
        )
    if reply.get("edition") == "unlicensed" and reply.get("serial") is not None:
        yield _warning(
            "edition_unlicensed",
            "The edition of this product is not licensed.",
            "Licenses that need it wait for it.",
            "Order the edition: featurekeyctl features shows what waits for it.",
        )


_KEY_FAULTS = {
    "absent": (
        "It is not plugged in, its reader has no power, or [feature_key] reader of the settings names another place.",
        "Put it in, firmly; then: featurekeyctl key",
    ),
    "no-permission": (
        "The user featurekeyd may not open the device: the udev rules of the package did not apply to it.",
        "udevadm control --reload && udevadm trigger, or plug it in anew; then: featurekeyctl key",
    ),
    "busy": (
        "Another program holds the device open, such as ModemManager or a terminal program.",
        "End that program (run as root, this names it); the package's udev rules keep ModemManager away.",
    ),
    "garbled": (
        "The reader answers, and not as it should: a bad contact, or another program on the same port.",
        "Plug the reader in anew, clean the contacts, try another cable or port; then: featurekeyctl key",
    ),
    "wrong-key": (
        "Another Feature Key is plugged in than the one that the certificate names.",
        "Put the right one in, or import what the vendor sent with this one: featurekeyctl certificate import FILE",
    ),
    "wrong-answer": (
        "The key has the right number and does not know the secret: it was programmed anew, or is a copy.",
        "Put the genuine key in, or ask the vendor to certify this one anew.",
    ),
    "uncertified": (
        "A key is there, and no certificate for it is imported.",
        "featurekeyctl request --output FILE, send it to the vendor, and: featurekeyctl certificate import ANSWER",
    ),
    "unconfigured": (
        "The USB key has no secret in the slot that is used.",
        "Only the vendor can program it: ask for a programmed one.",
    ),
    "touch-required": (
        "The USB key is programmed to wait for a touch, which no daemon gives.",
        "Ask the vendor for one that is programmed without it.",
    ),
    "unsupported": (
        "A device is there that is no Feature Key of a known kind.",
        "Put the vendor's key in; featurekeyctl key",
    ),
    "fault": ("The reader or the system reports an error.", "Plug it in anew; dmesg shows what the kernel says of it."),
    "not-looked-yet": (
        "The first look is not over: a slow or hanging reader.",
        "Wait some seconds; then: featurekeyctl key",
    ),
}


def _in_key(reply: Mapping[str, Any]) -> Iterator[Fault]:
    key = needed(reply, "feature_key", dict)
    state = str(key.get("state"))
    if state == "present" or (state == "uncertified" and reply.get("serial") is None):
        return
    unknown = ("The daemon says so.", "featurekeyctl key shows what is found.")
    cause, cure = _KEY_FAULTS.get(state, unknown)
    spent = reply.get("standing") == "deactivated"
    what = f"The Feature Key is not usable ({state}) at {key.get('reader')}: {key.get('finding')}"
    yield Fault(f"key_{state.replace('-', '_')}", Severity.FAULT if spent else Severity.WARNING, what, cause, cure)


def _in_clock_and_host(reply: Mapping[str, Any]) -> Iterator[Fault]:
    if reply.get("clock") in _CLOCK:
        yield _warning(f"clock_{reply['clock']}", *_CLOCK[str(reply["clock"])])
    if reply.get("host") == "changed":
        yield _warning(
            "host_is_changed",
            "This is not the host that was enrolled.",
            "Hardware or its address was replaced, or the disk was moved to another host.",
            "featurekeyctl host shows each part; featurekeyctl host enroll within the window, or the vendor's permit.",
        )
    if reply.get("check_passed") is False:
        yield _warning(
            "check_failing",
            "The last check of this system failed.",
            "Key, signatures, host, dates, state or the vendor's answer are not as they should be.",
            "featurekeyctl check names each, with its cure.",
        )


_CLOCK = {
    "set_back": (
        "The clock is more than an hour behind what it has been.",
        "It was ahead before, its battery is empty, or somebody set it.",
        "Set it: timedatectl. If it was ahead before and is right now: featurekeyctl clock repair",
    ),
    "ahead": (
        "The clock is far ahead of what the time explains that has passed.",
        "Somebody set it, or a time server is wrong; dated licenses will follow it step by step.",
        "Set it: timedatectl. If it is right: featurekeyctl clock repair",
    ),
    "unset": (
        "The clock was never set.",
        "The host has no battery for its clock, and no time server was reached since it booted.",
        "See that it gets its time: timedatectl",
    ),
}


def _in_holders(reply: Mapping[str, Any]) -> Iterator[Fault]:
    for holder in objects(reply, "holders"):
        name, silent = holder.get("holder"), needed(holder, "silent_seconds", int)
        ttl = member(holder, "ttl_seconds", int)  # who only asks is silent as long as nobody calls
        if ttl is not None and silent >= max(SILENT_SECONDS, ttl) and needed(holder, "leases", int):
            yield _warning(
                "holder_silent",
                f"{name} holds {number_of(holder['leases'], 'lease')} and has been silent for {span(silent)}.",
                f"It announced to be silent for {span(ttl)} at most: it is stopped or hung, or it lost the socket.",
                "Is it running, and is its user in the group featurekey? featurekeyctl holders",
            )
        drifted = member(holder, "drift_seconds", int)
        if drifted is not None and drifted < DRIFT_SECONDS:
            times = needed(holder, "drift", int) + needed(holder, "channel_drift", int)
            yield _warning(
                "holder_drifts",
                f"What {name} has and what is counted differed {_times(times)}, last {span(drifted)} ago.",
                "Its requests or releases are lost on the way; its lists mended the count each time.",
                "A few after a restart are normal. Else compare sync_drift in the journal with the log of the switch.",
            )


def _in_use(reply: Mapping[str, Any]) -> Iterator[Fault]:
    for over in objects(reply, "over_use"):
        yield _fault(
            "over_use",
            f"{over.get('in_use')} of {over.get('feature')} are in use, and {over.get('limit')} are allowed.",
            "The limit fell while they were up. None is cut, and new ones are refused until fewer are in use.",
            f"featurekeyctl leases --feature {over.get('feature')} shows who holds them; order more, or wait.",
        )
    for port in objects(reply, "ports"):
        if needed(port, "in_use", int) >= needed(port, "ceiling", int):
            yield _warning(
                "port_full",
                f"{port['in_use']} calls are on {port.get('port')}, and its ceiling is {port['ceiling']}.",
                "The contract of that trunk is used up, whatever is licensed.",
                "Wait until a call on it ends, or change [ceilings] in featurekeyd.toml: systemctl reload featurekeyd",
            )
    claims = needed(reply, "emergency_claims", int)
    if claims:
        yield _warning(
            "emergency_claims",
            f"{number_of(claims, 'call')} claimed as emergency, and the number is not listed.",
            "The switch marks other calls as emergencies, or the settings lack a number.",
            "Add the number under [emergency] in featurekeyd.toml, or mend the switch; the journal has each call. "
            "They are counted until the vendor has answered a check.",
        )


def in_licenses(found: list[dict[str, Any]]) -> Iterator[Fault]:
    """What ListLicenses shows; licenses that lack the same are one fault."""
    alike: dict[tuple[str, str, Severity], list[str]] = {}
    licensed = {str(row.get("feature")) for row in found if row.get("status") == "valid"}
    for row in found:
        status, title = str(row.get("status")), f"{row.get('title')} ({row.get('key')})"
        days = member(row, "days_left", int)
        if status in _LICENSE:
            otherwise = row.get("feature") is not None and str(row["feature"]) in licensed
            severity = Severity.WARNING if otherwise and status == "expired" else _LICENSE[status][0]
            alike.setdefault((status, str(row.get("finding")), severity), []).append(title)
        elif days is not None and days <= SOON_DAYS:
            yield _warning(
                "license_ends_soon",
                f"The license for {title} ends in {number_of(days, 'day')}, on {row.get('expires')}.",
                "It is a trial." if row.get("trial") else "Its term comes to an end.",
                "Order another one in time.",
            )
    for (status, finding, severity), titles in alike.items():
        yield Fault(f"license_{status}", severity, _about_licenses(titles, status), finding, _LICENSE[status][1])


def _about_licenses(titles: list[str], status: str) -> str:
    if len(titles) == 1:
        return f"The license for {titles[0]} is {status}."
    more = f" and {len(titles) - MOST_NAMED} more" if len(titles) > MOST_NAMED else ""
    return f"{len(titles)} licenses are {status}: {', '.join(titles[:MOST_NAMED])}{more}."


_LICENSE = {
    "expired": (Severity.FAULT, "Order a new one, or remove it: featurekeyctl remove KEY"),
    "invalid": (Severity.FAULT, "Put the Feature Key in that it was issued for; featurekeyctl key"),
    "dormant": (Severity.WARNING, "Order what it waits for; featurekeyctl features shows what is there."),
    "unknown": (Severity.WARNING, "Import the vendor's newest list within its time: featurekeyctl import LIST.csv"),
    "obsolete": (Severity.WARNING, "See [product] platform and release in featurekeyd.toml, or leave it."),
}


def in_surroundings(reply: Mapping[str, Any]) -> Iterator[Fault]:
    """What Diagnose shows, but for who is silent."""
    keys, in_use = _texts(reply, "vendor_keys"), _texts(reply, "vendor_keys_in_use")
    for wrong in _texts(reply, "vendor_keys_wrong"):
        yield _fault(
            "vendor_key_bad", f"A vendor key cannot be used: {wrong}.", "The file is damaged or is no key.", _KEYS
        )
    if not keys:
        what = "No public key of the vendor is installed: nothing signed is believed."
        yield _fault("no_vendor_key", what, "The vendor's package is missing, or [paths] vendor_keys is wrong.", _KEYS)
    elif keys != in_use:
        what = "The vendor's keys on disk are others than those in use."
        yield _warning(
            "vendor_keys_changed", what, "They were changed since the daemon read them.", "systemctl reload featurekeyd"
        )
    for place in objects(reply, "places"):
        yield from _in_place(place)
    usable = {str(place.get("name")) for place in objects(reply, "places") if place.get("problem") is None}
    for trouble in objects(reply, "troubles"):
        yield from _in_trouble(trouble, usable)


_KEYS = "Install the vendor's public key (*.pub) where [paths] vendor_keys says; then: systemctl reload featurekeyd"


def _in_place(place: Mapping[str, Any]) -> Iterator[Fault]:
    name, path = place.get("name"), place.get("path")
    if place.get("problem") is not None:
        if name != "vendor_keys":
            cure = f"Make it writable for the user featurekeyd, or make room: df {path}; ls -ld {path}"
            yield _fault(
                f"{name}_unusable", f"The {name} directory {path} cannot be used.", f"{place['problem']}.", cure
            )
        return
    percent, free = needed(place, "used_percent", int), needed(place, "free_bytes", int)
    if name != "vendor_keys" and (percent >= FULL_PERCENT or free < LEAST_FREE):
        what = f"The file system of {path} is {percent} % full, with {free >> 20} MiB left."
        yield _warning(
            f"{name}_nearly_full", what, "Something fills it.", f"Make room: df {path}; du -xh --max-depth=1 /var"
        )


_TROUBLES = {
    "self_test_failed": (
        "The self-test of the cryptography failed",
        "apt install --reinstall featurekeyd python3-cryptography, and restart the daemon; then test the memory.",
    ),
    "state_set_aside": (
        "The state file was damaged and set aside",
        "featurekeyctl restore FILE brings the last backup; else import certificate and list again.",
    ),
    "state_tampered": (
        "The state file was changed by another program",
        "featurekeyctl check --request FILE, and import the vendor's answer.",
    ),
    "state_refused": (
        "Something stored is not believed",
        "Import the document again from the vendor's mail, or: featurekeyctl restore FILE",
    ),
    "state_not_stored": ("The state could not be stored", "See that its disk has room and is sound; repeat it then."),
    "socket_trouble": ("The socket is not as it should be", "systemctl restart featurekeyd.socket featurekeyd.service"),
    "leases_not_recorded": ("Leases cannot be recorded", "Make room on the file system of the runtime directory."),
    "leases_unreadable": (
        "The record of leases could not be read in whole",
        "Nothing, if the switches send lists; else compare featurekeyctl leases with them.",
    ),
    "host_not_enrolled": (
        "The host could not be enrolled",
        "featurekeyctl host shows what can be read; the message says what is missing.",
    ),
    "settings_refused": (
        "A reload of the settings was refused",
        "featurekeyd --check names each mistake; then: systemctl reload featurekeyd",
    ),
    "client_refused": (
        "A program was turned away at the socket",
        "adduser USER featurekey, and restart its service; or mend the program that breaks a limit.",
    ),
    "log_overflow": ("Log entries were lost", "journalctl --disk-usage; df /var/log /run/log"),
    "unexpected": ("The daemon met an error that nobody foresaw", "featurekeyctl support-bundle, and send it."),
}
"""Entries of the log that are faults by themselves: what they say, and the cure. Others show in the state of things."""


_CAUSES = {
    "self_test_failed": "A library was replaced or is damaged, or memory or processor fail.",
    "state_set_aside": "It was the disk, a crash of the host, or somebody who wrote to it.",
}
"""The cause of those of which the entry says only what was seen."""


def _in_trouble(trouble: Mapping[str, Any], usable: set[str]) -> Iterator[Fault]:
    event, seconds = str(trouble.get("event")), needed(trouble, "seconds_ago", int)
    if event not in _TROUBLES or (event == "client_refused" and seconds > RECENT_SECONDS):
        return
    over = event == "state_not_stored" and "state" in usable
    severity = Severity.WARNING if over or trouble.get("priority") == "warning" else Severity.FAULT
    sentence, cure = _TROUBLES[event]
    times = needed(trouble, "count", int)
    what = f"{sentence}, {span(seconds)} ago" + (f", {times} times since the daemon started." if times > 1 else ".")
    what += " It can be written again now." if over else ""
    cause = f"{trouble.get('message')} {_CAUSES.get(event, '')}".rstrip()
    yield Fault(event, severity, what, cause, cure)


def in_silences(reply: Mapping[str, Any], status: Mapping[str, Any]) -> Iterator[Fault]:
    """Who said how long it may be silent, and has been silent for longer, as Diagnose and Status show together."""
    for trouble in objects(reply, "troubles"):
        since, message = needed(trouble, "seconds_ago", int), str(trouble.get("message"))
        for holder in objects(status, "holders"):
            told = trouble.get("event") == "holder_silent" and message.startswith(f"{holder.get('holder')} fell silent")
            silent = needed(holder, "silent_seconds", int)
            if told and silent >= since and silent < DRIFT_SECONDS:
                yield _warning(
                    "holder_silent",
                    f"{holder.get('holder')} has been silent for {span(silent)}, longer than it said it would be.",
                    "It is stopped or hung, or it cannot reach the socket. Its leases were given back meanwhile.",
                    "Is it running, and is its user in the group featurekey? Its next list brings its calls back.",
                )


def _words(name: object) -> str:
    text = str(name).replace("_", " ")
    return text[:1].upper() + text[1:]


def number_of(count: int, thing: str) -> str:
    """So many of a thing: `1 call`, `2 calls`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _texts(reply: Mapping[str, Any], name: str) -> list[str]:
    return [str(each) for each in member(reply, name, list) or []]


def _fault(name: str, what: str, cause: str, cure: str) -> Fault:
    return Fault(name, Severity.FAULT, what, cause, cure)


def _warning(name: str, what: str, cause: str, cure: str) -> Fault:
    return Fault(name, Severity.WARNING, what, cause, cure)
