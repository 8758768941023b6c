"""io.featurekey.License: what telephony processes ask."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from featurekeyd.policy.callsearch import search
from featurekeyd.policy.catalog import UNLIMITED, Catalog
from featurekeyd.policy.decision import Decision, expand
from featurekeyd.policy.draining import above_limit
from featurekeyd.policy.enforcer import Enforcer, NotYours
from featurekeyd.policy.entitlements import Entitlement
from featurekeyd.policy.holders import Holder
from featurekeyd.policy.ledger import Lease
from featurekeyd.policy.legible import read_legible
from featurekeyd.policy.ports import Port
from featurekeyd.policy.reasons import Reason
from featurekeyd.policy.requests import (
    FeatureName,
    HolderName,
    LeaseKey,
    Phase,
    PortName,
    Request,
    SyncRequest,
    Want,
    check_printable,
)
from featurekeyd.policy.standing import Grace, Standing
from featurekeyd.policy.synchronize import ListRefused, Syncing

from . import limits
from .figures import alarms_of, figures_of
from .methods import Client, Method, Nothing, Outcome, Permission, Slices, method, said
from .site import Site
from .subscribers import Subscriber
from .trust_status import feature_key_state, trust_status
from .version import VERSION
from .wire import LICENSE, error_reply, reply, reply_continues

_ENCODER = msgspec.json.Encoder()
_RELEASED = {released: reply({"released": released}) for released in (False, True)}


class Acquire(Request, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """The parameters of Acquire."""

    bound: bool | None = None


class Release(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The parameters of Release and ReleaseLease."""

    holder: HolderName
    key: LeaseKey

    def __post_init__(self) -> None:
        """Refuse what a terminal would not show as it is."""
        if not (self.holder.isprintable() and self.key.isprintable()):
            check_printable(holder=self.holder, key=self.key)


class ListLeases(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of ListLeases."""

    holder: HolderName | None = None
    feature: FeatureName | None = None
    port: PortName | None = None


class FindCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of FindCall."""

    call: LeaseKey
    holder: HolderName | None = None


class Watch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of Watch."""

    decisions: bool | None = None


class _Explained(Decision, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    steps: list[dict[str, object]]


class LicenseService:
    """The methods, each a short function on the site."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def methods(self) -> dict[str, Method]:
        """The methods by full name."""
        ask = Permission.ASK
        return {
            f"{LICENSE}.Acquire": method(ask, Acquire, self.acquire, unreadable=self.acquire_unreadable),
            f"{LICENSE}.Release": method(ask, Release, self.release),
            f"{LICENSE}.Sync": method(ask, SyncRequest, self.synchronize),
            f"{LICENSE}.Explain": method(ask, Request, self.explain),
            f"{LICENSE}.Status": method(ask, Nothing, self.status),
            f"{LICENSE}.ListFeatures": method(ask, Nothing, self.list_features),
            f"{LICENSE}.ListLeases": method(ask, ListLeases, self.list_leases, more=True),
            f"{LICENSE}.FindCall": method(ask, FindCall, self.find_call),
            f"{LICENSE}.Watch": method(ask, Watch, self.watch, more=True),
        }

    def acquire(self, client: Client, request: Acquire) -> bytes:
        """Decide, and count what was decided."""
        site = self._site
        now = site.moment()
        bound = client.number if request.bound else None
        decision = site.enforcer.acquire(request, client.peer.uid, now, bound)
        if isinstance(decision, NotYours):
            return _not_yours(decision)
        site.note_decision(request, decision, now)
        return _with_grace(_ENCODER.encode(decision), site.enforcer.grace)

    def acquire_unreadable(self, client: Client, parameters: msgspec.Raw) -> bytes | None:
        """Grant an emergency call whose parameters break a rule; None where it is none."""
        site, legible = self._site, read_legible(parameters)
        now = site.moment()
        granted = None if legible is None else site.enforcer.acquire_unreadable(legible, client.peer.uid, now)
        if granted is None:
            return None
        request, decision = granted
        site.note_decision(request, decision, now)
        return _with_grace(_ENCODER.encode(decision), site.enforcer.grace)

    def release(self, client: Client, parameters: Release) -> bytes:
        """Free a lease of the holder."""
        site = self._site
        released = site.enforcer.release(parameters.holder, parameters.key, client.peer.uid, site.moment())
        return _not_yours(released) if isinstance(released, NotYours) else _RELEASED[released]

    def synchronize(self, client: Client, request: SyncRequest) -> Outcome:
        """Make the holder's list of one scope true."""
        syncing = self._site.enforcer.begin_sync(request, client.peer.uid, self._site.clock())
        return _not_yours(syncing) if isinstance(syncing, NotYours) else Slices(self._synchronized(syncing))

    def _synchronized(self, syncing: Syncing) -> Iterator[bytes]:
        while (synced := syncing.step()) is None:
            yield b""
        if isinstance(synced, ListRefused):
            yield error_reply(f"{LICENSE}.ListRefused", {"hint": synced.hint})
            return
        self._site.note_list()
        yield reply({name: getattr(synced, name) for name in ("adopted", "changed", "freed", "held")})

    def explain(self, client: Client, request: Request) -> bytes:
        """Walk the decision without carrying it out."""
        explained = self._site.enforcer.explain(request, client.peer.uid, self._site.clock())
        if isinstance(explained, NotYours):
            return _not_yours(explained)
        decision, steps = explained
        walked = [said(msgspec.structs.asdict(step)) for step in steps]
        return reply(_Explained(**msgspec.structs.asdict(decision), steps=walked))

    def list_features(self, _: Client, __: Nothing) -> bytes:
        """Every feature with its limit and use; hidden ones once there is something of them."""
        entitlements = {
            name: entitlement
            for name, entitlement in self._site.enforcer.entitlements.items()
            if not entitlement.feature.hidden or entitlement.limit or self._site.enforcer.ledger.in_use(name)
        }
        return reply({"features": [said(_feature(self._site, name, it)) for name, it in entitlements.items()]})

    def list_leases(self, _: Client, parameters: ListLeases) -> Iterator[bytes]:
        """The leases that the filters let through, one in each reply, as they are when it is their turn."""
        ledger, boot, catalog = self._site.enforcer.ledger, self._site.clock().boot, self._site.enforcer.catalog
        waiting: Lease | None = None
        for number, (holder, key) in enumerate(ledger.places(), 1):
            lease = ledger.find(holder, key)
            if lease is not None and _matches(lease, parameters):
                if waiting is not None:
                    yield reply_continues({"lease": said(_lease(waiting, boot, catalog))})
                waiting = lease
            if number % limits.LEASES_PER_SLICE == 0:
                yield b""
        yield reply({} if waiting is None else {"lease": said(_lease(waiting, boot, catalog))})

    def find_call(self, _: Client, parameters: FindCall) -> Outcome:
        """The leases that go by a name, or what is known of its end."""
        return Slices(self._find_call(parameters))

    def _find_call(self, parameters: FindCall) -> Iterator[bytes]:
        enforcer = self._site.enforcer
        searching = search(enforcer.ledger, enforcer.lately, parameters.call, parameters.holder)
        while True:
            try:
                next(searching)
            except StopIteration as end:
                leases, ended, omitted = end.value
                break
            yield b""
        boot = self._site.clock().boot
        yield reply(
            said(
                {
                    "leases": [said(_lease(lease, boot, enforcer.catalog)) for lease in leases],
                    "ended": [{"holder": it.holder, "key": it.key, "seconds": round(boot - it.boot)} for it in ended],
                    "omitted": omitted or None,
                }
            )
        )

    def watch(self, client: Client, parameters: Watch) -> Outcome:
        """Subscribe the connection to events."""
        limit = self._site.subscribers.full(client.peer.uid)
        if limit is not None:
            return error_reply(f"{LICENSE}.TooManySubscribers", {"limit": limit})
        subscriber = Subscriber(client.push, client.peer.uid, decisions=bool(parameters.decisions))
        self._site.subscribers.add(subscriber)
        return subscriber

    def status(self, _: Client, __: Nothing) -> bytes:
        """The state of the whole system."""
        return reply(said(_status(self._site)))


def _status(site: Site) -> dict[str, object]:
    enforcer, boot = site.enforcer, site.clock().boot
    edition, newest = enforcer.catalog.edition, enforcer.licenses.license_list
    unlicensed = edition is not None and enforcer.entitlements[edition].limit == 0
    return {
        "version": VERSION,
        "catalog": enforcer.catalog.id,
        "platform": enforcer.system.platform,
        "serial": enforcer.licenses.serial,
        "standing": enforcer.standing,
        "edition": "unlicensed" if unlicensed else None,
        "grace": enforcer.grace,
        "feature_key": feature_key_state(site),
        "simulated": enforcer.feature_key.simulated,
        "leases": len(enforcer.ledger),
        "holders": [said(_holder(site, holder, boot)) for holder in enforcer.holders],
        "over_use": [_over_use(enforcer, name) for name in enforcer.entitlements if above_limit(enforcer, name)],
        "ports": [_port(port) for port in site.ports],
        "alarms": alarms_of(site),
        "emergency_now": enforcer.ledger.emergencies,
        "emergency_total": enforcer.emergencies_total,
        "emergency_claims": enforcer.emergency_claims,
        "granted": site.granted,
        "denied": site.denied,
        **figures_of(site),
        "list_number": newest.number if newest else None,
        "list_date": newest.date.isoformat() if newest else None,
        **trust_status(site),
        "uptime_seconds": round(boot - site.started),
    }


def _holder(site: Site, holder: Holder, boot: float) -> dict[str, object]:
    return {
        "holder": holder.name,
        "uid": holder.uid,
        "leases": len(site.enforcer.ledger.of_holder(holder.name)),
        "silent_seconds": round(boot - holder.heard),
        "ttl_seconds": round(max(holder.ttls.values())) if holder.ttls else None,
        "drift": holder.drift,
        "channel_drift": holder.displaced,
        "drift_seconds": None if holder.drifted is None else round(boot - holder.drifted),
    }


def _over_use(enforcer: Enforcer, name: str) -> dict[str, object]:
    return {
        "feature": name,
        "limit": enforcer.limit(name),
        "in_use": enforcer.ledger.in_use(name),
        "over": above_limit(enforcer, name),
    }


def _port(port: Port) -> dict[str, object]:
    over = max(port.in_use - port.ceiling, 0)
    counts = {"port": port.name, "ceiling": port.ceiling, "in_use": port.in_use, "peak": port.peak}
    return said({**counts, "over": over or None})


def _feature(site: Site, name: str, entitlement: Entitlement) -> dict[str, object]:
    feature, tally = entitlement.feature, site.enforcer.tallies[name]
    limit, deactivated = site.enforcer.limit(name), site.enforcer.standing is Standing.DEACTIVATED
    return {
        "feature": name,
        "title": feature.title,
        "unit": feature.unit,
        "mode": feature.mode,
        "limit": limit,
        "base": entitlement.base,
        "licensed": entitlement.licensed,
        "capacity": entitlement.capacity,
        "unlimited": limit >= UNLIMITED or None,
        "surplus": entitlement.surplus or None,
        "measures": [{"name": measure, "amount": it} for measure, it in entitlement.measures.items()] or None,
        "missing": list(entitlement.missing) or None,
        "unused": entitlement.unused,
        "group": feature.group,
        "in_use": site.enforcer.ledger.in_use(name),
        "over": above_limit(site.enforcer, name) or None,
        "reserved": site.enforcer.shares(name).reserved if site.enforcer.reservations.of(name) else None,
        "peak": tally.peak,
        "granted": tally.granted,
        "denied": tally.denied,
        "expires": None if entitlement.expires is None else entitlement.expires.isoformat(),
        "lack": Reason.DEACTIVATED if deactivated else entitlement.lack,
    }


def _matches(lease: Lease, wanted: ListLeases) -> bool:
    return (
        wanted.holder in {None, lease.holder}
        and (wanted.feature is None or wanted.feature in lease.wants)
        and wanted.port in {None, lease.port}
    )


def _lease(lease: Lease, boot: float, catalog: Catalog) -> dict[str, object]:
    return {
        "holder": lease.holder,
        "key": lease.key,
        "scope": lease.scope,
        "wants": _wants(lease.wants),
        "presence": _wants(lease.present) or None,
        "given_back": _wants(_given_back(lease, catalog)) or None,
        "phase": Phase.ESTABLISHED if lease.established else Phase.SETUP,
        "port": lease.port,
        "channel": lease.channel,
        "class": lease.call_class,
        "age_seconds": round(boot - lease.granted),
        "bound": lease.bound is not None,
    }


def _wants(wants: dict[str, int]) -> list[dict[str, object]]:
    return [{"feature": feature, "instances": count} for feature, count in wants.items()]


def _given_back(lease: Lease, catalog: Catalog) -> dict[str, int]:
    """What its set-up takes and it does not hold any more."""
    if not lease.established or lease.emergency:
        return {}
    in_setup = expand(catalog, tuple(Want(feature, count) for feature, count in lease.wants.items()), Phase.SETUP)
    return {
        name: count - lease.wants.get(name, 0) for name, count in in_setup.items() if count > lease.wants.get(name, 0)
    }


def _not_yours(refusal: NotYours) -> bytes:
    return error_reply(f"{LICENSE}.HolderBelongsToAnotherUser", {"holder": refusal.holder})


def _with_grace(decision: bytes, grace: tuple[Grace, ...]) -> bytes:
    """The reply to Acquire; while a meter drains, the answer carries it."""
    if grace:
        decision = decision[:-1] + b',"grace":' + _ENCODER.encode(grace) + b"}"
    return b'{"parameters":' + decision + b"}\0"
