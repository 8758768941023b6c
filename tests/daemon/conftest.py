"""A site in the hands of a test: clock and loop handed in, no thread, no device, a disk of its own.

The loop is asyncio's with a clock that stands still: a test says how many turns it makes and how much time passes.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from featurekeyd.daemon.connection import Connection
from featurekeyd.daemon.journal import Log
from featurekeyd.daemon.leasefile import LeaseFile
from featurekeyd.daemon.methods import Client, ErrorReply, Method, Outcome, Permission, Slices, call_method
from featurekeyd.daemon.peer import SO_PEERGROUPS, Access, Peer
from featurekeyd.daemon.recording import Recording
from featurekeyd.daemon.server import Server
from featurekeyd.daemon.settings import Settings
from featurekeyd.daemon.site import Site
from featurekeyd.daemon.store import Documents, Store
from featurekeyd.daemon.storing import Storing
from featurekeyd.daemon.subscribers import Subscriber
from featurekeyd.daemon.troubles import Troubles
from featurekeyd.daemon.wire import LICENSE, read_call
from featurekeyd.hwio.simulated_host import write_simulated_host
from featurekeyd.policy import certificate as certificates
from featurekeyd.policy import licenselist
from featurekeyd.policy.catalog import Catalog
from featurekeyd.policy.catalogfile import load_catalog
from featurekeyd.policy.certificate import Certificate, certificate_body
from featurekeyd.policy.decision import Rules
from featurekeyd.policy.enforcer import Enforcer
from featurekeyd.policy.events import Event, EventName
from featurekeyd.policy.instant import Now
from featurekeyd.policy.licensekey import LicenseKey, Term, make_key
from featurekeyd.policy.licenselist import Entry, LicenseList, list_body
from featurekeyd.policy.presence import Sighting
from featurekeyd.policy.rescue import rescue_step, write_code
from featurekeyd.policy.signedtext import VendorKeys, key_id, seal
from featurekeyd.policy.system import System

SERIAL = "110123456789"
CARD = "035344535530384780deadbeef0136"
TODAY = datetime.date(2026, 12, 1)
ADMIN, TELEPHONY, STRANGER = 0, 1000, 4242

CATALOG = """
id = "exchange"
title = "A small exchange"
edition = "edition"

[meters.feature_key_absent]
budget = "2h"
refill = "as_drained"
then = "deactivated"

[meters.unlisted_licenses]
budget = "72h"
refill = "by_newer_list"
then = "keys_stop"

[platforms.large]
title = "Large"
capacity = { trunk = 100000 }

[features.edition]
code = 1
title = "Edition"
unit = "system"
mode = "presence"
source = "test"

[features.trunk]
code = 2
title = "Trunks"
unit = "channel"
mode = "use"
fallback = "emergency-calls-only"
source = "test"

[features.recorder]
code = 5
title = "Recorders"
unit = "recorder"
mode = "use"
requires = ["edition"]
source = "test"

[features.tenant]
code = 6
title = "Tenants"
unit = "tenant"
mode = "configuration"
base = 16383
source = "test"

[applications.desk]
title = "Desk"
source = "test"
modes = [
    { id = "voice", title = "Desk with Voice", wants = ["trunk", "recorder"] },
    { id = "pro", title = "Desk Pro", wants = ["trunk"] },
    { id = "lite", title = "Desk Lite" },
]
"""


BINDING = """
[meters.host_changed]
budget = "72h"
refill = "as_drained"
then = "deactivated"

[meters.no_check]
budget = "72h"
refill = "by_check"
then = "deactivated"

[checks]
evidence = true

[host]
binds = true
binds_addresses = true
source = "test"
"""
"""More of a catalog: it binds the host, and wants the vendor's answer."""

RESCUE_SEED = bytes(range(20))
RESCUE_DAYS = 400


class Clock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.boot = 1_000_000.0
        self.wall = datetime.datetime.combine(TODAY, datetime.time(12), datetime.UTC).timestamp()

    def __call__(self) -> Now:
        return Now(self.wall, self.boot)

    def run(self, seconds: float) -> None:
        self.boot += seconds
        self.wall += seconds


class Loop(asyncio.SelectorEventLoop):
    """asyncio's loop with a clock that moves only when told to."""

    def __init__(self) -> None:
        self.moment = 0.0
        self.failures: list[dict[str, Any]] = []
        super().__init__()
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    def time(self) -> float:
        return self.moment

    def turn(self, times: int = 1) -> None:
        """Run what is ready, and what is due; never wait."""
        for _ in range(times):
            self.call_soon(self.stop)
            self.run_forever()

    def later(self, seconds: float) -> None:
        """Let time pass, and run what is due then."""
        self.moment += seconds
        self.turn(2)

    @property
    def timers(self) -> int:
        """Timers that still run."""
        return sum(not timer.cancelled() for timer in cast("Any", self)._scheduled)


class Told(Log):
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.troubles = Troubles(time.monotonic)

    def tell(self, event: Event) -> None:
        self.troubles.note(event)
        self.events.append(event)

    def close(self) -> None:
        """Nothing runs."""

    def names(self) -> list[EventName]:
        return [event.name for event in self.events]

    def one(self, name: EventName) -> Event:
        """The one event of that name."""
        (event,) = [event for event in self.events if event.name is name]
        return event


class Vendor:
    """Signs certificates and lists with a key of its own."""

    def __init__(self, seed: int = 1) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.signer = key_id(self._key.public_key())
        self.keys: VendorKeys = {self.signer: self._key.public_key()}
        self.public_key = self._key.public_key()
        self._sequence = 0

    def certificate(
        self, *, test: bool = False, catalog: str = "exchange", serial: str = SERIAL, issued: str = "2026-01-01"
    ) -> str:
        certificate = Certificate(
            serial=serial,
            catalog=catalog,
            kind="sd-card",
            hardware_id=CARD,
            issued=datetime.date.fromisoformat(issued),
            test=test,
            rescue_anchor=_steps(RESCUE_DAYS),
            rescue_days=RESCUE_DAYS,
        )
        return self.sealed(certificates.KIND, certificate_body(certificate))

    def sealed(self, kind: str, body: str) -> str:
        """A signed text."""
        return seal(kind, body, self.signer, self._key.sign)

    def rescue_code(self, day: datetime.date, issued: str = "2026-01-01") -> str:
        """The rescue code of a day, for a certificate that was issued then."""
        days = (day - datetime.date.fromisoformat(issued)).days
        return write_code(_steps(RESCUE_DAYS - days))

    def key(
        self,
        code: int = 2,
        instances: int = 8,
        term: Term = Term.PERPETUAL,
        catalog: str = "exchange",
        serial: str = SERIAL,
    ) -> LicenseKey:
        """Another license key."""
        self._sequence += 1
        return make_key(
            feature_code=code,
            instances=instances,
            issued=TODAY,
            term=term,
            sequence=self._sequence,
            catalog=catalog,
            serial=serial,
        )

    def list_of(self, *keys: LicenseKey, number: int = 1, serial: str = SERIAL, license_set: str | None = None) -> str:
        newer = LicenseList(
            serial=serial,
            catalog="exchange",
            number=number,
            date=TODAY,
            entries=tuple(Entry(key, "", False, license_set) for key in keys),
            trials={},
        )
        return seal(licenselist.KIND, list_body(newer), self.signer, self._key.sign)


def _steps(count: int) -> bytes:
    """So many steps of the chain of rescue codes."""
    value = RESCUE_SEED
    for _ in range(count):
        value = rescue_step(value)
    return value


class Credentials:
    """The socket options of a connected peer, as the kernel packs them."""

    def __init__(self, uid: int, *groups: int, gid: int = 7) -> None:
        self._options = {17: struct.pack("iII", 99, uid, gid), SO_PEERGROUPS: struct.pack(f"{len(groups)}I", *groups)}

    def getsockopt(self, _: int, name: int, __: int, /) -> bytes:
        return self._options[name]


class Wire(asyncio.Transport):
    """A transport that keeps what is written; its client reads only when told to."""

    def __init__(self, uid: int, *groups: int) -> None:
        super().__init__({"socket": Credentials(uid, *groups)})
        self.writes: list[bytes] = []
        self.closed = self.aborted = False
        self.reading = True
        self.reads = True
        """Whether the client reads what is written."""
        self._unread = 0
        self._high = 0
        self._full = False
        self.protocol: asyncio.Protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.aborted
        self.writes.append(bytes(data))
        if not self.reads:
            self._unread += len(data)
            if self._unread > self._high and not self._full:
                self._full = True
                self.protocol.pause_writing()

    def drain(self) -> None:
        """Let the client read again."""
        self.reads, self._unread = True, 0
        if self._full:
            self._full = False
            self.protocol.resume_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = high or 0

    def pause_reading(self) -> None:
        assert self.reading, "paused twice"
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading, "resumed twice"
        self.reading = True

    def is_reading(self) -> bool:
        return self.reading

    def was_aborted(self) -> bool:
        return self.aborted

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    @property
    def replies(self) -> list[dict[str, Any]]:
        """What was written so far, message by message."""
        return [json.loads(message) for message in b"".join(self.writes).split(b"\0")[:-1]]


class Caller:
    """One connection over a wire that a test holds in its hand."""

    def __init__(self, server: Server, uid: int, *groups: int) -> None:
        self.wire = Wire(uid, *groups)
        self.connection = Connection(server)
        self.wire.protocol = self.connection
        self.connection.connection_made(self.wire)

    def send(self, *calls: dict[str, Any] | bytes) -> None:
        """Send the calls in one piece."""
        self.bytes(b"".join(call if isinstance(call, bytes) else json.dumps(call).encode() + b"\0" for call in calls))

    def bytes(self, data: bytes) -> None:
        assert self.wire.reading, "the daemon does not read now"
        self.connection.data_received(data)

    def leave(self) -> None:
        self.connection.connection_lost(None)

    @property
    def replies(self) -> list[dict[str, Any]]:
        return self.wire.replies

    @property
    def parameters(self) -> list[dict[str, Any]]:
        return [reply["parameters"] for reply in self.replies]


class House:
    """A site with its disk, its log and its server."""

    def __init__(self, place: Path, loop: Loop, catalog: Catalog, **settings: Any) -> None:
        self.place = place
        self.loop = loop
        self.catalog = catalog
        self.clock = Clock()
        self.log = Told()
        self.vendor = Vendor()
        self.settings = msgspec.structs.replace(_settings(place), **settings)
        self.store = Store(place / "featurekeyd.db")
        self.storing = Storing(self.store, self.log.tell)
        self.enforcer = Enforcer(catalog, System(platform="large"), self.settings.rules, self.clock())
        self.lease_file = LeaseFile(place / "leases", "this-boot")
        self.recording = Recording(self.lease_file, self.enforcer.ledger)
        assert self.recording.begin() is None
        self.site = loop.run_until_complete(self._site())
        self.server = Server(self.site, loop)

    async def _site(self) -> Site:
        return Site(
            settings=self.settings,
            enforcer=self.enforcer,
            documents=Documents(),
            vendor_keys=self.vendor.keys,
            recording=self.recording,
            storing=self.storing,
            log=self.log,
            clock=self.clock,
        )

    def licensed(self, *keys: LicenseKey) -> House:
        """With the Feature Key there, certified, and these license keys on the vendor's list."""
        self.enforcer.see(self.seen(), self.clock())
        certificate = certificates.read_certificate(self.vendor.certificate(), self.vendor.keys)
        newer = licenselist.read_list(self.vendor.list_of(*keys), self.vendor.keys)
        licenses, finding = self.enforcer.licenses.with_certificate(certificate).with_list(newer)
        assert finding.accepted
        self.enforcer.adopt(licenses, self.clock())
        self.site.settle()
        self.log.events.clear()
        return self

    def wait(self) -> None:
        """Run until everything that trust has begun is done."""

        async def done() -> None:
            await asyncio.gather(*self.site.trusting._tasks)

        self.loop.run_until_complete(done())

    def caller(self, uid: int = ADMIN, *groups: int) -> Caller:
        return Caller(self.server, uid, *groups)

    def add_method(self, name: str, run: Callable[[Client, Any], Outcome], *, more: bool = False) -> None:
        """One more method, for what no real one does on demand."""
        decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(dict)
        self.server.methods[name] = Method(Permission.ASK, run, decoder, more)

    def recorded(self) -> set[str]:
        """The keys of the leases that another run would recover now."""
        return {lease.key for lease in LeaseFile(self.place / "leases", "this-boot").recover().leases}

    def ask(self, name: str, *, more: bool = False, uid: int = ADMIN, **parameters: Any) -> list[dict[str, Any]]:
        """The replies to one call, without any connection."""
        call = read_call(json.dumps({"method": name, "parameters": parameters, "more": more}).encode())
        client = Client(999, Peer(1, uid, frozenset()), lambda _: True)
        outcome = call_method(self.server.methods, call, client, frozenset(Permission))
        data = self._awaited(outcome)
        return [json.loads(message) for message in data.split(b"\0")[:-1]]

    def _awaited(self, outcome: Outcome) -> bytes:
        if isinstance(outcome, bytes):
            return outcome
        if isinstance(outcome, Subscriber):
            return outcome.welcome()
        if isinstance(outcome, Slices):
            return b"".join(outcome.pieces)
        if isinstance(outcome, Iterator):
            return b"".join(outcome)

        async def wait() -> bytes:
            try:
                return await outcome
            except ErrorReply as error:
                return error.reply

        return self.loop.run_until_complete(wait())

    def close(self) -> None:
        self.server.turns.close()
        self.storing.close()
        self.recording.close()

    # What tests say, as methods, because no test imports this file

    @staticmethod
    def credentials(uid: int, *groups: int, gid: int = 7) -> Credentials:
        """The socket options of a peer."""
        return Credentials(uid, *groups, gid=gid)

    @staticmethod
    def seen(state: str = "present", **fields: Any) -> Sighting:
        """A look at the Feature Key."""
        there = {"kind": "sd-card", "hardware_id": CARD, "assurance": "A1"} if state == "present" else {}
        return msgspec.convert({"state": state, "finding": "Looked.", "reader": "slot", **there, **fields}, Sighting)

    @staticmethod
    def call(name: str, **parameters: Any) -> dict[str, Any]:
        """A call of a method of io.featurekey.License, or of the whole name."""
        return {"method": name if "." in name else f"{LICENSE}.{name}", "parameters": parameters}

    @staticmethod
    def acquire(key: str = "call", feature: str = "trunk", **fields: Any) -> dict[str, Any]:
        """A call of Acquire for one instance."""
        parameters = {"holder": "kamailio", "key": key, "wants": [{"feature": feature}], **fields}
        return {"method": f"{LICENSE}.Acquire", "parameters": parameters}


def _settings(place: Path) -> Settings:
    return Settings(
        catalog="exchange",
        system=System(platform="large"),
        reader="slot",
        poll_seconds=5.0,
        access=Access(ask_users=frozenset({TELEPHONY}), ask_groups=frozenset({500}), manage_groups=frozenset({501})),
        rules=Rules(),
        socket=place / "socket",
        runtime=place,
        state=place,
        vendor_keys=place,
        log_target="stderr",
    )


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return load_catalog(CATALOG, "exchange.toml")


@pytest.fixture
def loop() -> Iterator[Loop]:
    opened = Loop()
    yield opened
    for task in asyncio.all_tasks(opened):
        task.cancel()
    opened.turn(2)
    opened.run_until_complete(opened.shutdown_default_executor())
    opened.close()
    assert opened.failures == []


@pytest.fixture
def house(tmp_path: Path, loop: Loop, catalog: Catalog) -> Iterator[House]:
    """A site that nobody has certified yet."""
    opened = House(tmp_path, loop, catalog)
    yield opened
    opened.close()


@pytest.fixture
def licensed(house: House) -> House:
    """A certified site with the edition and 8 trunks."""
    return house.licensed(house.vendor.key(code=1, instances=1), house.vendor.key(code=2, instances=8))


async def _looks_at_nothing() -> None:
    """In place of a look at the Feature Key."""


@pytest.fixture
def bound(tmp_path: Path, loop: Loop) -> Iterator[House]:
    """A certified site, bound to a simulated host in the folder `host`, that wants the vendor's answer.

    The Feature Key is as a test last said that it was seen.
    """
    write_simulated_host(tmp_path / "host")
    catalog = load_catalog(CATALOG + BINDING, "exchange.toml")
    opened = House(tmp_path, loop, catalog, reader=f"host:{tmp_path / 'host'}")
    opened.site.trusting._look = _looks_at_nothing
    opened.licensed(opened.vendor.key(code=1, instances=1), opened.vendor.key(code=2, instances=8))
    yield opened
    opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


@pytest.fixture(params=["asyncio", "uvloop"])
def live(request: pytest.FixtureRequest, tmp_path: Path, catalog: Catalog) -> Iterator[House]:
    """A certified site with 8 trunks on a loop whose clock runs by itself."""
    kind = asyncio if request.param == "asyncio" else pytest.importorskip("uvloop")
    loop: asyncio.AbstractEventLoop = kind.new_event_loop()
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    access = Access(manage_users=frozenset({os.getuid()}))
    opened = House(tmp_path, cast("Loop", loop), catalog, access=access)
    yield opened.licensed(opened.vendor.key(code=1, instances=1), opened.vendor.key(code=2, instances=8))
    loop.run_until_complete(loop.shutdown_default_executor())
    opened.close()
    loop.close()
    assert failures == []
