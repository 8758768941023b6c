"""A system in the hands of a test: catalogs, documents without signatures, and an Enforcer with a clock handed in.

Documents are built as values: how their texts are signed and read is another test's matter.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, settings

from featurekeyd import policy
from featurekeyd.policy.catalog import Catalog, Cause, Scope
from featurekeyd.policy.catalogfile import load_catalog
from featurekeyd.policy.certificate import PAIRS, Certificate, Pair, answer_digest
from featurekeyd.policy.decision import Decision, Rules
from featurekeyd.policy.enforcer import Enforcer
from featurekeyd.policy.events import EventName
from featurekeyd.policy.instant import Now
from featurekeyd.policy.licensekey import LicenseKey, Term, make_key
from featurekeyd.policy.licenselist import Entry, LicenseList
from featurekeyd.policy.licenses import Licenses
from featurekeyd.policy.presence import Sighting
from featurekeyd.policy.requests import MAX_SYNC_LEASES, Request, SyncLease, SyncRequest, Want
from featurekeyd.policy.synchronize import Synced
from featurekeyd.policy.system import System

# Slow is no mistake on a loaded host.
settings.register_profile("loaded host", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("loaded host")

SERIAL = "110123456789"
TODAY = datetime.date(2026, 3, 1)
UID = 1000
CID = "035344535530384780deadbeef0136"

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
capacity = { trunk = 100 }

[platforms.small]
title = "Small"
capacity = { trunk = 4, recorder = 0 }

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
during_setup = { coder = 1 }
fallback = "emergency-calls-only"
source = "test"

[features.coder]
code = 3
title = "Coders"
unit = "channel"
mode = "use"
base = 4
source = "test"

[features.phone]
code = 4
title = "Phones"
unit = "phone"
mode = "registration"
fallback = "lite"
source = "test"

[features.recorder]
code = 5
title = "Recorders"
unit = "recorder"
mode = "use"
requires = ["edition"]
base_with = { edition = 1 }
yields = 2
source = "test"

[features.tenant]
code = 6
title = "Tenants"
unit = "tenant"
mode = "configuration"
source = "test"
"""


class Site:
    """One system: an Enforcer, a clock, and the documents and calls that tests bring to it."""

    def __init__(self, catalog: Catalog, platform: str = "large", **rules: object) -> None:
        self.catalog = catalog
        self.platform = platform
        self.rules = msgspec.structs.replace(Rules(), **rules)
        self.boot = 1_000_000.0
        self.wall = datetime.datetime.combine(TODAY, datetime.time(12), datetime.UTC).timestamp()
        self.released = datetime.date.min
        self.sequence = 0
        self.number = 0
        self.enforcer = Enforcer(catalog, System(platform=platform), self.rules, self.now)

    @property
    def now(self) -> Now:
        return Now(self.wall, self.boot)

    def wait(self, seconds: float) -> None:
        """Let both clocks run, and the Enforcer see it."""
        self.wall += seconds
        self.boot += seconds
        self.enforcer.tick(self.now)

    # Documents

    def certify(self, *, proving: bool = False, test: bool = False) -> Certificate:
        """Import a certificate, and let the Feature Key be there."""
        certificate = certificate_for(self.catalog.id, proving=proving, test=test)
        self.enforcer.adopt(self.enforcer.licenses.with_certificate(certificate), self.now)
        self.enforcer.see(seen(certificate), self.now)
        return certificate

    def key(
        self, feature: str, instances: int, term: Term = Term.PERPETUAL, issued: datetime.date = TODAY
    ) -> LicenseKey:
        """Another license key for this system."""
        self.sequence += 1
        return make_key(
            feature_code=self.catalog.features[feature].code,
            instances=instances,
            issued=issued,
            term=term,
            sequence=self.sequence,
            catalog=self.catalog.id,
            serial=SERIAL,
        )

    def list_of(
        self, *keys: LicenseKey, revoked: tuple[LicenseKey, ...] = (), number: int | None = None
    ) -> LicenseList:
        """The next license list with these keys."""
        self.number = self.number + 1 if number is None else number
        entries = tuple(Entry(key, "", key in revoked) for key in (*keys, *revoked))
        return LicenseList(
            serial=SERIAL,
            catalog=self.catalog.id,
            number=self.number,
            date=datetime.date(2026, 1, 1),
            entries=entries,
            trials={},
        )

    def buy(self, **instances: int) -> None:
        """Bring a list with what is listed already and one more key for each feature."""
        listed = [entry.key for entry in (self.licenses.license_list.entries if self.licenses.license_list else ())]
        keys = [self.key(feature, count) for feature, count in instances.items()]
        self.bring(self.list_of(*listed, *keys))

    def bring(self, license_list: LicenseList) -> None:
        """Import a license list that must be taken."""
        licenses, finding = self.licenses.with_list(license_list)
        assert finding.accepted, finding.message
        self.enforcer.adopt(licenses, self.now)

    def type_in(self, key: LicenseKey) -> None:
        """Enter a license key by hand that must be taken."""
        licenses, finding = self.licenses.with_key(key.text, self.catalog, self.enforcer.today(self.now))
        assert finding.accepted, finding.message
        self.enforcer.adopt(licenses, self.now)

    @property
    def licenses(self) -> Licenses:
        return self.enforcer.licenses

    # The Feature Key

    def pull(self) -> None:
        self.enforcer.see(Sighting(state="absent", finding="Nothing there.", reader="slot"), self.now)

    def put_back(self) -> None:
        assert self.licenses.certificate is not None
        self.enforcer.see(seen(self.licenses.certificate), self.now)

    # Telephony

    def ask(self, key: str = "call", *wants: str | Want, holder: str = "kamailio", **fields: object) -> Request:
        """A request; a want that is only a name is for one instance."""
        wanted = tuple(want if isinstance(want, Want) else Want(want) for want in wants)
        blank = Request(holder=holder, key=key, wants=wanted)
        return msgspec.structs.replace(blank, **fields)

    def acquire(
        self,
        key: str = "call",
        *wants: str | Want,
        uid: int = UID,
        holder: str = "kamailio",
        bound: int | None = None,
        **fields: object,
    ) -> Decision:
        """Ask for real under a name that is one's own."""
        decision = self.enforcer.acquire(self.ask(key, *wants, holder=holder, **fields), uid, self.now, bound)
        assert isinstance(decision, Decision), decision
        return decision

    def release(self, key: str = "call", holder: str = "kamailio", uid: int = UID) -> bool:
        released = self.enforcer.release(holder, key, uid, self.now)
        assert isinstance(released, bool), released
        return released

    def sync(
        self,
        *leases: SyncLease | str,
        scope: Scope = Scope.CALLS,
        holder: str = "kamailio",
        uid: int = UID,
        **fields: object,
    ) -> Synced:
        """Send a list that must be taken; a lease that is only a key is for one trunk."""
        synced = self.enforcer.synchronize(self.listing(*leases, scope=scope, holder=holder, **fields), uid, self.now)
        assert isinstance(synced, Synced), synced
        return synced

    def listing(
        self, *leases: SyncLease | str, scope: Scope = Scope.CALLS, holder: str = "kamailio", **fields: object
    ) -> SyncRequest:
        """A list for Sync."""
        listed = tuple(it if isinstance(it, SyncLease) else SyncLease(key=it, wants=(Want("trunk"),)) for it in leases)
        assert len(listed) <= MAX_SYNC_LEASES
        blank = SyncRequest(holder=holder, scope=scope, leases=listed)
        return msgspec.structs.replace(blank, **fields)

    def in_use(self, feature: str) -> int:
        """Instances in use, after the carried sums were held against the leases."""
        ledger = self.enforcer.ledger
        counted = ledger.recount()
        assert {name: ledger.in_use(name) for name in self.catalog.features} == {
            name: counted.get(name, 0) for name in self.catalog.features
        }
        return ledger.in_use(feature)

    def told(self) -> list[EventName]:
        """The names of the events since the last time this was called."""
        names = [event.name for event in self.enforcer.events]
        self.enforcer.events.clear()
        return names

    def restarted(self) -> Site:
        """The same system after a restart of the daemon: what is stored comes back, what is not is forgotten."""
        later = Site(self.catalog, self.platform)
        later.boot, later.wall, later.sequence, later.number = self.boot, self.wall, self.sequence, self.number
        later.rules = self.rules
        drained = {cause: meter.drained for cause, meter in self.enforcer.meters.items()}
        later.enforcer = Enforcer(self.catalog, System(platform=self.platform), self.rules, self.now, drained=drained)
        later.enforcer.adopt_stored(self.licenses, self.now)
        return later

    def drained(self, cause: Cause) -> float:
        return self.enforcer.meters[cause].drained


def certificate_for(catalog: str, *, proving: bool = False, test: bool = False) -> Certificate:
    """A certificate; `proving` is for a key that answers challenges with b'right' and the challenge's number."""
    challenges = [number.to_bytes(32, "big") for number in range(PAIRS)] if proving else []
    return Certificate(
        serial=SERIAL,
        catalog=catalog,
        kind="usb-otp" if proving else "sd-card",
        hardware_id="4711" if proving else CID,
        issued=datetime.date(2026, 1, 1),
        test=test,
        rescue_anchor=bytes(20),
        rescue_days=100,
        pairs=tuple(Pair(challenge, answer_digest(SERIAL, b"right" + challenge)) for challenge in challenges),
    )


def seen(certificate: Certificate) -> Sighting:
    """What a look at the certified Feature Key finds."""
    challenge = certificate.pairs[7].challenge if certificate.pairs else None
    return Sighting(
        state="present",
        finding="Read.",
        reader="slot",
        kind=certificate.kind,
        hardware_id=certificate.hardware_id,
        assurance="A1",
        simulated=certificate.test,
        challenge=challenge,
        answer=None if challenge is None else b"right" + challenge,
    )


@pytest.fixture(scope="session")
def catalog_text() -> str:
    return CATALOG


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return load_catalog(CATALOG, "exchange.toml")


@pytest.fixture(scope="session")
def shipped() -> dict[str, Catalog]:
    """The catalogs that are shipped, by id."""
    (folder,) = policy.__path__
    catalogs = [load_catalog(path.read_text(), path.name) for path in sorted(Path(folder, "catalogs").glob("*.toml"))]
    return {catalog.id: catalog for catalog in catalogs}


@pytest.fixture(scope="session")
def open_site(catalog: Catalog) -> Callable[..., Site]:
    """Opens certified sites: platform and rules by name, licenses as `licensed={feature: instances}`."""

    def opened(platform: str = "large", licensed: dict[str, int] | None = None, **rules: object) -> Site:
        site = Site(catalog, platform, **rules)
        site.certify()
        site.buy(**(licensed or {}))
        site.told()
        return site

    return opened


@pytest.fixture(scope="session")
def make_site() -> Callable[..., Site]:
    """Makes bare sites: catalog, platform and rules."""
    return Site


@pytest.fixture
def fresh(catalog: Catalog) -> Site:
    """A site as installed: no certificate, no license."""
    return Site(catalog)


@pytest.fixture
def site(open_site: Callable[..., Site]) -> Site:
    """A certified site with 8 trunks (and 4 free coders)."""
    return open_site(licensed={"trunk": 8})
