"""The installed licenses and the documents that vouch for them, as one frozen value.

Every change gives a new value and a finding, so that the daemon can store what was taken before anything counts by it.

* A key on the vendor's list is valid. The list is the authority; it is read with the certificate's serial.
* A key that was typed, or came in a plain CSV text, is *unknown* until a list has it.
* The same key counts once, however often it was entered.
* A trial on the list is the vendor's own: nothing that was typed, and no `Trial` line, is held against it.
* A dated key on the list counts from its issue day on: a trial listed years ahead is no longer one.
* A removed key stays away until it is typed again or a newer list is imported.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Iterable

import msgspec

from .catalog import Catalog, Feature
from .certificate import Certificate
from .findings import Finding, Verdict, accept, refuse
from .keynames import read_name
from .licensekey import MAX_TYPED, LicenseKey, Term, read_key
from .licenselist import LicenseList

CLOCK_TOLERANCE = datetime.timedelta(days=1)
"""An issue day may lie this far ahead: the vendor's day may have begun when the host's has not."""


class Status(enum.StrEnum):
    """Status of a license, as field tools show it (facts/catalog.md section 8)."""

    VALID = "valid"
    UNKNOWN = "unknown"
    INVALID = "invalid"
    DORMANT = "dormant"
    OBSOLETE = "obsolete"
    EXPIRED = "expired"


class Mark(msgspec.Struct, frozen=True):
    """How far the documents of one serial have come; it only advances, whatever is imported in between."""

    list_number: int = 0
    listed: datetime.date = datetime.date.min
    """Date of the newest list."""
    certified: datetime.date = datetime.date.min
    """Issue day of the newest certificate."""
    trials: dict[int, datetime.date] = {}
    """Issue day of the one trial of a feature, by feature code: as the vendor's list says or has it, else as typed."""


class License(msgspec.Struct, frozen=True, kw_only=True):
    """One installed license with its status on a certain day."""

    key: LicenseKey
    feature: str | None
    """Feature id, None where the catalog knows no such code."""
    status: Status
    finding: str
    listed: bool


class Licenses(msgspec.Struct, frozen=True, kw_only=True):
    """All that is installed; `with_…` and `without_…` give the value after a change."""

    certificate: Certificate | None = None
    license_list: LicenseList | None = None
    typed: tuple[LicenseKey, ...] = ()
    """Keys entered by hand or from a plain CSV text, in the order of entry."""
    removed: frozenset[LicenseKey] = frozenset()
    revocations: dict[LicenseKey, bool] = {}
    """The keys on the list, and whether the vendor has revoked them; derived from `license_list`."""
    marks: dict[str, Mark] = {}
    """By serial; kept when the certificate changes, so that no older document comes back."""

    @property
    def serial(self) -> str | None:
        """Serial of the certified Feature Key."""
        return self.certificate.serial if self.certificate else None

    @property
    def mark(self) -> Mark:
        """How far the documents of the certified serial have come."""
        return self.marks.get(self.serial or "", Mark())

    @property
    def floor(self) -> datetime.date:
        """The latest day that a signed document has proved to have come."""
        return max((max(mark.listed, mark.certified) for mark in self.marks.values()), default=datetime.date.min)

    def keys(self) -> tuple[LicenseKey, ...]:
        """Every installed key once, those on the list first."""
        return tuple(key for key in dict.fromkeys([*self.revocations, *self.typed]) if key not in self.removed)

    def with_certificate(self, certificate: Certificate) -> Licenses:
        """The same under a certificate; a list of another serial is dropped, its keys would be invalid."""
        same = self.license_list is not None and self.license_list.serial == certificate.serial
        kept = self if same else msgspec.structs.replace(self, license_list=None, revocations={}, removed=frozenset())
        mark = self.marks.get(certificate.serial, Mark())
        mark = msgspec.structs.replace(mark, certified=max(mark.certified, certificate.issued))
        marks = {**self.marks, certificate.serial: mark}
        return msgspec.structs.replace(kept, certificate=certificate, marks=marks)

    def refuse_certificate(self, certificate: Certificate) -> Finding | None:
        """Why the certificate is not taken after those that were imported before, None where it is."""
        newest = self.marks.get(certificate.serial, Mark()).certified
        if certificate.issued >= newest:
            return None
        message = f"A certificate of this serial issued on {newest.isoformat()} was imported before; this one is older."
        return refuse(Verdict.OLDER_CERTIFICATE, message)

    def with_list(self, newer: LicenseList) -> tuple[Licenses, Finding]:
        """The same with a newer license list in place of the one there was."""
        refusal = self._refuse_list(newer)
        if refusal is not None:
            return self, refusal
        revocations: dict[LicenseKey, bool] = {}
        for entry in newer.entries:
            revocations[entry.key] = revocations.get(entry.key, False) or entry.revoked
        mark = msgspec.structs.replace(
            self.mark,
            list_number=newer.number,
            listed=max(self.mark.listed, newer.date),
            trials={**self.mark.trials, **_trials_of(newer)},
        )
        changed = msgspec.structs.replace(
            self,
            license_list=newer,
            revocations=revocations,
            removed=frozenset(),
            marks={**self.marks, newer.serial: mark},
        )
        good = sum(not revoked for revoked in revocations.values())
        message = f"License list {newer.number} of {newer.date.isoformat()}: {_good_keys(good)}"
        message += f" and {len(revocations) - good} revoked." if good < len(revocations) else "."
        return changed, accept(Verdict.IMPORTED, message)

    def with_key(
        self, text: str, catalog: Catalog, today: datetime.date, products: tuple[str, ...] = ()
    ) -> tuple[Licenses, Finding]:
        """The same with one more key, as typed; `products` are ids of other catalogs that it may have been made for."""
        licenses, (finding,) = self.with_keys([text], catalog, today, products)
        return licenses, finding

    def with_keys(
        self, texts: Iterable[str], catalog: Catalog, today: datetime.date, products: tuple[str, ...] = ()
    ) -> tuple[Licenses, list[Finding]]:
        """The same with more keys, as typed, and what was found of each; the time it takes grows with their number."""
        before = frozenset(self.keys())
        typed, entered = dict.fromkeys(self.typed), dict[LicenseKey, None]()
        findings: list[Finding] = []
        trials: dict[int, datetime.date] = {}
        for text in texts:
            key = self._good_key(text, catalog, today, products)
            if isinstance(key, LicenseKey) and self._is_second(key, trials):
                message = "A text has one trial of a feature, and this is another."
                key = refuse(Verdict.TRIAL_USED, message, key=key.short)
            if isinstance(key, Finding):
                findings.append(key)
                continue
            findings.append(self._accepted(key, catalog, known=key in before or key in entered))
            if key.term is Term.TRIAL:
                trials[key.feature_code] = key.issued
            if key not in before:
                entered[key] = None
        if not entered:
            return self, findings
        mark = msgspec.structs.replace(self.mark, trials={**trials, **self.mark.trials})
        changed = msgspec.structs.replace(
            self,
            typed=tuple(typed | entered),
            removed=self.removed - entered.keys(),
            marks={**self.marks, self.serial or "": mark},
        )
        return changed, findings

    def named(self, text: str) -> LicenseKey | Finding:
        """The one installed key that this text names: whole, as listings show it, or by its beginning."""
        name = read_name(text) if len(text) <= MAX_TYPED else None
        matches = [key for key in self.keys() if name.fits(key)] if name else []
        if len(matches) == 1:
            return matches[0]
        verdict = Verdict.AMBIGUOUS if matches else Verdict.NOT_FOUND
        return refuse(verdict, f"{len(matches) or 'No'} installed keys are named by this.")

    def without_key(self, text: str) -> tuple[Licenses, Finding]:
        """The same without the one key that this text names."""
        key = self.named(text)
        if isinstance(key, Finding):
            return self, key
        typed = tuple(other for other in self.typed if other != key)
        changed = msgspec.structs.replace(self, typed=typed, removed=self.removed | ({key} & self.revocations.keys()))
        return changed, accept(Verdict.REMOVED, "The license is removed; calls in progress go on.", key=key.short)

    def on(self, day: datetime.date, catalog: Catalog) -> list[License]:
        """Every installed license with its status on that day."""
        return [self._license(key, day, catalog) for key in self.keys()]

    def _license(self, key: LicenseKey, day: datetime.date, catalog: Catalog) -> License:
        feature = catalog.by_code.get(key.feature_code)
        status, finding = self._status(key, day, catalog)
        listed = key in self.revocations
        return License(key=key, feature=feature.id if feature else None, status=status, finding=finding, listed=listed)

    def _status(self, key: LicenseKey, day: datetime.date, catalog: Catalog) -> tuple[Status, str]:
        wrong = self._wrong(key, day, catalog)
        if wrong is not None:
            return Status.EXPIRED if wrong.verdict is Verdict.EXPIRED else Status.INVALID, wrong.message
        if key not in self.revocations:
            return Status.UNKNOWN, "Not on the vendor's list yet; it counts for a limited time."
        return Status.VALID, "On the vendor's list."

    def _wrong(self, key: LicenseKey, day: datetime.date, catalog: Catalog) -> Finding | None:
        """Why the key does not count on this system on that day, None where it does."""
        feature = catalog.by_code.get(key.feature_code)
        if feature is None:
            message = f"Feature code {key.feature_code} is not in the catalog {catalog.id}."
            return refuse(Verdict.UNKNOWN_FEATURE, message)
        if self.serial is None or not key.made_for(catalog.id, self.serial):
            return self._not_for_here(catalog)
        if self.revocations.get(key):
            return refuse(Verdict.REVOKED, "The vendor has revoked this key.")
        if key.expires is not None and key.expires < day:
            what = "trial" if key.term is Term.TRIAL else "key"
            return refuse(Verdict.EXPIRED, f"The {what} was good until {key.expires.isoformat()}.")
        if key in self.revocations:
            return None if key.term is Term.PERPETUAL else _too_early(key, day)
        return self._disowned(key, feature)

    def _not_for_here(self, catalog: Catalog) -> Finding:
        if self.serial is None:
            return refuse(Verdict.NO_CERTIFICATE, "No Feature Key certificate is imported.")
        message = f"A good key, and not for serial {self.serial}, or not for the product {catalog.id}."
        return refuse(Verdict.OTHER_SERIAL, message)

    def _disowned(self, key: LicenseKey, feature: Feature) -> Finding | None:
        """Why the vendor would not stand by a key that is not listed: a second trial, or a later list leaves it out."""
        newest = self.license_list
        if self._is_second(key, self.mark.trials):
            used = self.mark.trials[key.feature_code]
            message = f"This system has had its trial of {feature.title}, issued on {used}."
            return refuse(Verdict.TRIAL_USED, message)
        if newest is not None and key.issued < newest.date:
            message = f"The vendor's list {newest.number} of {newest.date.isoformat()} does not have this key."
            return refuse(Verdict.NOT_ON_LIST, message)
        return None

    def _is_second(self, key: LicenseKey, trials: dict[int, datetime.date]) -> bool:
        """Whether it is a trial beside that of another day, which the vendor has not listed."""
        unlisted = key.term is Term.TRIAL and key not in self.revocations
        return unlisted and trials.get(key.feature_code, key.issued) != key.issued

    def _good_key(
        self, text: str, catalog: Catalog, today: datetime.date, products: tuple[str, ...]
    ) -> LicenseKey | Finding:
        """The key that was typed, or why it cannot be taken."""
        if self.certificate is None:
            return refuse(Verdict.NO_CERTIFICATE, "No Feature Key certificate is imported yet.")
        key = read_key(text, catalog=catalog.id, serial=self.certificate.serial)
        if isinstance(key, Finding):
            return key
        wrong = self._wrong(key, today, catalog)
        if wrong is None and key not in self.revocations:
            wrong = _too_early(key, today)
        if wrong is not None and wrong.verdict in {Verdict.OTHER_SERIAL, Verdict.UNKNOWN_FEATURE}:
            wrong = _for_another(key, products, self.certificate) or wrong
        return key if wrong is None else msgspec.structs.replace(wrong, key=key.short)

    def _accepted(self, key: LicenseKey, catalog: Catalog, *, known: bool) -> Finding:
        """What to say about a good key; `known` when it was there before."""
        feature = catalog.by_code[key.feature_code]
        about: dict[str, int | str | None] = {"key": key.short, "feature": feature.id, "instances": key.instances}
        if known:
            return accept(Verdict.ALREADY_THERE, "This key is there already and counts once.", **about)
        if key in self.revocations:
            return accept(Verdict.VALID, "The key is good and on the vendor's list.", **about)
        message = f"The key is good: {key.instances} of {feature.title}. It counts as unknown until a list confirms it."
        return accept(Verdict.UNLISTED, message, **about)

    def _refuse_list(self, newer: LicenseList) -> Finding | None:
        if self.certificate is None:
            return refuse(Verdict.NO_CERTIFICATE, "No Feature Key certificate is imported yet.")
        if newer.serial != self.certificate.serial:
            message = f"The list is for serial {newer.serial}; this Feature Key is {self.certificate.serial}."
            return refuse(Verdict.OTHER_SERIAL, message)
        if newer.catalog != self.certificate.catalog:
            message = f"The list is for catalog {newer.catalog}; this system is {self.certificate.catalog}."
            return refuse(Verdict.OTHER_CATALOG, message)
        if newer == self.license_list:
            return accept(Verdict.ALREADY_THERE, f"License list {newer.number} is imported already.")
        newest = self.mark.list_number
        if newer.number > newest or (newer.number == newest and self.license_list is None):
            return None
        return refuse(Verdict.OLDER_LIST, f"List {newer.number} is not newer than list {newest}, which was imported.")


def _for_another(key: LicenseKey, products: Iterable[str], certificate: Certificate) -> Finding | None:
    """The finding about a key that was made for this serial and another product; None for all others."""
    others = (it for it in products if it != certificate.catalog)
    product = next((it for it in others if key.made_for(it, certificate.serial)), None)
    if product is None:
        return None
    message = f"A good key for serial {certificate.serial}, and for the product {product} instead of "
    return refuse(Verdict.OTHER_CATALOG, f"{message}{certificate.catalog}.")


def _too_early(key: LicenseKey, day: datetime.date) -> Finding | None:
    """Why a key cannot count yet, None where its issue day has come, or nearly."""
    if key.issued <= day + CLOCK_TOLERANCE:
        return None
    message = f"The key was issued on {key.issued.isoformat()}; here it is {day.isoformat()}."
    return refuse(Verdict.NOT_YET_ISSUED, message)


def _good_keys(count: int) -> str:
    return f"{count} good key" if count == 1 else f"{count} good keys"


def _trials_of(newer: LicenseList) -> dict[int, datetime.date]:
    """Newest issue day of a trial by feature code, from the list's own lines and from the trials that stand on it."""
    trials = dict(newer.trials)
    for key in (entry.key for entry in newer.entries if entry.key.term is Term.TRIAL):
        trials[key.feature_code] = max(key.issued, trials.get(key.feature_code, key.issued))
    return trials
