"""The USB Feature Key: a one-time-password key with an HMAC-SHA1 secret in slot 2, read through pyusb.

Rules of this module:

* A question is: wait until the key is at rest, write the chunks (each after the busy bit cleared), poll the answer.
* Nothing waits longer than `Patience` says; the clock and the pause are handed in.
* Whatever goes wrong, the key is left at rest: a question that does not end well is aborted, and one that finds the
  key not at rest aborts what was there and waits until the key heeds it.
* No exception holds a secret, an access code, a challenge or an answer.

Source: facts/hardware.md section 2.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import msgspec

from .featurekey import (
    Absent,
    Assurance,
    Busy,
    FeatureKeyError,
    Garbled,
    Kind,
    Reading,
    TouchRequired,
    Unconfigured,
    Unsupported,
)
from .otpframes import (
    ABORT_REPORT,
    ACCESS_CODE_SIZE,
    HMAC_SIZE,
    SECRET_SIZE,
    SERIAL_SIZE,
    Answer,
    FrameError,
    ReportKind,
    Slot,
    SlotRecord,
    Status,
    decode_status,
    encode_frame,
    frame_reports,
    hmac_record,
    report_kind,
    require_size,
    write_payload,
)
from .usbreports import UsbReports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHALLENGE_SIZE = 32
AMBIGUOUS_LAST_BYTES = frozenset({0x00, 0x20})
"""A challenge may not end in these: keys strip padding, and makers differ in what they take for padding."""
NO_ACCESS_CODE = bytes(ACCESS_CODE_SIZE)
OLDEST_FIRMWARE = (2, 2, 0)
"""The first firmware with HMAC-SHA1 and a serial that can be asked for."""


class SlotOccupied(FeatureKeyError):
    """Slot 2 is configured already and the caller did not ask to replace it."""

    state = "slot-occupied"


class WriteRefused(FeatureKeyError):
    """The key did not take the new configuration: its program sequence did not rise."""

    state = "write-refused"


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long the reader waits, in seconds."""

    question: float = 3.0
    """For one whole question; less than 2 s fails on loaded hosts. A transfer that stalls adds its own limit."""
    chunk: float = 1.15
    """For the busy bit to clear before each chunk: the vendor's own limit."""
    poll: float = 0.002
    """Between two polls: a transfer takes 1 ms by itself, and HMAC-SHA1 about 10 ms."""
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep


class UsbKey:
    """One opened USB key; fulfills FeatureKey, and can program slot 2 for the vendor."""

    def __init__(self, reports: UsbReports, patience: Patience) -> None:
        self._reports = reports
        self._patience = patience
        self._deadline = 0.0
        self._status = Status(version=(0, 0, 0), sequence=0, touch_level=0)
        self._reading: Reading | None = None

    @classmethod
    def open(cls, backend: Any = None, *, patience: Patience | None = None, serial_needed: bool = True) -> UsbKey:
        """Find, claim and read the one key that is plugged in.

        `backend` is a pyusb backend, libusb 1.0 unless given. With `serial_needed` False a key that hides its serial
        is opened too, with an empty `hardware_id`, so that the vendor can program it. Raises FeatureKeyError.
        """
        key = cls(UsbReports.open(backend), patience or Patience())
        try:
            key._start(serial_needed=serial_needed)
        except FeatureKeyError:
            key.close()
            raise
        return key

    @property
    def reading(self) -> Reading:
        """What was read when the key was opened, or after slot 2 was programmed."""
        assert self._reading is not None  # open() sets it before it returns the key
        return self._reading

    @property
    def status(self) -> Status:
        """The last status report: firmware, program sequence, valid slots."""
        return self._status

    def check(self) -> None:
        """Make sure that the same key is still there: one status report, the serial only when that report changed.

        An open handle belongs to one plugging-in of one key: a key that was pulled, even if put back or replaced by
        another, answers with errno 19. So the status proves presence; a change in it means that somebody programmed
        the key, and then the serial is compared. Raises Absent when it differs.
        """
        with self._question():
            status = self._rest()
            if status == self._status:
                return
            serial = self._read_serial()
        if serial != self.reading.hardware_id:
            what = f"another key answers, serial {serial}" if serial else "the key does not show its serial any more"
            raise Absent(self._reports.reader, what, cure="plug in the enrolled key")
        self._status = status

    def prove(self, challenge: bytes) -> bytes:
        """The 20 bytes of HMAC-SHA1 of slot 2 over a challenge of 32 bytes that ends neither in 00 nor in 20.

        Raises ValueError for another challenge, TouchRequired, Unconfigured, Garbled, Busy, Absent.
        """
        require_size("challenge", challenge, CHALLENGE_SIZE)
        if challenge[-1] in AMBIGUOUS_LAST_BYTES:
            raise ValueError(f"byte 31 of the challenge is {challenge[-1]:02x}, which keys take for padding")
        with self._question():
            answer = self._ask(Slot.HMAC_2, challenge)
            if answer is None:
                cure = "program slot 2 with featurekey-issue"
                raise Unconfigured(self._reports.reader, "slot 2 holds no HMAC-SHA1 secret", cure=cure)
            return answer.data(HMAC_SIZE)

    def close(self) -> None:
        """Release the key; calling it twice is harmless."""
        self._reports.close()

    # The vendor's side.

    def program_challenge_response(
        self,
        secret: bytes,
        *,
        access_code: bytes = NO_ACCESS_CODE,
        new_access_code: bytes | None = None,
        replace: bool = False,
    ) -> None:
        """Write the 20-byte secret into slot 2: HMAC-SHA1, LT64, no touch, serial visible.

        `access_code` (6 bytes) is the one that protects slot 2 now, zeros for none; `new_access_code` the one that
        protects it afterwards, the same unless given. Raises ValueError for wrong sizes, SlotOccupied when slot 2 is
        configured and `replace` is False, WriteRefused when the key does not take it (a wrong access code).
        """
        require_size("secret", secret, SECRET_SIZE)
        record = hmac_record(secret, access_code if new_access_code is None else new_access_code)
        self._write_slot_2(record, access_code, replace=replace)

    def clear_slot_2(self, access_code: bytes = NO_ACCESS_CODE) -> None:
        """Empty slot 2; nothing happens when it is empty; raises WriteRefused on a wrong access code (6 bytes)."""
        require_size("access code", access_code, ACCESS_CODE_SIZE)
        with self._question():
            empty = not self._rest().slot_2_valid
        if not empty:
            self._write_slot_2(None, access_code, replace=True)

    def _write_slot_2(self, record: SlotRecord | None, access_code: bytes, *, replace: bool) -> None:
        payload = write_payload(record, access_code)
        with self._question():
            before = self._rest()
            if before.slot_2_valid and not replace:
                raise SlotOccupied(self._reports.reader, "slot 2 is configured already", cure="ask to replace it")
            self._send(Slot.WRITE_2, payload)
            after = self._rest()
            if not after.follows(before):
                what = f"slot 2 was not written: program sequence {before.sequence}, then {after.sequence}"
                raise WriteRefused(self._reports.reader, what, cure="give the access code that slot 2 has now")
            self._status = after
            self._reading = self._read(serial_needed=False)

    # One question at a time.

    def _start(self, *, serial_needed: bool) -> None:
        with self._question():
            self._status = self._rest()
            if self._status.version < OLDEST_FIRMWARE:
                what = f"firmware {self._status.firmware} has no HMAC-SHA1"
                raise Unsupported(self._reports.reader, what, cure="use a key with firmware 2.2 or newer")
            self._reading = self._read(serial_needed=serial_needed)

    def _read(self, *, serial_needed: bool) -> Reading:
        serial = self._read_serial()
        if not serial and serial_needed:
            cure = "program slot 2 with featurekey-issue, which makes the serial visible"
            raise Unconfigured(self._reports.reader, "the key does not show its serial", cure=cure)
        slot_2 = "configured" if self._status.slot_2_valid else "empty"
        return Reading(
            kind=Kind.USB_OTP,
            hardware_id=serial,
            assurance=Assurance.A2,
            reader=self._reports.reader,
            simulated=self._reports.simulated,
            detail=f"firmware {self._status.firmware} slot 2 {slot_2}",
        )

    def _read_serial(self) -> str:
        answer = self._ask(Slot.SERIAL)
        # The serial is big endian, though the rest of the protocol is little endian.
        return "" if answer is None else str(int.from_bytes(answer.data(SERIAL_SIZE), "big"))

    @contextlib.contextmanager
    def _question(self) -> Iterator[None]:
        self._deadline = self._patience.clock() + self._patience.question
        try:
            yield
        except FrameError as error:
            self._abort()
            raise Garbled(self._reports.reader, str(error), cure="plug the key in again, try another port") from error
        except BaseException:
            self._abort()
            raise

    def _abort(self) -> None:
        # The first error is the one to tell; a key that cannot even take the abort says so at the next question.
        with contextlib.suppress(FeatureKeyError):
            self._reports.write(ABORT_REPORT)

    def _ask(self, slot: Slot, payload: bytes = b"") -> Answer | None:
        """Put one question and collect its answer; None when the slot refuses (flag 00 and no data)."""
        self._rest()
        self._send(slot, payload)
        answer = Answer()
        while True:
            report = self._poll(self._deadline, "did not finish its answer")
            if report_kind(report) is ReportKind.STATUS:
                if answer.started:
                    raise FrameError("the answer broke off")
                return None
            if answer.feed(report):
                self._reports.write(ABORT_REPORT)
                return answer

    def _send(self, slot: Slot, payload: bytes) -> None:
        for report in frame_reports(encode_frame(slot, payload)):
            limit = min(self._deadline, self._patience.clock() + self._patience.chunk)
            if report_kind(self._poll(limit, "stayed busy")) is ReportKind.CHUNK:
                raise FrameError("an answer came before the question was written")
            self._reports.write(report)

    def _rest(self) -> Status:
        """Wait until the key shows its status; what an earlier program left unfinished is aborted."""
        report = self._poll_at_rest()
        if report_kind(report) is not ReportKind.STATUS:
            self._reports.write(ABORT_REPORT)
            report = self._poll_at_rest()
        # A key may show for some reads more what it showed before the abort.
        while report_kind(report) is not ReportKind.STATUS:
            if self._patience.clock() >= self._deadline:
                raise self._unheeded(report)
            self._patience.pause(self._patience.poll)
            report = self._poll_at_rest()
        return decode_status(report)

    def _poll_at_rest(self) -> bytes:
        return self._poll(self._deadline, "did not come to rest", touch_matters=False)

    def _unheeded(self, report: bytes) -> Exception:
        if report_kind(report) is ReportKind.TOUCH:
            return self._touch_required()
        return FrameError(f"flag byte {report[-1]:02x} after the abort, 00 was due")

    def _poll(self, limit: float, what: str, *, touch_matters: bool = True) -> bytes:
        """The next report that is not busy; raises Busy at `limit` and TouchRequired when a touch is wanted."""
        while True:
            report = self._reports.read()
            kind = report_kind(report)
            if kind is ReportKind.TOUCH and touch_matters:
                raise self._touch_required()
            if kind is not ReportKind.BUSY:
                return report
            if self._patience.clock() >= limit:
                raise Busy(self._reports.reader, f"the key {what} in time", cure="plug it in again")
            self._patience.pause(self._patience.poll)

    def _touch_required(self) -> TouchRequired:
        cure = "program slot 2 without touch"
        return TouchRequired(self._reports.reader, "the key waits for a touch", cure=cure)
