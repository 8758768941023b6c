"""The Feature Key as it was seen, held against its certificate, and what a few looks that miss it amount to.

A key that was there and is missed is doubted first: a hub that resets, a garbled answer or another program that probes
the port are over in a moment, and nobody shall be woken for them. What is told and what follows waits until the key is
missed for good; the time without it counts from the first look that missed it all the same, so that nobody gains by
pulling a key only now and then.
"""

from __future__ import annotations

import msgspec

from .certificate import Certificate
from .events import Event, EventName
from .findings import Finding, Verdict, refuse

PRESENT = "present"

FLEETING = frozenset({"absent", "no-permission", "busy", "garbled", "fault"})
"""States that also a good key may be found in for a moment. All others were read from a key: they are believed at once,
as a key is that is back."""

MISSED_LOOKS = 3
"""Looks in a row that miss a key before it counts as missed: a hub that resets takes 1 to 5 s, a look that runs into
it fails, and so may the one that the hub's own news cause right after it."""

MISSED_POLLS = 1.5
"""Polls that these looks must span at least, so that news and people, who cause looks of their own, cannot make them
all fall into one moment. Not 2, because polls are reported with a delay that varies."""


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence: what one look at the Feature Key found; `state` is `present` or says what went wrong."""

    state: str
    finding: str
    reader: str
    kind: str | None = None
    hardware_id: str | None = None
    """Known where the key was read; then `state` may still say why it cannot prove itself."""
    assurance: str | None = None
    simulated: bool = False
    challenge: bytes | None = None
    """The challenge that was put to the key, where it can answer one."""
    answer: bytes | None = None


NOT_LOOKED_YET = Sighting(state="not-looked-yet", finding="Nobody has looked for the Feature Key yet.", reader="")


class Debounce(msgspec.Struct, frozen=True):
    """How long a key is doubted before it counts as missed: so many looks in a row, over so many seconds."""

    looks: int = 1
    seconds: float = 0.0

    @classmethod
    def of_polls(cls, poll_seconds: float) -> Debounce:
        """What goes with looks that are so many seconds apart: with 5 s, a key is missed some 10 s after it went."""
        return cls(MISSED_LOOKS, MISSED_POLLS * poll_seconds)


class Presence:
    """What the looks at the Feature Key amount to; unless told otherwise every look is believed at once."""

    def __init__(self, debounce: Debounce = Debounce()) -> None:  # noqa: B008 - it is immutable
        self._debounce = debounce
        self.believed = NOT_LOOKED_YET
        """The newest sighting that counts, before it is held against a certificate."""
        self.missed: Sighting | None = None
        """What the newest look found in place of the key that is still believed in; None where nothing is in doubt."""
        self.missed_since: float | None = None
        """Boot time of the first of the looks in a row that missed the key; None where the newest did not."""
        self._missed_looks = 0

    @property
    def in_doubt(self) -> bool:
        """Whether the key was there and is missed now: its time drains, and nobody is told yet."""
        return self.missed is not None

    def look(self, sighting: Sighting, boot: float) -> None:
        """Take in what a look found at that boot time, in seconds."""
        if sighting.state not in FLEETING:
            self.believed, self.missed, self.missed_since, self._missed_looks = sighting, None, None, 0
            return
        if self.missed_since is None:
            self.missed_since = boot
        self._missed_looks += 1
        if self._is_known_to_be_gone(boot):
            self.believed, self.missed = sighting, None
        else:
            self.missed = sighting

    def _is_known_to_be_gone(self, boot: float) -> bool:
        if self.believed.hardware_id is None:
            return True  # it was not there before either
        assert self.missed_since is not None
        enough = self._missed_looks >= self._debounce.looks
        return enough and boot - self.missed_since >= self._debounce.seconds

    def judged(self, certificate: Certificate | None) -> Sighting:
        """What counts, held against the certificate; the finding says where it is in doubt."""
        seen = judged(self.believed, certificate)
        if self.missed is None:
            return seen
        doubt = f"{seen.finding} The newest look did not find it ({self.missed.state}: {self.missed.finding})."
        return _as(seen, seen.state, doubt)


def judged(sighting: Sighting, certificate: Certificate | None) -> Sighting:
    """The sighting with the state that the certificate gives it: the right key, another one, or a wrong answer."""
    if sighting.state != PRESENT and sighting.hardware_id is None:
        return sighting
    if certificate is None:
        return _as(sighting, "uncertified", "A Feature Key is there, and its certificate is not imported yet.")
    refusal = refuse_certificate(certificate, sighting)
    if refusal is not None:
        return _as(sighting, "wrong-key", refusal.message)
    if sighting.state != PRESENT:
        return sighting
    return _proved(sighting, certificate) if certificate.pairs else _as(sighting, PRESENT, f"{_named(certificate)}.")


def _proved(sighting: Sighting, certificate: Certificate) -> Sighting:
    challenge, answer = sighting.challenge, sighting.answer
    if challenge is None:
        # Seen before the certificate was there: the next look puts a challenge to it.
        return _as(sighting, NOT_LOOKED_YET.state, "The Feature Key is there and was not asked to prove itself yet.")
    if answer is None or not certificate.answered_by(challenge, answer):
        return _as(
            sighting, "wrong-answer", "The Feature Key has the right number and does not prove the right secret."
        )
    return _as(sighting, PRESENT, f"{_named(certificate)} and proved itself.")


def _named(certificate: Certificate) -> str:
    return f"The Feature Key with serial {certificate.serial} is there"


def refuse_certificate(certificate: Certificate, sighting: Sighting) -> Finding | None:
    """Why this certificate is not for the hardware that was seen, None where it is."""
    if sighting.hardware_id is None:
        return refuse(Verdict.KEY_NOT_READABLE, f"The Feature Key cannot be read: {sighting.finding}")
    if (sighting.kind, sighting.hardware_id) != (certificate.kind, certificate.hardware_id):
        message = (
            f"The certificate of serial {certificate.serial} is for {certificate.kind} {certificate.hardware_id}; "
            f"here is {sighting.kind} {sighting.hardware_id}."
        )
        return refuse(Verdict.OTHER_HARDWARE, message)
    if sighting.simulated != certificate.test:
        sort = "simulated and takes only a certificate marked test" if sighting.simulated else "real"
        marked = "is" if certificate.test else "is not"
        return refuse(Verdict.TEST_MISMATCH, f"The Feature Key is {sort}, and the certificate {marked} marked test.")
    return None


def told_change(before: Sighting, seen: Sighting, serial: str | None) -> list[Event]:
    """What is told where another Feature Key counts than before, or another state of it."""
    same = (seen.state, seen.hardware_id) == (before.state, before.hardware_id)
    if same or seen.state == NOT_LOOKED_YET.state:
        return []
    name = EventName.FEATURE_KEY_FOUND if seen.state == PRESENT else EventName.FEATURE_KEY_TROUBLE
    fields = {"STATE": seen.state, "READER": seen.reader, "SERIAL": serial or ""}
    return [Event(name=name, message=f"Feature Key {seen.state}: {seen.finding}", fields=fields)]


def _as(sighting: Sighting, state: str, finding: str) -> Sighting:
    return msgspec.structs.replace(sighting, state=state, finding=finding)
