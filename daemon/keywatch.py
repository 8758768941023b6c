"""Looks at the Feature Key in a thread of its own, so that a reader that is slow or hangs never delays a decision.

The truth is a poll (facts/hardware.md section 6). A key that is open is only asked whether it is still there; it is
read whole, and proves itself where it can, when it is opened and when somebody asks for a check: keys wear, and no
needless question is put to them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import msgspec

from featurekeyd.hwio.featurekey import FeatureKey, FeatureKeyError
from featurekeyd.hwio.search import open_feature_key
from featurekeyd.policy.presence import PRESENT, Sighting

CLOSE_SECONDS = 3.0
"""How long the end of the daemon waits for a look that is under way."""

Challenge = Callable[[], bytes | None]
"""Gives a challenge of the certificate, None where there is no certificate or it has none."""


class KeyWatch:
    """Looks at the key that `reader` names, every so often and on demand, and reports each sighting and its number."""

    def __init__(
        self,
        reader: str,
        poll_seconds: float,
        challenge: Challenge,
        report: Callable[[Sighting, int], None],
        unexpected: Callable[[Exception], object],
    ) -> None:
        self._reader = reader
        self._poll_seconds = poll_seconds
        self._challenge = challenge
        self._report = report
        self._unexpected = unexpected
        self._failing = False
        """Whether the last look ended with an exception nobody foresaw, which is told once."""
        self._key: FeatureKey | None = None
        self._sighting: Sighting | None = None
        self._looks = 0
        self._wake = threading.Event()
        self._anew = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keywatch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def look_now(self) -> int:
        """Open and read the key anew, now instead of at the next turn; the number of the look to wait for."""
        self._anew.set()
        self._wake.set()
        return self._looks + 1

    def close(self) -> None:
        """Stop looking; a look that hangs is left to its fate."""
        self._ended.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)

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
            sighting = self._read()
        except FeatureKeyError as error:
            self._let_go()
            finding = f"{error.what}; {error.cure}" if error.cure else error.what
            sighting = Sighting(state=error.state, finding=finding, reader=error.reader)
        except Exception as error:  # noqa: BLE001 - a reader must not end the watch, whatever happens in it
            self._let_go()
            return self._failed(error)
        self._failing = False
        return sighting

    def _failed(self, error: Exception) -> Sighting:
        if not self._failing:
            self._unexpected(error)
        self._failing = True
        finding = f"unexpected {type(error).__name__} in the reader; the log has the details"
        return Sighting(state="fault", finding=finding, reader=self._reader)

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
        return msgspec.structs.replace(sighting, challenge=challenge, answer=key.prove(challenge))

    def _let_go(self) -> None:
        key, self._key, self._sighting = self._key, None, None
        if key is not None:
            with contextlib.suppress(Exception):  # a device that was pulled may refuse even this; the watch goes on
                key.close()
