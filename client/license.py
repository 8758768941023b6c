"""The client for telephony processes: ask before a call, give back after it, say which calls there are.

Standard library only. Rules of this module (facts/telephony.md sections 2 and 6):

* `acquire` and `release` raise nothing for trouble with the daemon; a refusal is a value. ValueError is for mistakes
  of the program that calls, such as an empty key. What a far end chooses is no such mistake: see `limits`.
* A question takes at most the time limit, 250 ms, whatever happens: SIP workers block while they ask.
* After trouble the daemon is left alone for one second: `acquire` is answered on the spot. A release is tried even
  then, and one that cannot be delivered is queued.
* Queued releases are delivered before the next question is asked. So a key that is acquired again is first released
  and then taken afresh, and a key whose call is allowed is in the queue no longer.
* A refused call whose question was sent and not answered may hold a lease that nobody knows of: its key is queued for
  release. Not so when the call goes on anyway (`fail_open`, emergency): its own end will release it. Not so either in
  the phase `established`, where a release would take the lease from a running call; the next Sync puts that right.
* An emergency call is never refused, neither by an answer nor by an exception, whatever the caller hands in.
* `fail_open` holds where the daemon could not be asked, not where it refused the question (reason `refused`): a far
  end must not be able to turn a license off by what it sends.
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

from .answer import EMERGENCY_GRANTED, Answer, SyncResult, read_answer, read_sync_result, without_daemon
from .call import DEFAULT_SOCKET, LICENSE, CallError, CallRefused, Connection, DaemonAway, DaemonSlow, PermissionRefused
from .callrequest import call_request, emergency_request, is_emergency
from .limits import dialed_text, holder_text, key_text, place_text, sync_parts, text_of
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

EMERGENCY_NUMBERS = ("112", "911")
"""Numbers that this client takes for emergency calls unless told otherwise; those of the site belong here as well."""

MAX_REPLY = 256 * 1024
"""Bytes of one reply; a SIP worker must not eat the memory of its host. Status is the longest one here: 256 holders,
each a name of at most 256 bytes and 100 bytes beside it."""

CallClass = Literal["normal", "emergency", "callback"]
Phase = Literal["setup", "established"]
Scope = Literal["calls", "registrations", "configuration"]

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class SyncLease:
    """One lease of the list given to `sync`; raises ValueError for an empty key."""

    key: str | int
    wants: tuple[Want | str, ...]
    port: str | int | None = None
    channel: str | int | None = None
    call_class: CallClass | None = None
    dialed: str | int | None = None
    """The number that was dialed, of an emergency call: one that is on the daemon's list raises no alarm."""

    def __post_init__(self) -> None:
        if not text_of("the key of a lease", self.key):
            raise ValueError("the key of a lease must not be empty")

    def on_wire(self) -> dict[str, Any]:
        """The lease as the interface has it."""
        places = {"port": place_text("port", self.port), "channel": place_text("channel", self.channel)}
        members = places | {"class": self.call_class, "dialed": dialed_text(self.dialed)}
        # An emergency call holds nothing, and one that the daemon named need not say what it wanted.
        is_bare = not self.wants and self.call_class not in (None, "normal")
        wants = [] if is_bare else [want.on_wire() for want in parse_wants(self.wants)]
        return {"key": key_text(self.key), "wants": wants} | {k: v for k, v in members.items() if v is not None}


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

    `timeout` in seconds, over 0 and up to 60. `clock` is a monotonic one, in seconds. Raises ValueError for a holder
    that has no name or one of over 64 characters, and for a time limit out of bounds.
    """

    def __init__(
        self,
        holder: str,
        path: str | os.PathLike[str] = DEFAULT_SOCKET,
        timeout: float = TIME_LIMIT,
        *,
        emergency_numbers: Iterable[str | int] = EMERGENCY_NUMBERS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < timeout <= 60:
            raise ValueError(f"the time limit must be over 0 and up to 60 seconds, not {timeout}")
        if isinstance(emergency_numbers, str | bytes | int):
            raise ValueError("emergency_numbers is a collection of numbers, not one text")  # noqa: TRY004 - by contract
        self.holder = holder_text(holder)
        self.path = os.fspath(path)
        self._timeout = timeout
        self._emergency_numbers = frozenset(text_of("an emergency number", n).strip() for n in emergency_numbers)
        self._clock = clock
        self._lanes: dict[int, _Lane] = {}
        self._generation = 0

    def acquire(
        self,
        key: str | int,
        wants: Iterable[Want | str] | Want | str = (),
        *,
        application: str | None = None,
        mode: str | None = None,
        port: str | int | None = None,
        channel: str | int | None = None,
        call_class: CallClass | None = None,
        dialed: str | int | None = None,
        phase: Phase | None = None,
        wait: bool = False,
        rank: str | None = None,
        fail_open: bool = False,
    ) -> Answer:
        """Take what the call needs, all of it or nothing; `fail_open` is the answer when the daemon cannot be asked.

        With `application` in place of wants: take what the best mode at or below `mode` needs; the answer names it.
        With `wait` a key that lacks instances alone waits in order; `place` in the answer says where, and asking again
        within 150 s keeps the place.
        Raises ValueError for an empty key, no or wrong wants, an unknown class or phase, or a value that is neither
        text nor a number; for an emergency call nothing.
        """
        said = {"key": key, "wants": wants, "port": port, "channel": channel}
        said |= {"class": call_class, "dialed": dialed, "phase": phase, "application": application, "mode": mode}
        said |= {"wait": wait, "rank": rank}
        if not is_emergency(call_class, dialed, self._emergency_numbers):
            return self._acquire(call_request(self.holder, said), fail_open=bool(fail_open))
        try:
            return self._acquire(emergency_request(self.holder, said), emergency=True)
        except Exception:  # noqa: BLE001 - whatever it is, nobody may be kept from calling for help by it
            return EMERGENCY_GRANTED

    def release(self, key: str | int) -> bool:
        """Give back what the key holds: true when the daemon had it and freed it.

        False when it held nothing, and when the release is queued (see `pending_releases`). Raises ValueError for an
        empty key.
        """
        key = key_text(key)
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
        """Say which leases of one scope there really are; raises CallError, and each part has a time limit.

        A part has at most 256 leases and fits into one message. `list_age_ms` is the time since the list was taken. A
        queued release of a key that the list still has is dropped when it is older than the list: that call is alive.
        """
        listed = list(leases)
        lane, begun = self._lane(), self._clock()
        taken = begun - list_age_ms / 1000
        taken_ms = round(time.clock_gettime(time.CLOCK_BOOTTIME) * 1000) - list_age_ms
        wired = [lease.on_wire() for lease in listed]
        lane.queue.discard_older((lease["key"] for lease in wired), taken)
        common = {"holder": self.holder, "scope": scope, "ttl_seconds": ttl_seconds}
        common["takes_over"] = None if takes_over is None else holder_text(takes_over)
        common |= {"generation": self._next_generation(begun), "taken_ms": max(taken_ms, 0)}
        parts = sync_parts(wired)
        results = []
        for number, part in enumerate(parts, 1):
            request = common | {"leases": part, "part": number, "last": number == len(parts)}
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

    def _acquire(self, request: dict[str, Any], *, fail_open: bool = False, emergency: bool = False) -> Answer:
        lane, key = self._lane(), request["key"]
        try:
            answer = self._question("Acquire", request, read_answer, key=key, rests=True)
        except CallError as trouble:
            if trouble.doubtful and request.get("phase") != "established":
                lane.queue.add(key, self._clock())
            feature = request["wants"][0]["feature"] if request["wants"] else None
            answer = without_daemon(trouble, feature, fail_open=fail_open)
        if emergency and not (answer.allowed and answer.from_daemon):
            answer = EMERGENCY_GRANTED
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
                if not refused.final:
                    break
                lane.queue.lose(key)
                continue
            lane.queue.discard(key)
            if reply.get("released") is True:
                freed.add(key)
        return freed

    def _deliver(self, lane: _Lane, key: str, timeout: float) -> dict[str, Any]:
        try:
            return lane.connection.call(f"{LICENSE}.Release", {"holder": self.holder, "key": key}, timeout=timeout)
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
        """A number that rises from list to list, also over a restart of this process.

        Where it is lower all the same, the daemon refuses lists until 60 s after the newest it knows.
        """
        self._generation = max(self._generation + 1, int(now * 1000))
        return self._generation
