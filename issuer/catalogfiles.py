"""Where catalogs come from: those shipped with featurekeyd, or a file named on the command line."""

from __future__ import annotations

import importlib.resources
import re
from pathlib import Path

from featurekeyd.policy.catalog import Catalog
from featurekeyd.policy.catalogfile import load_catalog

from .refusal import Refused
from .texts import read_text

_ID = re.compile(r"[a-z0-9-]{1,64}")


def find_catalog(catalog: str, file: Path | None = None) -> Catalog:
    """The catalog with that id, from the file when one is given; raises Refused."""
    found = _load(_shipped(catalog), f"{catalog}.toml") if file is None else _load(read_text(file), str(file))
    if found.id != catalog:
        raise Refused(f"{file or catalog} is the catalog {found.id!r}, and {catalog!r} is wanted.")
    return found


def find_catalogs(catalog: str | None, file: Path | None = None) -> list[Catalog]:
    """The catalog with that id, or the one in the file, or all that are shipped; raises Refused."""
    if catalog is not None:
        return [find_catalog(catalog, file)]
    if file is not None:
        return [_load(read_text(file), str(file))]
    folder = importlib.resources.files("featurekeyd.policy") / "catalogs"
    names = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return [find_catalog(name) for name in names]


def _shipped(catalog: str) -> str:
    resource = importlib.resources.files("featurekeyd.policy") / "catalogs" / f"{catalog}.toml"
    # The id comes from a request: it must not lead out of the folder.
    if not _ID.fullmatch(catalog) or not resource.is_file():
        raise Refused(f"No catalog {catalog!r} is shipped.", "Give its file: --catalog FILE")
    return resource.read_text(encoding="utf-8")


def _load(text: str, name: str) -> Catalog:
    try:
        return load_catalog(text, name)
    except ValueError as error:
        raise Refused(f"The catalog cannot be used: {error}") from error
