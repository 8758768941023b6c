"""The part of io.featurekey.Manage about the history of use."""

from __future__ import annotations

import datetime
import sqlite3
from typing import Annotated

import msgspec

from featurekeyd.policy.requests import PortName
from featurekeyd.policy.usage_history import Sort

from .history import Listed, Step, Wanted
from .methods import Client, ErrorReply, Method, Permission, method, said
from .site import Site
from .storing import not_stored
from .wire import MANAGE, error_reply, reply

Moment = Annotated[int, msgspec.Meta(ge=0, lt=2**40)]
"""Seconds since 1970-01-01 UTC."""

Place = Annotated[str, msgspec.Meta(pattern=r"^\d{1,15}\.\d{1,15}\Z")]
"""Where a page ended, as the page before named it."""


class History(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of History."""

    step: Step
    since: Moment | None = None
    until: Moment | None = None
    sort: Sort | None = None
    name: PortName | None = None
    after: Place | None = None


class HistoryService:
    """The methods, each a short function on the site."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def methods(self) -> dict[str, Method]:
        """The methods by full name."""
        return {f"{MANAGE}.History": method(Permission.MANAGE, History, self.history)}

    async def history(self, _: Client, parameters: History) -> bytes:
        """One page of the history."""
        start, _dot, series = (parameters.after or "").partition(".")
        wanted = Wanted(
            step=parameters.step,
            since=parameters.since,
            until=parameters.until,
            sort=parameters.sort,
            name=parameters.name,
            after=(int(start), int(series)) if series else None,
        )
        try:
            page = await self._site.storing.ask(lambda store: store.load_history(wanted))
        except sqlite3.Error as error:
            raise ErrorReply(error_reply(f"{MANAGE}.StateNotStored", {"hint": not_stored(error)})) from error
        more = None if page.more is None else f"{page.more[0]}.{page.more[1]}"
        return reply(said({"uses": [_use(row) for row in page.rows], "more": more}))


def _use(row: Listed) -> dict[str, object]:
    (sort, name), use = row.subject, row.use
    time = datetime.datetime.fromtimestamp(row.start, datetime.UTC).isoformat().replace("+00:00", "Z")
    counts = {"peak": use.peak, "granted": use.granted, "denied": use.denied, "blocked": use.blocked}
    return said({"time": time, "sort": sort, "name": name or None, **counts, "busy_seconds": use.busy / 1000})
