"""Feature Key exchange: all good licenses of one serial go over to the hardware that replaces it.

Rules of this module:

* One act: the certificate, the keys, their list and the end of the old serial are recorded together, or nothing is.
* Nothing gets longer: a license keeps its feature, instances, set, term and first issue day. A trial goes on for what
  is left of it; a feature that had its trial on the old serial gets none on the new one.
* One for one: the replacement carries no licenses of its own, so that no exchange joins two systems, and a retired
  serial is never used again.
* Source: facts/catalog.md section 2, rule 3.
"""

from __future__ import annotations

import datetime

import msgspec

from featurekeyd.policy.certificate import read_certificate
from featurekeyd.policy.licenselist import read_list
from featurekeyd.policy.request_text import Request

from .certify import Certified, certify_within, check_programmed
from .order import key_of, record_new
from .refusal import Refused
from .register import Exchange, LicenseRow, Register, System
from .signedlist import Listed, list_within
from .vendor import Vendor


class Exchanged(msgspec.Struct, frozen=True, kw_only=True):
    """What an exchange gave: the documents of the new serial, and how many licenses were carried over or not."""

    certified: Certified
    listed: Listed
    carried: int
    left_behind: int
    """Keys that were good no more: revoked, expired, or for an earlier catalog."""

    @property
    def text(self) -> str:
        """Certificate and license list in one text."""
        return self.certified.text + self.listed.text


def exchange(
    old_serial: str,
    request: Request,
    vendor: Vendor,
    register: Register,
    today: datetime.date,
    *,
    other_host: bool = False,
) -> Exchanged:
    """Carry the good licenses of a serial over to the hardware of a request; raises Refused.

    `other_host` takes the request of a host that had a third serial before.
    """
    check_programmed(request, register)
    _ = vendor.signer, vendor.master  # a passphrase is asked for before other issuers are kept waiting
    with register.act():
        old = _old_system(old_serial, register)
        _check_replacement(old, request, register, other_host=other_host)
        certified = certify_within(request, vendor, register, today)
        new_serial = certified.certificate.serial
        rows = register.licenses(old_serial)
        good = [row for row in rows if _is_good(row, request.catalog, today)]
        for row in good:
            record_new(_carried(row, new_serial, today), register)
        for row in rows:
            if row.revoked is None:
                register.record_revocation(row, f"exchanged for {new_serial}", today)
        register.record_exchange(Exchange(old_serial=old_serial, new_serial=new_serial, day=today))
        listed = list_within(new_serial, vendor, register, today)
        done = Exchanged(certified=certified, listed=listed, carried=len(good), left_behind=len(rows) - len(good))
        # What a host could not read must not be given out: two good texts may be too long for one.
        for read in (read_certificate, read_list):
            read(done.text, {vendor.signer: vendor.public_key})
    return done


def _old_system(serial: str, register: Register) -> System:
    system, done = register.system(serial), register.exchange_of(serial)
    if done is not None:
        why = f"{serial} was exchanged for {done.new_serial} on {done.day} already."
        again = f"featurekey-issue certify REQUEST, featurekey-issue list {done.new_serial}"
        raise Refused(why, f"To send the documents again: {again}")
    return system


def _check_replacement(old: System, request: Request, register: Register, *, other_host: bool) -> None:
    known = register.find_hardware(request.kind, request.hardware_id, simulated=request.simulated)
    if known is not None:
        _check_unused(old, known, register)
    if request.simulated != old.simulated:
        raise Refused("A simulated Feature Key and a real one are not exchanged for each other.", "Issue anew instead.")
    catalog = register.catalog_of(old.serial)
    if request.catalog != catalog:
        why = (
            f"The licenses of {old.serial} are for the catalog {catalog!r}, and the request is for {request.catalog!r}."
        )
        raise Refused(why, "Set [product] catalog on the host, and make the request again.")
    own = {None, old.serial, known.serial if known else None}
    if not other_host and request.serial not in own:
        why = f"The host of the request says that its serial is {request.serial}, not {old.serial}."
        raise Refused(why, "If its licenses shall come from there all the same: --other-host")


def _check_unused(old: System, known: System, register: Register) -> None:
    if known.serial == old.serial:
        why = f"The request is of {old.serial} itself."
        raise Refused(why, "Put the replacement into the host, and make the request again.")
    register.check_current(known.serial)
    if register.licenses(known.serial):
        raise Refused(
            f"{known.serial} has license keys of its own.", "Take a Feature Key without any for the exchange."
        )
    replaced = register.exchange_to(known.serial)
    if replaced is not None:
        raise Refused(f"{known.serial} replaces {replaced.old_serial} already.", "Take another Feature Key.")


def _is_good(row: LicenseRow, catalog: str, today: datetime.date) -> bool:
    expires = key_of(row).expires
    return row.revoked is None and row.catalog == catalog and (expires is None or expires >= today)


def _carried(row: LicenseRow, serial: str, today: datetime.date) -> LicenseRow:
    return msgspec.structs.replace(row, id=0, serial=serial, sequence=0, key="", day=today)
