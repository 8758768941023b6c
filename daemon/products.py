"""The products whose catalogs are shipped."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from featurekeyd import policy

CATALOGS = Path(policy.__path__[0]) / "catalogs"


@cache
def shipped_products() -> tuple[str, ...]:
    """The ids of the shipped catalogs, in order; a catalog's file is named by its id."""
    return tuple(sorted(entry.stem for entry in CATALOGS.glob("*.toml")))
