"""What the size of a catalog costs: `./dev bench catalog`.

Entitlements are worked out for 500 licenses over 100 features, and for a tenth of both; decisions are made with 4 and
with 400 features in the catalog. Pure policy, in this process, without a daemon; the ratio is what counts.
"""

from __future__ import annotations

import datetime
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

from featurekeyd.policy.catalog import Catalog
from featurekeyd.policy.catalogfile import load_catalog
from featurekeyd.policy.certificate import Certificate
from featurekeyd.policy.decision import Rules
from featurekeyd.policy.enforcer import Enforcer
from featurekeyd.policy.entitlements import entitlements
from featurekeyd.policy.instant import Now
from featurekeyd.policy.licensekey import Term, make_key
from featurekeyd.policy.licenselist import Entry, LicenseList
from featurekeyd.policy.licenses import Licenses
from featurekeyd.policy.presence import Sighting
from featurekeyd.policy.requests import Phase, Request, Want
from featurekeyd.policy.system import System

from .bench import Bench
from .report import Row, ratio, table

REPEATS = 6
"""Rounds for each round of the others: these are short."""

SERIAL = "110000000001"
TODAY = datetime.date(2026, 11, 21)
NOW = Now(datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC).timestamp(), 1000.0)
SYSTEM = System(platform="any")

HEAD = """
id = "wide"
title = "A wide catalog"
[meters.feature_key_absent]
budget = "2h"
refill = "as_drained"
then = "deactivated"
[meters.unlisted_licenses]
budget = "72h"
refill = "by_newer_list"
then = "keys_stop"
[platforms.any]
title = "Any"
"""


def wide_catalog(features: int) -> Catalog:
    """A catalog of so many features, each third one resting on the one before."""
    tables = []
    for number in range(features):
        rests = f'requires = ["f{number - 1}"]\n' if number % 3 == 2 else ""
        tables.append(
            f'[features.f{number}]\ncode = {number}\ntitle = "F"\nunit = "one"\nmode = "use"\nsource = "bench"\n{rests}'
        )
    return load_catalog(HEAD + "\n".join(tables), "wide.toml")


def bought(catalog: Catalog, count: int) -> Licenses:
    """So many licenses of 10 instances, spread over the features."""
    codes = sorted(catalog.by_code)
    keys = [
        make_key(
            feature_code=codes[number % len(codes)],
            instances=10,
            issued=TODAY,
            term=Term.PERPETUAL,
            sequence=number % 1024,
            catalog=catalog.id,
            serial=SERIAL,
        )
        for number in range(count)
    ]
    certificate = Certificate(
        serial=SERIAL,
        catalog=catalog.id,
        kind="sd-card",
        hardware_id="00",
        issued=TODAY,
        test=False,
        rescue_anchor=bytes(20),
        rescue_days=1,
    )
    entries = tuple(Entry(key, "", revoked=False) for key in keys)
    listed = LicenseList(serial=SERIAL, catalog=catalog.id, number=1, date=TODAY, entries=entries, trials={})
    return Licenses().with_certificate(certificate).with_list(listed)[0]


def recompute(features: int, licenses: int) -> Callable[[], object]:
    """Statuses and entitlements of all licenses, from nothing."""
    catalog = wide_catalog(features)
    installed = bought(catalog, licenses)
    return lambda: entitlements(catalog, SYSTEM, installed.on(TODAY, catalog), count_unlisted=True)


def decide(features: int) -> Callable[[], object]:
    """A hundred calls that come and go."""
    catalog = wide_catalog(features)
    enforcer = Enforcer(catalog, SYSTEM, Rules(), NOW)
    enforcer.adopt(bought(catalog, features), NOW)
    enforcer.see(Sighting(state="present", finding="", reader="bench", kind="sd-card", hardware_id="00"), NOW)
    request = Request(holder="bench", key="call", wants=(Want("f0"),), phase=Phase.ESTABLISHED)

    def calls() -> None:
        for _ in range(100):
            enforcer.acquire(request, 0, NOW)
            enforcer.release("bench", "call", 0, NOW)
        enforcer.ledger.changes.clear()

    calls()
    assert enforcer.tallies["f0"].granted == 100, "the benchmark was denied"
    return calls


def milliseconds(work: Callable[[], object]) -> float:
    """Time of one run."""
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


def run(bench: Bench) -> list[Row]:
    """Measure, and print what came out."""
    works = {
        "500 licenses over 100 features": recompute(100, 500),
        "50 licenses over 10 features": recompute(10, 50),
        "100 decisions and releases, 400 features": decide(400),
        "100 decisions and releases, 4 features": decide(4),
    }
    deeper = replace(bench, rounds=bench.rounds * REPEATS)
    figures = deeper.interleaved(works, lambda name: milliseconds(works[name]))
    lines = [[name, f"{statistics.median(its):.2f} ms"] for name, its in figures.items()]
    print(f"\ncatalogs, in process\n\n{table(('work', 'time'), lines)}")
    large, small, wide, narrow = figures.values()
    return [
        ratio("statuses and entitlements, ten times the catalog and licenses", large, small),
        ratio("a decision with 400 features beside 4", wide, narrow),
    ]
