"""The Feature Key as it was seen, held against its certificate."""

from __future__ import annotations

import msgspec

from .certificate import Certificate
from .findings import Finding, Verdict, refuse

PRESENT = "present"


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence: what one look at the Feature Key found; `state` is `present` or says what went wrong."""

    state: str
    finding: str
    reader: str
    kind: str | None = None
    hardware_id: str | None = None
    assurance: str | None = None
    simulated: bool = False
    challenge: bytes | None = None
    """The challenge that was put to the key, where it can answer one."""
    answer: bytes | None = None


NOT_LOOKED_YET = Sighting(state="not-looked-yet", finding="Nobody has looked for the Feature Key yet.", reader="")


def judged(sighting: Sighting, certificate: Certificate | None) -> Sighting:
    """The sighting with the state that the certificate gives it: the right key, another one, or a wrong answer."""
    if sighting.state != PRESENT:
        return sighting
    if certificate is None:
        return _as(sighting, "uncertified", "A Feature Key is there, and its certificate is not imported yet.")
    refusal = refuse_certificate(certificate, sighting)
    if refusal is not None:
        return _as(sighting, "wrong-key", refusal.message)
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


def _as(sighting: Sighting, state: str, finding: str) -> Sighting:
    return msgspec.structs.replace(sighting, state=state, finding=finding)
