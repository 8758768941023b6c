"""Looks at the Feature Key in a thread of its own, so that a reader that is slow or hangs never delays a decision.

Rules of this module:

* The truth is a poll; news of devices that come and go only make the next one come sooner (facts/hardware.md
  section 6).
* A key that is open is only asked whether it is still there. It is read whole, and proves itself where it can, when it
  is opened and when somebody asks for a check: keys wear, and no needless question is put to them.
* There is one thread and one open reader, whatever happens. Every reader gives up within `LONGEST_LOOK_SECONDS`. A look
  that outlasts that is stuck in the kernel: a second thread would be stuck behind it, at the same device, and the first
  one comes back when the device is unplugged. Until then the Site tells that nothing is reported.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import msgspec

from featurekeyd.hwio.featurekey import (
    FeatureKey,
    FeatureKeyError,
    NoPermission,
    TouchRequired,
    Unconfigured,
    Unsupported,
)
from featurekeyd.hwio.hotplug import HotPlug
from featurekeyd.hwio.search import open_feature_key
from featurekeyd.policy.presence import PRESENT, Sighting

CLOSE_SECONDS = 3.0
"""How long the end of the daemon waits for a look that is under way."""

PERMISSION_TRIES = 5
"""How often a device that may not be opened is tried again: permissions come some milliseconds after the device
(facts/hardware.md section 6)."""

PERMISSION_PAUSE = 0.1
"""Seconds between two of these tries: half a second in all, which udev needs on a loaded host."""

Challenge = Callable[[], bytes | None]
"""Gives a challenge of the certificate, None where there is no certificate or it has none."""


def _note_nothing(_: str) -> None:
    """Take a note to nobody."""


class KeyWatch:
    """Looks at the key that `reader` names, every so often and on demand, and reports each sighting and its number."""

    def __init__(
        self,
        reader: str,
        poll_seconds: float,
        challenge: Challenge,
        report: Callable[[Sighting, int], None],
        unexpected: Callable[[Exception], object],
        *,
        note: Callable[[str], object] = _note_nothing,
    ) -> None:
        """`note` gets a sentence for a log of level debug, at most once, from any thread."""
        self._reader = reader
        self._poll_seconds = poll_seconds
        self._challenge = challenge
        self._report = report
        self._unexpected = unexpected
        self._failing = False
        """Whether the last look ended with an exception nobody foresaw, which is told once."""
        self._forbidden = False
        """Whether the device that is there may not be opened, and was tried often enough."""
        self._key: FeatureKey | None = None
        self._sighting: Sighting | None = None
        self._looks = 0
        self._wake = threading.Event()
        self._anew = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keywatch", daemon=True)
        self._hotplug = HotPlug(reader, self._device_came_or_went, note)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()
        self._hotplug.start()

    def look_now(self) -> int:
        """Open and read the key anew, now instead of at the next turn; the number of the look to wait for."""
        self._anew.set()
        self._wake.set()
        return self._looks + 1

    def close(self) -> None:
        """Stop looking; a look that hangs is left to its fate."""
        self._hotplug.close()
        self._ended.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)

    def _device_came_or_went(self) -> None:
        """Look soon, at a key that is open no closer than a poll does; a device that came is tried patiently again."""
        self._forbidden = False
        self._wake.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            self._wake.clear()
            self._looks += 1
            if self._anew.is_set():
                self._anew.clear()
                self._let_go()
            self._report(self._look(), self._looks)
            self._wake.wait(self._poll_seconds)
        self._let_go()

    def _look(self) -> Sighting:
        try:
            sighting = self._read_patiently()
        except FeatureKeyError as error:
            self._let_go()
            self._forbidden = isinstance(error, NoPermission)
            return Sighting(state=error.state, finding=_told(error), reader=error.reader)
        except Exception as error:  # noqa: BLE001 - a reader must not end the watch, whatever happens in it
            self._let_go()
            return self._failed(error)
        self._failing = self._forbidden = False
        return sighting

    def _failed(self, error: Exception) -> Sighting:
        if not self._failing:
            self._unexpected(error)
        self._failing = True
        finding = f"unexpected {type(error).__name__} in the reader; the log has the details"
        return Sighting(state="fault", finding=finding, reader=self._reader)

    def _read_patiently(self) -> Sighting:
        """Read the key, with some more tries where a device that came just now may not be opened yet."""
        for _ in range(PERMISSION_TRIES):
            try:
                return self._read()
            except NoPermission:
                self._let_go()
                if self._forbidden or self._ended.wait(PERMISSION_PAUSE):
                    raise
        return self._read()

    def _read(self) -> Sighting:
        if self._key is not None and self._sighting is not None:
            self._key.check()
            return self._sighting
        self._key = open_feature_key(self._reader)
        self._sighting = self._proved(self._key)
        return self._sighting

    def _proved(self, key: FeatureKey) -> Sighting:
        reading = key.reading
        sighting = Sighting(
            state=PRESENT,
            finding=reading.detail,
            reader=reading.reader,
            kind=str(reading.kind),
            hardware_id=reading.hardware_id,
            assurance=str(reading.assurance),
            simulated=reading.simulated,
        )
        challenge = self._challenge()
        if challenge is None:
            return sighting
        try:
            answer = key.prove(challenge)
        except (Unsupported, Unconfigured, TouchRequired) as error:
            # Asking again would change nothing, and which key it is was read: it may simply be another one.
            return msgspec.structs.replace(sighting, state=error.state, finding=_told(error))
        return msgspec.structs.replace(sighting, challenge=challenge, answer=answer)

    def _let_go(self) -> None:
        key, self._key, self._sighting = self._key, None, None
        if key is not None:
            with contextlib.suppress(Exception):  # a device that was pulled may refuse even this; the watch goes on
                key.close()


def _told(error: FeatureKeyError) -> str:
    return f"{error.what}; {error.cure}" if error.cure else error.what
