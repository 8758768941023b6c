"""Applications: the best mode at or below the one asked for.

Each mode is ruled on like a request for what that mode takes, all of it or nothing, in the catalog's order; the first
that is allowed counts, and holder and key have one lease whatever the mode. A mode that takes nothing is granted in
every standing: it needs no license (facts/catalog.md section 2, rule 16), and what the key held is given back.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .catalog import ApplicationMode
from .decision import ALLOWING, Claim, Decision, Ruling, Situation, Step, carry_out, decided, rule, walk
from .instant import Now
from .reasons import MEANING, Reason
from .requests import Request, Want


class _Attempt(msgspec.Struct, frozen=True):
    """What was found about one mode; None where the catalog has no such mode."""

    mode: ApplicationMode | None
    claim: Claim
    ruling: Ruling


def decide_application(
    situation: Situation, request: Request, now: Now, uid: int, bound: int | None
) -> tuple[Decision, Claim]:
    """Rule on the request and carry out the best mode that is allowed."""
    attempts = list(_attempts(situation, request, now, uid))
    last = attempts[-1]
    situation.waiting.leave(request.holder, request.key)  # it falls back instead
    if last.ruling.reason in ALLOWING:
        carry_out(last.claim, last.ruling.reason, bound)
    return _decided(attempts), last.claim


def explain_application(situation: Situation, request: Request, now: Now, uid: int) -> tuple[Decision, list[Step]]:
    """What would be decided, and the steps of each mode behind a step `mode` that names it."""
    attempts = list(_attempts(situation, request, now, uid))
    steps = [step for attempt in attempts for step in _steps(attempt, request)]
    return _decided(attempts), steps


def _attempts(situation: Situation, request: Request, now: Now, uid: int) -> Iterator[_Attempt]:
    """The modes that were tried, each with its ruling; all but the last are denied."""
    modes = _modes(situation, request)
    if not modes:
        claim, ruling = _ruled(situation, request, (), now, uid)
        allowed = ruling.reason in ALLOWING
        yield _Attempt(None, claim, ruling if allowed else Ruling(Reason.UNKNOWN_APPLICATION, _named(request)))
    for mode in modes:
        claim, ruling = _ruled(situation, request, mode.wants, now, uid)
        if not mode.wants and ruling.reason not in ALLOWING:
            ruling = Ruling(Reason.GRANTED)
        yield _Attempt(mode, claim, ruling)
        if ruling.reason in ALLOWING:
            return


def _modes(situation: Situation, request: Request) -> tuple[ApplicationMode, ...]:
    """The mode asked for and those below it; empty where the catalog has no such mode."""
    application = situation.catalog.applications.get(request.application or "")
    if application is None or request.mode is None:
        return application.modes if application else ()
    places = [place for place, mode in enumerate(application.modes) if mode.id == request.mode]
    return application.modes[places[0] :] if places else ()


def _ruled(situation: Situation, request: Request, wants: tuple[str, ...], now: Now, uid: int) -> tuple[Claim, Ruling]:
    wanted = tuple(Want(feature) for feature in wants)
    # An application falls back instead of waiting.
    asked = msgspec.structs.replace(request, wants=wanted, application=None, mode=None, wait=None)
    claim = Claim(situation, asked, uid, now)
    return claim, rule(claim)


def _decided(attempts: list[_Attempt]) -> Decision:
    first, last = attempts[0], attempts[-1]
    decision = decided(last.claim, last.ruling)
    if last.mode is None:
        return decision
    if first is not last:
        # The numbers and the sentence are those of the mode that was asked for: they say why it is not that one.
        denied = decided(first.claim, first.ruling)
        decision = msgspec.structs.replace(denied, allowed=True, reason=Reason.FALLEN_BACK, fallback=None)
    return msgspec.structs.replace(decision, mode=last.mode.id)


def _steps(attempt: _Attempt, request: Request) -> list[Step]:
    walked = walk(attempt.claim)[1]
    if attempt.mode is None:
        finding = MEANING[Reason.UNKNOWN_APPLICATION].message.format(feature=_named(request))
        known = attempt.ruling.reason in ALLOWING
        return walked if known else [Step("mode", request.mode or request.application, passed=False, finding=finding)]
    takes = ", ".join(attempt.mode.wants) or "nothing"
    heading = Step("mode", attempt.mode.id, passed=True, finding=f"{attempt.mode.title} takes {takes}")
    return [heading, *walked] if attempt.mode.wants else [heading]


def _named(request: Request) -> str:
    mode = "" if request.mode is None else f" with a mode {request.mode}"
    return f"{request.application}{mode}"
