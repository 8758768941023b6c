"""Systems with a life: what is plugged in, what the vendor knows, and the Enforcer with what its daemon would store.

Time is handed in and passes for all systems of a world at once. A reboot builds a new Enforcer from what was stored, in
a new boot whose boot clock begins near 0; what is stored goes through its written form.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable

import msgspec
import pytest

from featurekeyd.policy.catalog import Catalog, CheckRule, Feature
from featurekeyd.policy.certificate import Certificate
from featurekeyd.policy.checkevidence import CheckEvidence, CheckResult, judge_check
from featurekeyd.policy.decision import Decision, Rules
from featurekeyd.policy.enforcer import Enforcer
from featurekeyd.policy.enrollment import renew, terms_of
from featurekeyd.policy.hostaddress import Announcement, SiteAddresses, announce
from featurekeyd.policy.hostevidence import (
    Evidence,
    HostAddress,
    HostComponent,
    HostNic,
    HostRefused,
    digests_of,
    hardware_id_of,
)
from featurekeyd.policy.instant import Now
from featurekeyd.policy.ledger import Lease
from featurekeyd.policy.licensekey import LicenseKey, Term, make_key
from featurekeyd.policy.licenselist import Entry, LicenseList
from featurekeyd.policy.licenses import Licenses
from featurekeyd.policy.localcheck import CheckItem, LocalCheck, Schedule, Trouble
from featurekeyd.policy.presence import Sighting
from featurekeyd.policy.requests import Request, Want
from featurekeyd.policy.rescue import Rescued, RescueRefusal, check_rescue, rescue_step, write_code
from featurekeyd.policy.system import System
from featurekeyd.policy.trust import Kept, untold

BEGIN = datetime.datetime(2026, 1, 5, 8, tzinfo=datetime.UTC)
RELEASED = datetime.date(2025, 12, 1)
RESCUE_DAYS = 500
BOOTED = 30.0
"""Boot time at which the daemon starts."""
UID = 1000
SITE = SiteAddresses()
PARTS = ("product-uuid", "product-serial", "board-serial", "machine-id", "cpu-model")


class Order(msgspec.Struct, frozen=True):
    """What was bought: made into a license key for whichever Feature Key has it."""

    feature: Feature
    instances: int
    term: Term
    issued: datetime.date
    sequence: int
    listed: bool = True


class Host(msgspec.Struct, frozen=True):
    """The hardware that a system runs on."""

    name: str
    nic: int = 1
    address: str = "192.0.2.10"
    readable: bool = True

    def evidence(self) -> Evidence:
        """What one look at it finds."""
        missing = None if self.readable else "no permission"
        value = f"of {self.name}" if self.readable else ""
        nic = HostNic(name="enp1s0", permanent=f"nic {self.nic} of {self.name}", primary=True)
        return Evidence(
            components=tuple(HostComponent(name=part, value=value, missing=missing) for part in PARTS),
            nics=(nic,) if self.readable else (),
            addresses=(HostAddress(interface=nic.name, family="ipv4", address=self.address),),
        )


class World:
    """All systems of a file, and the true time, in seconds since 1970."""

    def __init__(self, catalogs: dict[str, Catalog]) -> None:
        self.catalogs = catalogs
        self.time = BEGIN.timestamp()
        self.lives: dict[str, Life] = {}
        self.life: Life | None = None
        """The system that the lines are about."""

    @property
    def today(self) -> datetime.date:
        return datetime.datetime.fromtimestamp(self.time, datetime.UTC).date()

    def begin(self, name: str, product: str, platform: str, *, asks: bool) -> None:
        """Take a new system into service."""
        catalog = msgspec.structs.replace(self.catalogs[product], checks=CheckRule(evidence=asks))
        self.life = self.lives[name] = Life(self, name, catalog, platform)

    def run(self, seconds: float) -> None:
        """Let time pass for all systems, each with its checks when they are due."""
        end = self.time + seconds
        while self.time < end:
            waits = (life.schedule.seconds_until(life.now.boot) for life in self.lives.values() if life.is_on)
            self.time = min(end, self.time + min(waits, default=end))
            for life in self.lives.values():
                life.tick()


class Life:
    """One system: what is plugged in, what the vendor knows of it, and the Enforcer with what it would have stored."""

    def __init__(self, world: World, name: str, catalog: Catalog, platform: str) -> None:
        self.world, self.name, self.catalog, self.platform = world, name, catalog, platform
        self.serial = 110_000_000_000 + len(world.lives)
        self.host = Host(name)
        self.key: Sighting | None = None
        """What is in the slot; where the host is the Feature Key nothing is."""
        self.orders: list[Order] = []
        self.numbers = itertools.count(1)
        self.sequences = itertools.count(1)
        self.troubles: dict[CheckItem, Trouble] = {}
        self.is_on = False
        self.boots = 0
        self.booted = self.clock_error = 0.0
        self.backup: Stored | None = None
        self.start(Stored())

    @property
    def now(self) -> Now:
        return Now(self.world.time + self.clock_error, self.world.time - self.booted)

    @property
    def certificate(self) -> Certificate | None:
        return self.enforcer.licenses.certificate

    # The daemon's part

    def start(self, stored: Stored) -> None:
        """Boot, and let a daemon begin with what was stored."""
        self.boots += 1
        self.booted = self.world.time - BOOTED
        self.is_on = True
        self.resume(stored)

    def resume(self, stored: Stored) -> None:
        """Let a daemon begin with what was stored, in this boot."""
        kept = None if stored.kept is None else msgspec.json.decode(stored.kept, type=Kept)
        self.enforcer = Enforcer(
            self.catalog,
            System(platform=self.platform),
            Rules(),
            self.now,
            released=RELEASED,
            drained={cause: stored.drained[cause] for cause in self.catalog.meters if cause in stored.drained},
            boot_id=f"{self.name} {self.boots}",
            kept=kept,
        )
        self.enforcer.trust.answer = stored.answer
        if stored.licenses is not None:
            self.enforcer.adopt_stored(stored.licenses, self.now)
        self.enforcer.restore(list(stored.leases), self.now)
        self.schedule = Schedule(every=self.catalog.checks.seconds or 0)
        self.look_and_check()

    def stored(self, *, reboot: bool = True) -> Stored:
        """What the daemon has stored when it ends; where there is no reboot, what the runtime directory has too."""
        self.enforcer.tick(self.now)
        return Stored(
            kept=msgspec.json.encode(self.enforcer.trust.kept),
            drained={cause: meter.drained for cause, meter in self.enforcer.meters.items()},
            licenses=self.enforcer.licenses,
            answer=self.enforcer.trust.answer,
            leases=tuple(lease for lease in self.enforcer.ledger if lease.outlives_reboot or not reboot),
        )

    def tick(self) -> None:
        """Let the daemon see how late it is, and check when that is due."""
        if self.is_on:
            self.enforcer.tick(self.now)
            if self.schedule.is_due(self.now.boot):
                self.look_and_check()

    def look(self) -> None:
        """Look at the Feature Key and at the host."""
        enforcer, now = self.enforcer, self.now
        enforcer.see(self.sighting(), now)
        enforcer.trust.see_host(self.host.evidence(), SITE, self.certificate, now, enforcer.today(now))
        enforcer.update(now)

    def look_and_check(self) -> None:
        """What is done when it is time; nobody checks a system before it is certified."""
        self.look()
        self.schedule = self.schedule.done(self.now.boot)
        if self.certificate is not None:
            self.check()

    def check(self) -> LocalCheck:
        """Check, on demand or in time."""
        found = self.enforcer.trust.take_check(self.enforcer.feature_key, self.certificate, self.troubles, self.now)
        self.enforcer.update(self.now)
        return found

    def sighting(self) -> Sighting:
        if self.catalog.host.binds:
            return key_of("host", hardware_id_of(digests_of(self.host.evidence())))
        return self.key or Sighting(state="absent", finding="The slot is empty.", reader="slot")

    # The vendor's part

    def certify(self) -> None:
        """Import a certificate for the Feature Key that is there, which the vendor makes today."""
        there = self.sighting()
        assert there.kind is not None
        assert there.hardware_id is not None
        certificate = Certificate(
            serial=str(self.serial),
            catalog=self.catalog.id,
            kind=there.kind,
            hardware_id=there.hardware_id,
            issued=self.world.today,
            test=False,
            rescue_anchor=chain(str(self.serial), RESCUE_DAYS),
            rescue_days=RESCUE_DAYS,
        )
        assert self.enforcer.refuse_certificate(certificate) is None
        self.enforcer.adopt(self.enforcer.licenses.with_certificate(certificate), self.now)
        self.look_and_check()

    def license_key(self, order: Order) -> LicenseKey:
        return make_key(
            feature_code=order.feature.code,
            instances=order.instances,
            issued=order.issued,
            term=order.term,
            sequence=order.sequence,
            catalog=self.catalog.id,
            serial=str(self.serial),
        )

    def order(self, title: str, instances: int, term: Term, *, listed: bool) -> Order:
        named = next(it for it in self.catalog.features.values() if it.title == title)
        order = Order(named, instances, term, self.world.today, next(self.sequences), listed)
        self.orders.append(order)
        return order

    def bring_list(self) -> None:
        """Import the vendor's newest list, with all that was ordered."""
        self.orders = [msgspec.structs.replace(order, listed=True) for order in self.orders]
        entries = tuple(Entry(self.license_key(order), "", revoked=False) for order in self.orders)
        number, serial = next(self.numbers), str(self.serial)
        newest = LicenseList(
            serial=serial, catalog=self.catalog.id, number=number, date=self.world.today, entries=entries, trials={}
        )
        licenses, finding = self.enforcer.licenses.with_list(newest)
        assert finding.accepted, finding.message
        self.enforcer.adopt(licenses, self.now)

    def answer(self, seconds: int, *, retired: bool = False) -> CheckResult:
        """Ask the vendor, and import the answer, with the check that goes with it."""
        number, trust = next(self.numbers), self.enforcer.trust
        nonce = f"{number:032x}"
        trust.ask(nonce, untold(trust.kept))
        checked = datetime.datetime.fromtimestamp(int(self.world.time), datetime.UTC)
        evidence = CheckEvidence(
            serial=str(self.serial),
            catalog=self.catalog.id,
            number=number,
            nonce=nonce,
            checked=checked,
            until=checked + datetime.timedelta(seconds=seconds),
            retired=retired,
        )
        serial, late = self.enforcer.licenses.serial, max(self.now.wall, trust.mark.wall)
        judged = judge_check(evidence, serial, trust.kept.nonces, trust.kept.check_numbers.get(str(serial), 0), late)
        if judged.evidence is not None:
            trust.take_answer(judged.evidence)
            self.check()
        return judged.result

    # Telephony

    def ask(self, feature: str, key: str, **fields: object) -> Decision:
        blank = Request(holder="pbx", key=key, wants=(Want(feature),))
        decision = self.enforcer.acquire(msgspec.structs.replace(blank, **fields), UID, self.now)
        assert isinstance(decision, Decision)
        return decision

    def try_out(self, feature: str, **fields: object) -> str:
        """The answer to a request that leaves nothing behind."""
        decision = self.ask(feature, "tried", **fields)
        self.enforcer.release("pbx", "tried", UID, self.now)
        return "allowed" if decision.allowed else f"denied, {decision.reason}"

    def keep(self, feature: str, key: str) -> str:
        """The answer to a request, which stays where it is granted."""
        decision = self.ask(feature, key)
        return "allowed" if decision.allowed else f"denied, {decision.reason}"

    # What people do

    def put_in(self, hardware_id: str | None = None) -> None:
        """Put a key in, the system's own unless another is named."""
        self.key = key_of("sd-card", hardware_id or f"{self.serial:030x}")
        self.look()

    def lose(self, state: str) -> None:
        """Let the key be found in a state that is not `present`."""
        self.key = Sighting(state=state, finding=f"The key is {state}.", reader="slot")
        self.look()

    def change(self, **fields: object) -> None:
        """Change the hardware, and look at it."""
        self.host = msgspec.structs.replace(self.host, **fields)
        self.look()

    def move_to(self, host: str) -> None:
        """Put the disk, or what was stored on it, into another host with the same address."""
        self.host = Host(host, address=self.host.address)

    def set_clock(self, error: float) -> None:
        """Set the clock so many seconds ahead of the true time."""
        self.clock_error = error
        self.enforcer.tick(self.now)

    def type_in(self, title: str, instances: int) -> None:
        """Type a key that no list has yet."""
        key = self.license_key(self.order(title, instances, Term.PERPETUAL, listed=False))
        licenses, finding = self.enforcer.licenses.with_key(key.text, self.catalog, self.enforcer.today(self.now))
        assert finding.accepted, finding.message
        self.enforcer.adopt(licenses, self.now)

    def repair_clock(self) -> None:
        self.enforcer.trust.repair_clock(self.now, max(self.enforcer.licenses.floor, RELEASED), "tom")
        self.enforcer.update(self.now)

    def announce(self, address: str) -> None:
        """Announce an address, which must be taken."""
        trust = self.enforcer.trust
        assert trust.kept.enrolled is not None
        now, bound = trust.dated(self.now), trust.kept.enrolled.addresses
        announced = announce(address, bound, SITE, now, f"{self.name} {self.boots}")
        assert isinstance(announced, Announcement), announced
        trust.announce(announced, "tom")
        self.enforcer.update(self.now)

    def enroll_again(self) -> bool:
        """Enroll the host again by command; False where that is refused."""
        trust, terms = self.enforcer.trust, terms_of(self.catalog.host, SITE, self.certificate)
        assert trust.kept.enrolled is not None
        found = renew(trust.kept.enrolled, self.host.evidence(), terms, self.enforcer.today(self.now))
        if isinstance(found, HostRefused):
            return False
        trust.enroll(found, "again by tom")
        self.look()
        return True

    def enter_rescue_code(self, day: datetime.date) -> Rescued | RescueRefusal:
        """Enter the vendor's rescue code of that day."""
        certificate, trust = self.certificate, self.enforcer.trust
        assert certificate is not None
        code = write_code(chain(certificate.serial, RESCUE_DAYS - (day - certificate.issued).days))
        used = trust.kept.rescues.get(certificate.serial)
        found = check_rescue(code, certificate, used, self.enforcer.today(self.now))
        if isinstance(found, Rescued):
            trust.open_up(found.opening, found.mark, "tom")
            self.enforcer.update(self.now)
        return found


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon keeps over a restart."""

    kept: bytes | None = None
    drained: dict[str, float] = {}
    licenses: Licenses | None = None
    answer: CheckEvidence | None = None
    leases: tuple[Lease, ...] = ()


def key_of(kind: str, hardware_id: str) -> Sighting:
    return Sighting(state="present", finding="Read.", reader="slot", kind=kind, hardware_id=hardware_id)


def chain(serial: str, steps: int) -> bytes:
    """The vendor's rescue chain of a serial after so many steps: the anchor of the certificate after all of them."""
    value = serial.encode()
    for _ in range(steps):
        value = rescue_step(value)
    return value


@pytest.fixture
def make_world(shipped: dict[str, Catalog]) -> Callable[[], World]:
    """Makes worlds of their own, each beginning at the same time."""
    return lambda: World(shipped)
