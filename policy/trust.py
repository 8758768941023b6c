"""Trust over time: the clock, the host, the checks and the rescue code, beside the Feature Key and the licenses.

Each cause that lasts drains a meter of its own (`policy.standing`); here is what the causes are judged from, and what
has to outlive a restart. Two things go beyond meters: a vendor who has signed that nothing counts any more is believed
at once, and a rescue code opens a deactivated system for seven days.

Nothing is punished that nobody can tell: a host that cannot be read, a vendor who cannot be asked and a clock that was
never set are no change, no refusal and no set-back.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterator, Mapping

import msgspec

from .catalog import Catalog, Cause, Need
from .certificate import Certificate
from .checkevidence import CheckEvidence, with_nonce, without_nonce
from .enrollment import Judgement, Moment, enroll_host, judge_host, terms_of
from .events import Event, EventName
from .hostaddress import Announcement, SiteAddresses
from .hostbinding import Enrolled, HostVerdict
from .hostevidence import Evidence, HostRefused
from .instant import Now
from .licensekey import LicenseKey, read_key
from .localcheck import CheckItem, LocalCheck, Trouble, check_locally
from .presence import Sighting
from .rescue import Opening, RescueMark
from .standing import REMEDY, Meter
from .timekeeping import ClockState, TimeMark, advanced, repaired, state_of

ASK_THE_VENDOR = (
    "The vendor checks this product: featurekeyctl check --request FILE, send it, then check --import ANSWER."
)
"""What to do where the vendor's answer is missing, from the day the certificate is imported."""

NO_ANSWER = Trouble("The vendor has not answered a request of this system, or the answer is over.", ASK_THE_VENDOR)

NO_HOST = Trouble(
    "No host is enrolled, so there is none to compare with.",
    "It is enrolled when a certificate is imported; featurekeyctl host shows what tells it from others.",
    warning=True,
)

_CURE_OF_CLOCK = {
    ClockState.SET_BACK: "Set the clock; if it was ahead before and is right now: featurekeyctl clock repair.",
    ClockState.AHEAD: "Set the clock; if it is right and this host was off for long: featurekeyctl clock repair.",
}


class Told(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request tells the vendor of; the answer to that very request covers it."""

    claims: int = 0
    """Emergency calls without a listed number."""
    tamperings: int = 0
    """Starts that found the state changed by somebody else."""
    losses: int = 0
    """Starts that found the state damaged, and set it aside."""
    repairs: int = 0
    """How often the clock was believed again by command."""

    def less(self, told: Told) -> Told:
        """What is left when the vendor knows of that; never below nothing."""
        names = self.__struct_fields__
        return Told(**{name: max(getattr(self, name) - getattr(told, name), 0) for name in names})


TAMPERED = Trouble(
    "The stored state was changed by somebody else; state_tampered in the log and the audit says when and how.",
    "The vendor's answer to a check ends this: featurekeyctl check --request FILE, then --import ANSWER.",
)


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What outlives a restart, for the daemon to store whenever it is another one."""

    mark: TimeMark
    enrolled: Enrolled | None = None
    announcement: Announcement | None = None
    rescues: dict[str, RescueMark] = {}
    """The last rescue code used, by serial."""
    opening: Opening | None = None
    """What a rescue code has opened."""
    nonces: tuple[str, ...] = ()
    """Of requests that the vendor has not answered."""
    told: dict[str, Told] = {}
    """What the request with each of these nonces has told that no answer covers yet."""
    check_numbers: dict[str, int] = {}
    """Of the newest answer taken, by serial."""
    permits: dict[str, int] = {}
    """The highest number of a permit that was used, by serial: an enrollment may be lost, and no permit comes again."""
    retired: tuple[str, ...] = ()
    """Serials that the vendor has retired by an answer, and has not taken back by a newer one."""
    revoked: dict[str, tuple[str, ...]] = {}
    """License keys that the newest answer taken has revoked, by serial: it may be certified again after another one."""
    claims: int = 0
    """Emergency calls without a listed number that no answer covers."""
    tamperings: int = 0
    """The same of starts that found the state changed by somebody else: until then each check fails."""
    losses: int = 0
    """The same of starts that found it damaged."""
    repairs: int = 0
    """The same of repairs of the clock."""
    check_failing: bool = False
    """Whether the last check failed by something that no other meter counts, or was not made to its end."""


def untold(kept: Kept) -> Told:
    """What the vendor does not know of yet."""
    return Told(claims=kept.claims, tamperings=kept.tamperings, losses=kept.losses, repairs=kept.repairs)


def asked(kept: Kept, nonce: str, told: Told) -> Kept:
    """What is kept once a request with that nonce tells the vendor so much."""
    nonces = with_nonce(kept.nonces, nonce)
    others = {it: kept.told[it] for it in nonces if it in kept.told}
    return msgspec.structs.replace(kept, nonces=nonces, told=others | {nonce: told})


def answered(kept: Kept, answer: CheckEvidence) -> Kept:
    """What is kept once the vendor's answer counts; what came after its request is left to be told of."""
    told = kept.told.get(answer.nonce, Told())
    others = tuple(serial for serial in kept.retired if serial != answer.serial)
    revoked = {serial: keys for serial, keys in kept.revoked.items() if serial != answer.serial}
    if answer.revoked:
        revoked[answer.serial] = tuple(sorted(key.text for key in answer.revoked))
    return msgspec.structs.replace(
        kept,
        check_numbers=kept.check_numbers | {answer.serial: answer.number},
        nonces=without_nonce(kept.nonces, answer.nonce),
        # Requests that wait still have told the same once more.
        told={nonce: it.less(told) for nonce, it in kept.told.items() if nonce != answer.nonce},
        retired=(*others, answer.serial) if answer.retired else others,
        revoked=revoked,
        **msgspec.structs.asdict(untold(kept).less(told)),
    )


@functools.lru_cache(maxsize=2)  # asked for with each tick
def _keys_of(texts: tuple[str, ...]) -> frozenset[LicenseKey]:
    """The license keys in these texts; what is none names none."""
    read = (read_key(text) for text in texts)
    return frozenset(key for key in read if isinstance(key, LicenseKey))


def enrolled_again(kept: Kept, enrolled: Enrolled, permit_of: str | None) -> Kept:
    """What is kept once this enrollment counts; `permit_of` is the serial whose permit made it, None where none did."""
    used = {} if permit_of is None else {permit_of: max(enrolled.permit, kept.permits.get(permit_of, 0))}
    return msgspec.structs.replace(kept, enrolled=enrolled, permits=kept.permits | used)


class Trust:
    """What is believed of clock, host and checks, and what is told of it."""

    def __init__(
        self, catalog: Catalog, meters: Mapping[Cause, Meter], kept: Kept, boot_id: str, released: datetime.date
    ) -> None:
        self.kept = kept
        self.events: list[Event] = []
        self.clock = ClockState.RIGHT
        self.host: Judgement | None = None
        """The last look at the host, None before the first and without an enrollment."""
        self.check: LocalCheck | None = None
        """The last check of this run that was made to its end."""
        self._missed = False
        """Whether a later one was not."""
        self.answer: CheckEvidence | None = None
        """The vendor's newest answer."""
        self.primary: bool | None = None
        """Whether the Primary of the network answered last, None where nobody has asked in this run."""
        self.primary_seen = False
        """Whether it has answered in this boot of the host: without that there is no grace (facts/catalog.md 12)."""
        self._catalog = catalog
        self._meters = meters
        self.boot_id = boot_id
        """Which boot of the host this is."""
        self._released = released
        self._binds = False
        """Whether a changed host matters here."""
        self._not_enrolled = ""
        """Why the host could not be enrolled, as it was told last."""

    @property
    def mark(self) -> TimeMark:
        """How late it is at least."""
        return self.kept.mark

    def drive_meters(self, serial: str | None, now: Now) -> None:
        """Let the meters know which causes last; a catalog may have none for some."""
        host, check = self._meters.get(Cause.HOST_CHANGED), self._meters.get(Cause.NO_CHECK)
        if host is not None and self.host is not None:
            host.active = self._binds and self._host_is_changed
        elif host is not None:  # before the first look of this run: what lasted before lasts
            host.active = host.lasted and self.kept.enrolled is not None
        if check is not None:
            missing = self._catalog.checks.evidence and self._answer_missing(serial, now)
            check.active = serial is not None and (self.kept.check_failing or missing)
            check.remedy = ASK_THE_VENDOR if missing else REMEDY[Cause.NO_CHECK]
        self._drive_primary()

    def _drive_primary(self) -> None:
        meter = self._meters.get(Cause.PRIMARY_UNREACHABLE)
        if meter is not None:  # before anybody has asked in this run: what lasted before lasts
            meter.active = meter.lasted if self.primary is None else not self.primary
            meter.void = meter.rule.needs is Need.THIS_BOOT and not self.primary_seen

    def see_primary(self, *, reachable: bool) -> None:
        """Take in whether the Primary of the network answers; contact gives its meter back, and the right to grace."""
        self.primary = reachable
        self.primary_seen = self.primary_seen or reachable
        if reachable and Cause.PRIMARY_UNREACHABLE in self._meters:
            self._meters[Cause.PRIMARY_UNREACHABLE].refill()

    @property
    def _host_is_changed(self) -> bool:
        """Whether a change of the host lasts; what nobody can tell neither begins nor ends one."""
        if self.host is None:
            return False
        if self.host.verdict is HostVerdict.CANNOT_TELL:
            return self.host.enrolled.changed_on is not None
        return self.host.verdict is HostVerdict.CHANGED

    def _counted_elsewhere(self, item: CheckItem) -> bool:
        """Whether what this item failed by drains a meter of its own, so that it is not counted twice."""
        if item in {CheckItem.FEATURE_KEY, CheckItem.ANSWER}:
            return Cause.FEATURE_KEY_ABSENT in self._meters
        return item is CheckItem.HOST and Cause.HOST_CHANGED in self._meters

    def _refill_check(self) -> None:
        if Cause.NO_CHECK in self._meters:
            self._meters[Cause.NO_CHECK].refill()

    def _troubles(self, now: Now) -> Iterator[tuple[CheckItem, Trouble]]:
        """What a check finds wrong with state, host and clock."""
        if self.kept.tamperings:
            yield CheckItem.STATE, TAMPERED
        if self.kept.enrolled is None:
            yield CheckItem.HOST, NO_HOST
        elif self.host is not None and self.host.verdict is not HostVerdict.SAME:
            cure = "featurekeyctl host shows each part; featurekeyctl host enroll, or the vendor's permit, cures it."
            yield CheckItem.HOST, Trouble(self.host.why, cure, warning=not (self._binds and self._host_is_changed))
        state = state_of(self.mark, now, self._released)
        if state in _CURE_OF_CLOCK:
            yield CheckItem.DATES, Trouble(self._said_of_clock(state, now), _CURE_OF_CLOCK[state], warning=True)

    def dated(self, now: Now) -> Now:
        """The moment with the wall clock that dates go by: never before the mark."""
        return Now(max(now.wall, self.mark.wall), now.boot)

    # Time

    def advance(self, now: Now) -> None:
        """Let time pass: the mark follows, a rescue runs out, a clock set back is told."""
        passed = max(now.boot - self.mark.boot, 0.0) if self.mark.boot_id == self.boot_id else 0.0
        opening = self.kept.opening
        self._keep(
            mark=advanced(self.mark, now, self.boot_id),
            opening=None if opening is None else opening.advanced(passed),
        )
        state, before = state_of(self.mark, now, self._released), self.clock
        self.clock = state
        if state is not before:
            self._tell_clock(state, now)

    def repair_clock(self, now: Now, floor: datetime.date, by: str) -> None:
        """Believe the wall clock, on the word of a technician; never before `floor`, which signed documents prove."""
        self._keep(mark=repaired(self.mark, now, floor), repairs=self.kept.repairs + 1)
        message = f"The clock counts as right from now on, says {by}: {_date_and_time(self.mark.wall)}."
        self._tell(EventName.CLOCK_REPAIRED, message, BY=by, REPAIRS=str(self.mark.repairs))
        self.advance(now)

    def _said_of_clock(self, state: ClockState, now: Now) -> str:
        clock, mark = _date_and_time(now.wall), _date_and_time(self.mark.wall)
        if state is ClockState.SET_BACK:
            return f"The clock says {clock}, and it was {mark} at least."
        return f"The clock says {clock}, and what has passed on this host explains {mark}."

    def _tell_clock(self, state: ClockState, now: Now) -> None:
        if state in _CURE_OF_CLOCK:
            name = EventName.CLOCK_AHEAD if state is ClockState.AHEAD else EventName.CLOCK_SET_BACK
            said, cure = self._said_of_clock(state, now), _CURE_OF_CLOCK[state]
            self._tell(name, f"{said} Licenses with a date go by the later time. {cure}")
        elif state is ClockState.UNSET:
            message = f"The clock was never set: it says {_date_and_time(now.wall)}. Dates wait for the right time."
            self._tell(EventName.CLOCK_UNSET, message)
        else:
            self._tell(EventName.CLOCK_RIGHT, f"The clock is right again: {_date_and_time(now.wall)}.")

    # The host

    def see_host(
        self, evidence: Evidence, site: SiteAddresses, certificate: Certificate | None, now: Now, today: datetime.date
    ) -> None:
        """Hold the host against its enrollment, which is made when the system is first certified."""
        terms = terms_of(self._catalog.host, site, certificate)
        self._binds = terms.rules.binds
        if self.kept.enrolled is None and certificate is not None:
            self._enroll(enroll_host(evidence, terms, today), "as it was when it was first licensed")
        if self.kept.enrolled is None:
            return
        moment = Moment(now=self.dated(now), boot_id=self.boot_id, today=today)
        before = self.host
        self.host = judge_host(self.kept.enrolled, evidence, terms, moment, self.kept.announcement)
        self._keep(enrolled=self.host.enrolled, announcement=self.host.announcement)
        for lesson in self.host.told:
            self._tell(EventName.HOST_LEARNED, lesson)
        if before is None or before.verdict is not self.host.verdict:
            self._tell_host(before, self.host)

    @property
    def binds(self) -> bool:
        """Whether a changed host matters here, as of the last look at it."""
        return self._binds

    def last_permit(self, serial: str | None) -> int:
        """The highest number of a permit that was used for that serial, 0 for none."""
        enrolled, used = self.kept.enrolled, self.kept.permits
        if not used and enrolled is not None:  # stored by a release that knew the enrollment's alone
            return enrolled.permit
        return used.get(serial or "", 0)

    def enroll(self, enrolled: Enrolled, how: str, by: str = "", permit_of: str | None = None) -> None:
        """Let this enrollment count from now on, on behalf of `by`; a permit of the serial `permit_of` is used up."""
        self._not_enrolled = ""
        self.kept = enrolled_again(self.kept, enrolled, permit_of)
        about = {"BY": by} if by else {}
        self._tell(EventName.HOST_ENROLLED, f"The host is enrolled {how}.", HOST=enrolled.digest, **about)

    def _enroll(self, enrolled: Enrolled | HostRefused, how: str) -> None:
        if not isinstance(enrolled, HostRefused):
            self.enroll(enrolled, how)
        elif enrolled.why != self._not_enrolled:  # once, and not with each look
            self._not_enrolled = enrolled.why
            self._tell(EventName.HOST_NOT_ENROLLED, f"The host is not enrolled: {enrolled.why} {enrolled.remedy}")

    def announce(self, announcement: Announcement, by: str) -> None:
        """Take an announced address in."""
        self._keep(announcement=announcement)
        message = f"The address {announcement.address} is announced by {by}, for the next 24 hours."
        self._tell(EventName.ADDRESS_ANNOUNCED, message, BY=by, ADDRESS=announcement.address)

    def _tell_host(self, before: Judgement | None, judged: Judgement) -> None:
        if judged.verdict is HostVerdict.CHANGED:
            cure = "featurekeyctl host shows what changed; featurekeyctl host enroll, or the vendor's permit, cures it."
            weight = "" if self._binds else " The Feature Key is there, so nothing else follows."
            self._tell(EventName.HOST_CHANGED, f"{judged.why}{weight} {cure}")
        elif before is not None and judged.verdict is HostVerdict.SAME:
            self._tell(EventName.HOST_SAME, f"The host is the enrolled one again. {judged.why}")

    # Checks

    def judge_check(
        self,
        feature_key: Sighting,
        certificate: Certificate | None,
        troubles: Mapping[CheckItem, Trouble],
        now: Now,
    ) -> LocalCheck:
        """All that can be verified here; `troubles` is what is wrong beside what is judged here. Changes nothing."""
        required = self._catalog.checks.evidence
        known = dict(self._troubles(now)) | dict(troubles)
        if required and self._answer_missing(certificate.serial if certificate else None, now):
            known[CheckItem.EVIDENCE] = NO_ANSWER
        return check_locally(feature_key, certificate, known, evidence_required=required)

    def take_check(
        self,
        feature_key: Sighting,
        certificate: Certificate | None,
        troubles: Mapping[CheckItem, Trouble],
        now: Now,
    ) -> LocalCheck:
        """The same, and let it count."""
        check = self.judge_check(feature_key, certificate, troubles, now)
        before = self.kept.check_failing or (self.check is not None and not self.check.passed)
        self.check, self._missed = check, False
        self._keep(check_failing=not all(self._counted_elsewhere(item) for item in check.failed))
        if not check.passed:
            failed = [finding for finding in check.findings if not finding.good]
            message = " ".join(f"{finding.message} {finding.remedy or ''}".strip() for finding in failed)
            items = " ".join(str(finding.item) for finding in failed)
            self._tell(EventName.CHECK_FAILED, f"The check failed: {message}", ITEMS=items)
            return check
        self._refill_check()
        if before:
            self._tell(EventName.CHECK_PASSED, "The check passed again.")
        return check

    def miss_check(self, why: str) -> None:
        """Take note that a check was not made to its end, which counts as one that failed; `why` is a sentence."""
        if not self.kept.check_failing:
            cure = "It is tried again each minute; where it goes on, the log has the cause, and the vendor helps."
            self._tell(EventName.CHECK_FAILED, f"The check could not be made: {why} {cure}")
        self._missed = True
        self._keep(check_failing=True)

    @property
    def check_passed(self) -> bool | None:
        """Whether the last check of this run passed, None before the first; one not made to its end did not."""
        if self._missed:
            return False
        return None if self.check is None else self.check.passed

    def take_answer(self, answer: CheckEvidence) -> None:
        """Let the vendor's answer count, which was judged good or a no."""
        self.answer = answer
        self.kept = answered(self.kept, answer)
        if not answer.retired:
            self._refill_check()
        name = EventName.CHECK_TOLD_NO if answer.retired else EventName.CHECK_ANSWERED
        said = f"has retired serial {answer.serial}" if answer.retired else f"has checked serial {answer.serial}"
        until = "" if answer.retired else f": good until {answer.until:%Y-%m-%d %H:%M} UTC"
        self._tell(name, f"The vendor {said}{until}.", SERIAL=answer.serial, NUMBER=str(answer.number))
        for remark in answer.remarks:
            self._tell(EventName.CHECK_REMARK, remark, SERIAL=answer.serial)

    def _answer_missing(self, serial: str | None, now: Now) -> bool:
        """Whether no answer of the vendor is good now."""
        return self.answer is None or not self.answer.seconds_left(serial, max(self.mark.wall, now.wall))

    def revoked(self, serial: str | None) -> frozenset[LicenseKey]:
        """The keys that the vendor's newest answer for that serial has revoked, whatever was certified since."""
        kept = _keys_of(self.kept.revoked.get(serial or "", ()))
        if self.answer is None or self.answer.serial != serial or not self.answer.revoked:
            return kept
        return kept.union(self.answer.revoked)  # of a release that kept nothing beside it

    def told_no(self, serial: str | None) -> bool:
        """Whether the vendor has signed that nothing on this serial counts any more."""
        return serial in self.kept.retired or (self.answer is not None and self.answer.says_no_to(serial))

    def ask(self, nonce: str, told: Told) -> None:
        """Keep open the nonce that a request carries, with what it tells."""
        self.kept = asked(self.kept, nonce, told)

    def note_claims(self, count: int) -> None:
        """Count emergency calls without a listed number, which the next request tells of."""
        self._keep(claims=self.kept.claims + count)

    # Rescue

    def open_up(self, opening: Opening, mark: RescueMark, by: str) -> None:
        """Let a rescue code open the system; the daemon has stored its mark."""
        self._keep(opening=opening, rescues=self.kept.rescues | {opening.serial: mark})
        message = f"The rescue code of {opening.day} opens the system for 7 days, says {by}; number {mark.count} here."
        self._tell(EventName.RESCUE_OPENED, message, SERIAL=opening.serial, BY=by, COUNT=str(mark.count))

    def rescue_left(self, serial: str | None, today: datetime.date) -> float:
        """Seconds for which a rescue code holds the system open still."""
        opening = self.kept.opening
        return 0.0 if opening is None else opening.seconds_left(serial, today)

    def end_rescue(self, serial: str | None) -> None:
        """Forget an opening that is over, and tell of it; a wall clock that stands ahead for a while ends none."""
        if self.kept.opening is not None and not self.rescue_left(serial, self._date_of_mark()):
            self._keep(opening=None)
            message = "The rescue is over: its seven days have passed, or another Feature Key is certified."
            self._tell(EventName.RESCUE_ENDED, message)

    def _date_of_mark(self) -> datetime.date:
        return Now(self.mark.wall, self.mark.boot).date

    def _keep(self, **fields: object) -> None:
        self.kept = msgspec.structs.replace(self.kept, **fields)

    def _tell(self, name: EventName, message: str, **fields: str) -> None:
        self.events.append(Event(name=name, message=message, fields=fields))


def _date_and_time(wall: float) -> str:
    return datetime.datetime.fromtimestamp(wall, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
