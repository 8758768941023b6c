"""The client for telephony processes: ask before a call, give back after it, say which calls there are.

Standard library only. Rules of this module (facts/telephony.md sections 2 and 6):

* `acquire` and `release` raise nothing for trouble with the daemon; a refusal is a value. ValueError is for mistakes
  of the program that calls, such as an empty key.
* A question takes at most the time limit, 250 ms, whatever happens: SIP workers block while they ask.
* After trouble the daemon is left alone for one second: `acquire` is answered on the spot. A release is tried even
  then, and one that cannot be delivered is queued.
* Queued releases are delivered before the next question is asked. So a key that is acquired again is first released
  and then taken afresh, and a key whose call is allowed is in the queue no longer.
* A refused call whose question was sent and not answered may hold a lease that nobody knows of: its key is queued for
  release. Not so when the call goes on anyway (`fail_open`, emergency): its own end will release it. Not so either in
  the phase `established`, where a release would take the lease from a running call; the next Sync puts that right.
* An emergency call is never refused.
* One client may serve all threads of a process: a lock lets one question through at a time, and waiting for it counts
  against the time limit. After a fork the child starts with a connection and a queue of its own; what is in the
  parent's queue stays the parent's, or a child would release what the parent has taken again.

What one process cannot know: that another process of the same holder took a key again while its release is waiting
here. A SIP key (Call-ID and From-tag) names one call only, so this does not occur with calls that are set up once.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from .answer import Answer, SyncResult, emergency_granted, read_answer, read_sync_result, without_daemon
from .call import DEFAULT_SOCKET, LICENSE, CallError, CallRefused, Connection, DaemonAway, DaemonSlow, PermissionRefused
from .releasequeue import ReleaseQueue
from .wantsyntax import Want, parse_wants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

TIME_LIMIT = 0.25
"""Seconds for a whole question: half of the 500 ms after which a caller's switch sends its INVITE again."""

COOL_DOWN = 1.0
"""Seconds after trouble during which `acquire` is answered on the spot: a SIP worker waits once, not for each call."""

RELEASE_SHARE_IN_COOL_DOWN = 0.2
"""Part of the time limit that a release may take during the cool-down: 50 ms, ample for a daemon that is back, and a
stopped one does not hold up every BYE for 250 ms."""

FLUSH_SHARE = 0.5
"""Part of the time limit after which `acquire` stops delivering queued releases and asks its own question."""

SYNC_CHUNK = 256
"""Leases in one call of Sync (io.featurekey.License)."""

EMERGENCY_NUMBERS = ("112", "911")
"""Numbers that this client takes for emergency calls unless told otherwise; those of the site belong here as well."""

MAX_REPLY = 256 * 1024
"""Bytes of one reply; a SIP worker must not eat the memory of its host. Status is the longest one here: 256 holders,
each a name of at most 256 bytes and 100 bytes beside it."""

CallClass = Literal["normal", "emergency", "callback"]
Phase = Literal["setup", "established"]
Scope = Literal["calls", "registrations", "configuration"]

_Value = TypeVar("_Value")

_TRY_AGAIN = frozenset({f"{LICENSE}.UnexpectedCondition", f"{LICENSE}.TooManyConnections"})
"""Errors after which a release is kept; any other would come again each time."""


@dataclass(frozen=True, slots=True)
class SyncLease:
    """One lease of the list given to `sync`; raises ValueError for an empty key."""

    key: str
    wants: tuple[Want | str, ...]
    port: str | None = None
    channel: str | None = None
    call_class: CallClass | None = None

    def __post_init__(self) -> None:
        if not self.key:
            raise ValueError("the key of a lease must not be empty")

    def on_wire(self) -> dict[str, Any]:
        """The lease as the interface has it."""
        members = {"port": _text(self.port), "channel": _text(self.channel), "class": self.call_class}
        wants = [want.on_wire() for want in parse_wants(self.wants)]
        return {"key": _text(self.key), "wants": wants} | {k: v for k, v in members.items() if v is not None}


class _Lane:
    """What belongs to one process alone: its connection, its queue of releases, its cool-down."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.queue = ReleaseQueue()
        self.lock = threading.Lock()
        self.rests_until = float("-inf")
        self.trouble: CallError | None = None


class LicenseClient:
    """Asks the daemon in the name of one holder; safe to share between threads and over a fork (module docstring).

    `timeout` in seconds, over 0 and up to 60. `clock` is a monotonic one, in seconds. Raises ValueError for an empty
    holder or a time limit out of bounds.
    """

    def __init__(
        self,
        holder: str,
        path: str = DEFAULT_SOCKET,
        timeout: float = TIME_LIMIT,
        *,
        emergency_numbers: Iterable[str] = EMERGENCY_NUMBERS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not holder:
            raise ValueError("the holder must have a name")
        if not 0 < timeout <= 60:
            raise ValueError(f"the time limit must be over 0 and up to 60 seconds, not {timeout}")
        if isinstance(emergency_numbers, str):
            raise ValueError("emergency_numbers is a collection of numbers, not one text")  # noqa: TRY004 - by contract
        self.holder = holder
        self.path = path
        self._timeout = timeout
        self._emergency_numbers = frozenset(emergency_numbers)
        self._clock = clock
        self._lanes: dict[int, _Lane] = {}
        self._generation = 0

    def acquire(
        self,
        key: str,
        wants: Iterable[Want | str] | Want | str,
        *,
        port: str | None = None,
        channel: str | None = None,
        call_class: CallClass | None = None,
        dialed: str | None = None,
        phase: Phase | None = None,
        fail_open: bool = False,
    ) -> Answer:
        """Take what the call needs, all of it or nothing; `fail_open` is the answer when the daemon gives none.

        Raises ValueError for an empty key, no or wrong wants, or an unknown class or phase; for an emergency call
        not even that.
        """
        emergency = call_class == "emergency" or (dialed is not None and dialed.strip() in self._emergency_numbers)
        try:
            request = self._request(
                key, wants, port=port, channel=channel, call_class=call_class, dialed=dialed, phase=phase
            )
        except ValueError:
            if emergency:
                return emergency_granted()
            raise
        if emergency:
            # Said plainly, so that a number which the daemon's settings lack is granted there, with an alarm.
            request["class"] = "emergency"
        answer = self._acquire(request, fail_open=fail_open or emergency)
        return emergency_granted() if emergency and not (answer.allowed and answer.from_daemon) else answer

    def release(self, key: str) -> bool:
        """Give back what the key holds: true when the daemon had it and freed it.

        False when it held nothing, and when the release is queued (see `pending_releases`). Raises ValueError for an
        empty key.
        """
        key = _needed_text("key", key)
        lane, now = self._lane(), self._clock()
        deadline = now + self._timeout * (RELEASE_SHARE_IN_COOL_DOWN if now < lane.rests_until else 1)
        try:
            with self._turn(lane, deadline):
                # Not before it is this thread's turn: another one would deliver it and know the result.
                lane.queue.add(key, now)
                return key in self._flush(lane, deadline, until=deadline)
        except CallError:
            lane.queue.add(key, now)
            return False

    def deliver(self) -> int:
        """Try to deliver queued releases now, for idle moments and before leaving; how many still wait."""
        lane, now = self._lane(), self._clock()
        if lane.queue:
            deadline = now + self._timeout
            with contextlib.suppress(CallError), self._turn(lane, deadline):
                self._flush(lane, deadline, until=deadline)
        return len(lane.queue)

    def sync(
        self,
        scope: Scope,
        leases: Iterable[SyncLease],
        *,
        list_age_ms: int = 0,
        ttl_seconds: int | None = None,
        takes_over: str | None = None,
    ) -> SyncResult:
        """Say which leases of one scope there really are; raises CallError, and each 256 leases have a time limit.

        `list_age_ms` is the time since the list was taken. A queued release of a key that the list still has is
        dropped when it is older than the list: that call is alive.
        """
        listed = list(leases)
        lane, begun = self._lane(), self._clock()
        taken = begun - list_age_ms / 1000
        lane.queue.discard_older((_needed_text("key", lease.key) for lease in listed), taken)
        common = {"holder": _text(self.holder), "scope": scope, "ttl_seconds": ttl_seconds, "takes_over": takes_over}
        common["generation"] = self._next_generation(begun)
        chunks = [listed[start : start + SYNC_CHUNK] for start in range(0, max(1, len(listed)), SYNC_CHUNK)]
        results = []
        for number, chunk in enumerate(chunks, 1):
            age = round((self._clock() - taken) * 1000)
            members = {"leases": [lease.on_wire() for lease in chunk], "list_age_ms": age}
            request = common | members | {"last": number == len(chunks)}
            results.append(self._question("Sync", request, read_sync_result))
        adopted, changed, freed = (sum(getattr(r, name) for r in results) for name in ("adopted", "changed", "freed"))
        return SyncResult(adopted, changed, freed, held=results[-1].held)

    def status(self) -> dict[str, Any]:
        """The state of the whole system, as in the reply to Status of io.featurekey.License; raises CallError."""
        return self._question("Status", {}, dict)

    @property
    def pending_releases(self) -> int:
        """Releases of this process that wait to be delivered."""
        return len(self._lane().queue)

    @property
    def lost_releases(self) -> int:
        """Releases of this process that were given up: the queue was full, or the daemon will not take them."""
        return self._lane().queue.lost

    @property
    def last_trouble(self) -> CallError | None:
        """The last error met by this process, for its log; kept when things go well again."""
        return self._lane().trouble

    def close(self) -> None:
        """Close the connection of this process; a later question opens another."""
        lane = self._lane()
        with lane.lock:
            lane.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _request(
        self,
        key: str,
        wants: Iterable[Want | str] | Want | str,
        *,
        port: str | None,
        channel: str | None,
        call_class: str | None,
        dialed: str | None,
        phase: str | None,
    ) -> dict[str, Any]:
        if call_class not in {None, "normal", "emergency", "callback"}:
            raise ValueError(f"call_class must be normal, emergency or callback, not {call_class!r}")
        if phase not in {None, "setup", "established"}:
            raise ValueError(f"phase must be setup or established, not {phase!r}")
        return {
            "holder": _text(self.holder),
            "key": _needed_text("key", key),
            "wants": [want.on_wire() for want in parse_wants(wants)],
            "port": _text(port),
            "channel": _text(channel),
            "class": call_class,
            "dialed": _text(dialed),
            "phase": phase,
        }

    def _acquire(self, request: dict[str, Any], *, fail_open: bool) -> Answer:
        lane, key = self._lane(), request["key"]
        try:
            answer = self._question("Acquire", request, read_answer, key=key, rests=True)
        except CallError as trouble:
            if trouble.doubtful and request["phase"] != "established":
                lane.queue.add(key, self._clock())
            answer = without_daemon(trouble, request["wants"][0]["feature"], allowed=fail_open)
        if answer.allowed:
            # The call is alive, with the daemon's word or without: its own end will release the key.
            lane.queue.discard(key)
        return answer

    def _question(
        self,
        method: str,
        parameters: dict[str, Any],
        read: Callable[[dict[str, Any]], _Value],
        *,
        key: str | None = None,
        rests: bool = False,
    ) -> _Value:
        """Deliver queued releases, that of `key` first, then ask; with `rests` not during the cool-down."""
        lane, now = self._lane(), self._clock()
        deadline = now + self._timeout
        if rests and now < lane.rests_until:
            raise DaemonAway(f"the daemon gave no answer a moment ago ({lane.trouble and lane.trouble.what})")
        with self._turn(lane, deadline):
            self._flush(lane, deadline, until=now + self._timeout * FLUSH_SHARE, first=key)
            return read(lane.connection.call(f"{LICENSE}.{method}", parameters, timeout=deadline - self._clock()))

    def _flush(self, lane: _Lane, deadline: float, *, until: float, first: str | None = None) -> set[str]:
        """Deliver queued releases until the time `until`; those of them that freed a lease."""
        freed = set()
        for key in lane.queue.keys(first):
            now = self._clock()
            if now >= until:
                break
            try:
                reply = self._deliver(lane, key, deadline - now)
            except CallRefused as refused:
                lane.trouble = refused
                if refused.error in _TRY_AGAIN:
                    break
                lane.queue.lose(key)
                continue
            lane.queue.discard(key)
            if reply.get("released") is True:
                freed.add(key)
        return freed

    def _deliver(self, lane: _Lane, key: str, timeout: float) -> dict[str, Any]:
        try:
            return lane.connection.call(
                f"{LICENSE}.Release", {"holder": _text(self.holder), "key": key}, timeout=timeout
            )
        except CallError as error:
            error.doubtful = False  # the doubt is about the release, not about the question that waits behind it
            raise

    @contextlib.contextmanager
    def _turn(self, lane: _Lane, deadline: float) -> Iterator[None]:
        """Wait for this thread's turn, and remember trouble for the cool-down."""
        if not lane.lock.acquire(timeout=max(0.0, deadline - self._clock())):
            raise DaemonSlow(self.path)
        try:
            yield
        except CallError as error:
            lane.trouble = error
            if not isinstance(error, CallRefused | PermissionRefused):
                lane.rests_until = self._clock() + COOL_DOWN
            raise
        finally:
            lane.lock.release()

    def _lane(self) -> _Lane:
        """The lane of this process, made at its first use; lanes that came over a fork are closed unused."""
        process = os.getpid()
        lane = self._lanes.get(process)
        if lane is None:
            lane = self._lanes.setdefault(process, _Lane(Connection(self.path, max_reply=MAX_REPLY, clock=self._clock)))
            for inherited in [other for other in list(self._lanes) if other != process]:
                dropped = self._lanes.pop(inherited, None)
                if dropped is not None:
                    dropped.connection.close()
        return lane

    def _next_generation(self, now: float) -> int:
        """A number that rises from list to list, also over a restart of this process."""
        self._generation = max(self._generation + 1, int(now * 1000))
        return self._generation


def _text(text: str | None) -> str | None:
    """Text that JSON can carry: bytes that were not UTF-8 and came in as lone surrogates are spelled out."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()


def _needed_text(name: str, text: str) -> str:
    found = _text(text)
    if not found:
        raise ValueError(f"the {name} must not be empty")
    return found
