"""The part of io.featurekey.Manage that rehearses: what would be, and whether a catalog is right. Changes nothing."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec

from featurekeyd.policy.catalogfile import load_catalog
from featurekeyd.policy.findings import Finding, Verdict, refuse
from featurekeyd.policy.licensekey import MAX_INSTANCES, LicenseKey
from featurekeyd.policy.rehearsal import Rehearsed
from featurekeyd.policy.rehearsal import WhatIf as Supposed
from featurekeyd.policy.requests import FeatureName
from featurekeyd.policy.system import System, check_system
from featurekeyd.policy.tables import FileMistakes

from .hosting import supposed_without
from .methods import Client, Method, Permission, method, said
from .site import Site
from .wire import MANAGE, reply

MAX_ORDERS = 100
"""Licenses supposed in one question: more than the largest order has."""

MAX_REMOVED = 16
"""Licenses supposed away in one question: each name is held against every installed key."""

MAX_PART = 64
"""Characters of the name of a component or network interface: Linux has 15 for an interface."""

MAX_MISTAKES = 200
"""Mistakes told of one catalog: who has more mends these first."""


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A license to suppose."""

    feature: FeatureName
    instances: Annotated[int, msgspec.Meta(ge=1, le=MAX_INSTANCES)] | None = None


class WhatIf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of WhatIf."""

    add: Annotated[list[Order], msgspec.Meta(max_length=MAX_ORDERS)] | None = None
    remove: Annotated[list[str], msgspec.Meta(max_length=MAX_REMOVED)] | None = None
    platform: str | None = None
    release: str | None = None
    without_host_part: Annotated[str, msgspec.Meta(max_length=MAX_PART)] | None = None


class CheckCatalog(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of CheckCatalog."""

    text: str
    name: str | None = None


class RehearsalService:
    """The methods, each a short function on the site."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def methods(self) -> dict[str, Method]:
        """The methods by full name."""
        return {
            f"{MANAGE}.WhatIf": method(Permission.MANAGE, WhatIf, self.what_if),
            f"{MANAGE}.CheckCatalog": method(Permission.MANAGE, CheckCatalog, self.check_catalog),
        }

    async def what_if(self, _: Client, parameters: WhatIf) -> bytes:
        """What would change; in a thread, because there may be ten thousand keys to look through."""
        host: dict[str, object] = {}
        if parameters.without_host_part is not None:
            await self._site.trusting.look_at_host()
            without = supposed_without(self._site, parameters.without_host_part)
            if isinstance(without, Finding):
                return reply({"standing": self._site.enforcer.standing, "changes": [], "findings": [without]})
            host = {"host": without[0], "host_why": without[1]}
        return await asyncio.to_thread(self._what_if, parameters, host)

    def _what_if(self, parameters: WhatIf, host: dict[str, object]) -> bytes:
        enforcer, supposed = self._site.enforcer, self._supposed(parameters)
        if isinstance(supposed, list):
            return reply({"standing": enforcer.standing, "changes": [], "findings": supposed})
        changes = [said(_change(it, enforcer.ledger.in_use(it.feature))) for it in enforcer.what_if(supposed)]
        return reply({"standing": enforcer.standing, "changes": changes, "findings": [], **host})

    async def check_catalog(self, _: Client, parameters: CheckCatalog) -> bytes:
        """Every mistake of a catalog; in a thread, because a large one takes a while."""
        try:
            catalog = await asyncio.to_thread(load_catalog, parameters.text, parameters.name or "the catalog")
        except FileMistakes as error:
            return reply({"mistakes": error.mistakes[:MAX_MISTAKES]})
        return reply({"catalog": catalog.id, "features": len(catalog.features), "mistakes": []})

    def _supposed(self, parameters: WhatIf) -> Supposed | list[Finding]:
        """What to suppose, or why it cannot be."""
        enforcer = self._site.enforcer
        system = self._system(parameters)
        keys = [enforcer.licenses.named(text) for text in parameters.remove or ()]
        add: dict[str, int] = {}
        for order in parameters.add or ():
            add[order.feature] = add.get(order.feature, 0) + (order.instances or 1)
        strange = check_system(enforcer.catalog, system)
        wrong = [Finding(verdict=Verdict.BAD_DOCUMENT, accepted=False, message=it.what) for it in strange]
        unknown = [name for name in add if name not in enforcer.catalog.features]
        wrong += [refuse(Verdict.UNKNOWN_FEATURE, f"The catalog has no feature {name}.") for name in unknown]
        wrong += [key for key in keys if isinstance(key, Finding)]
        if wrong:
            return wrong
        return Supposed(add=add, remove=frozenset(key for key in keys if isinstance(key, LicenseKey)), system=system)

    def _system(self, parameters: WhatIf) -> System:
        now = self._site.enforcer.system
        return msgspec.structs.replace(
            now, platform=parameters.platform or now.platform, release=parameters.release or now.release
        )


def _change(rehearsed: Rehearsed, in_use: int) -> dict[str, object]:
    measures = [{"name": name, "before": it, "after": then} for name, (it, then) in rehearsed.measures.items()]
    surplus_before, surplus_after = rehearsed.surplus
    return {
        "feature": rehearsed.feature,
        "title": rehearsed.title,
        "before": rehearsed.before,
        "after": rehearsed.after,
        "surplus_before": surplus_before or None,
        "surplus_after": surplus_after or None,
        "measures": measures or None,
        "over": max(in_use - rehearsed.after, 0) or None,
        "missing": list(rehearsed.missing) or None,
        "lack": rehearsed.lack,
    }
