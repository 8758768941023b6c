"""The settings of the site: one TOML file, checked whole before anything is believed.

An unknown key is refused by file and dotted key, like every other mistake: a misspelled ceiling that is silently
ignored would be noticed by the carrier's bill. User and group names become numbers here, once, so that no decision
ever waits for a name service.
"""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from featurekeyd.hwio.search import find_reader
from featurekeyd.policy.alarms import AlarmRules, Threshold
from featurekeyd.policy.decision import Rules
from featurekeyd.policy.hostaddress import SiteAddresses, read_address
from featurekeyd.policy.system import System
from featurekeyd.policy.tables import FileMistakes, Mistake, parse_toml, read_table

from .callcontrol_settings import CallControl, CallControlTable, read_call_control
from .peer import Access

DEFAULT_PATH = Path("/etc/featurekeyd/featurekeyd.toml")

_SHIPPED_GROUPS = {"ask_groups": ("featurekey",), "manage_groups": ("featurekey-admin",)}
"""Groups that the package creates; where one is missing nobody is in it, which is no mistake."""


class Product(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[product]`: what this system is."""

    catalog: str
    """Id of a shipped catalog."""
    platform: str
    """Platform of that catalog."""
    release: str | None = None
    """The release it runs, where it is not the catalog's."""
    options: tuple[str, ...] = ()
    """Options of the catalog that are turned on."""
    shared: tuple[str, ...] = ()
    """Features that another system of the network has, and that count as prerequisites here."""


class FeatureKeyTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[feature_key]`: where the Feature Key is."""

    reader: str = "auto"
    poll_seconds: Annotated[float, msgspec.Meta(ge=0.05, le=60)] = 5.0
    """Seconds between two looks at the key."""


class AccessTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[access]`: who may ask and who may manage; names or numbers. Root may do both."""

    ask_users: tuple[str | int, ...] = ()
    ask_groups: tuple[str | int, ...] = _SHIPPED_GROUPS["ask_groups"]
    manage_users: tuple[str | int, ...] = ()
    manage_groups: tuple[str | int, ...] = _SHIPPED_GROUPS["manage_groups"]


class Emergency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[emergency]`: the numbers that are always put through."""

    numbers: tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=64)], ...] = ("112", "911")


class Paths(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[paths]`: where things lie; the defaults are those of the package."""

    socket: str = "/run/featurekeyd/io.featurekey.License"
    runtime: str = "/run/featurekeyd"
    state: str = "/var/lib/featurekeyd"
    vendor_keys: str = "/usr/share/featurekeyd/vendor"


class LogTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[log]`: where the log goes."""

    target: Literal["auto", "journal", "stderr"] = "auto"


class HostTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[host]`: which addresses a product that binds them is bound to."""

    floating: tuple[str, ...] = ()
    """Addresses that move between hosts, and bind none."""
    bound_ipv6: tuple[str, ...] = ()
    """IPv6 addresses that are bound beside the IPv4 ones."""


class ThresholdTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When one alarm is raised and cleared, in percent of the limit."""

    raise_percent: Annotated[int, msgspec.Meta(ge=1, le=100)] = Threshold().raise_percent
    clear_percent: Annotated[int, msgspec.Meta(ge=0, le=99)] = Threshold().clear_percent
    off: bool = False


class AlarmTable(ThresholdTable, frozen=True, forbid_unknown_fields=True):
    """`[alarms]`: when what is nearly full is told; `[alarms.features]` and `[alarms.ports]` say it for one."""

    features: dict[str, ThresholdTable] = {}
    ports: dict[str, ThresholdTable] = {}


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    product: Product
    hardware: dict[str, Annotated[int, msgspec.Meta(ge=0, le=10_000)]] = {}
    """`[hardware]`: how many there are of each part that the catalog names."""
    feature_key: FeatureKeyTable = FeatureKeyTable()
    access: AccessTable = AccessTable()
    holders: dict[str, str | int] = {}
    emergency: Emergency = Emergency()
    ceilings: dict[str, Annotated[int, msgspec.Meta(ge=0, le=100_000)]] = {}
    alarms: AlarmTable = AlarmTable()
    host: HostTable = HostTable()
    call_control: CallControlTable | None = None
    paths: Paths = Paths()
    log: LogTable = LogTable()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings, with names resolved."""

    catalog: str
    """Id of a shipped catalog."""
    system: System
    reader: str
    poll_seconds: float
    access: Access
    rules: Rules
    socket: Path
    runtime: Path
    state: Path
    vendor_keys: Path
    log_target: str
    addresses: SiteAddresses = SiteAddresses()
    """Which addresses are bound."""
    call_control: CallControl | None = None
    """None where there is no such socket."""
    alarms: AlarmRules = AlarmRules()


def read_settings(path: Path) -> Settings:
    """The settings in a file; raises FileMistakes naming every mistake, and OSError where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        mistake = Mistake("", f"not UTF-8 (byte {error.start}); save it as UTF-8")
        raise FileMistakes(str(path), [mistake]) from None
    return parse_settings(text, str(path))


def parse_settings(text: str, name: str) -> Settings:
    """The settings in a TOML text; raises FileMistakes naming every mistake by dotted key."""
    mistakes: list[Mistake] = []
    file = read_table(parse_toml(text, name), _File, "", mistakes)
    if file is None:
        raise FileMistakes(name, mistakes)
    settings = _resolved(file, mistakes)
    mistakes += _check_reader(file.feature_key.reader)
    if mistakes:
        raise FileMistakes(name, mistakes)
    return settings


def _resolved(file: _File, mistakes: list[Mistake]) -> Settings:
    access, paths = file.access, file.paths
    owners = {name: _number("holders", name, user, mistakes) for name, user in file.holders.items()}
    return Settings(
        catalog=file.product.catalog,
        system=_system(file),
        reader=file.feature_key.reader,
        poll_seconds=file.feature_key.poll_seconds,
        access=Access(
            ask_users=_users("access.ask_users", access.ask_users, mistakes),
            ask_groups=_groups("ask_groups", access.ask_groups, mistakes),
            # Who runs the daemon owns its files: that user may manage without being named.
            manage_users=_users("access.manage_users", access.manage_users, mistakes) | {os.geteuid()},
            manage_groups=_groups("manage_groups", access.manage_groups, mistakes),
        ),
        rules=Rules(emergency_numbers=frozenset(file.emergency.numbers), ceilings=dict(file.ceilings), owners=owners),
        socket=_path("socket", paths.socket, mistakes),
        runtime=_path("runtime", paths.runtime, mistakes),
        state=_path("state", paths.state, mistakes),
        vendor_keys=_path("vendor_keys", paths.vendor_keys, mistakes),
        log_target=file.log.target,
        addresses=SiteAddresses(
            floating=_addresses("floating", file.host.floating, mistakes),
            listed=_addresses("bound_ipv6", file.host.bound_ipv6, mistakes, only_ipv6=True),
        ),
        call_control=read_call_control(file.call_control, mistakes),
        alarms=_alarms(file, mistakes),
    )


def _alarms(file: _File, mistakes: list[Mistake]) -> AlarmRules:
    table = file.alarms
    for port in table.ports.keys() - file.ceilings.keys():
        what = "the port has no ceiling, so it is never nearly full; give it one under [ceilings]"
        mistakes.append(Mistake(f"alarms.ports.{port}", what))
    return AlarmRules(
        usual=_threshold("alarms", table, mistakes),
        features={name: _threshold(f"alarms.features.{name}", it, mistakes) for name, it in table.features.items()},
        ports={name: _threshold(f"alarms.ports.{name}", it, mistakes) for name, it in table.ports.items()},
    )


def _threshold(where: str, table: ThresholdTable, mistakes: list[Mistake]) -> Threshold:
    if table.clear_percent >= table.raise_percent:
        what = f"{table.clear_percent} is not below raise_percent, which is {table.raise_percent}; it would flap"
        mistakes.append(Mistake(f"{where}.clear_percent", what))
    return Threshold(raise_percent=table.raise_percent, clear_percent=table.clear_percent, off=table.off)


def _addresses(key: str, texts: tuple[str, ...], mistakes: list[Mistake], *, only_ipv6: bool = False) -> frozenset[str]:
    found = set()
    for text in texts:
        address = read_address(text)
        if address is None:
            mistakes.append(Mistake(f"host.{key}", f"{text[:64]!a} is no IP address; write one such as 192.0.2.10"))
        elif only_ipv6 and ":" not in address:
            what = f"{address} is an IPv4 address; those of the primary interface are bound without being listed"
            mistakes.append(Mistake(f"host.{key}", what))
        else:
            found.add(address)
    return frozenset(found)


def _system(file: _File) -> System:
    product = file.product
    return System(
        platform=product.platform,
        release=product.release,
        hardware=dict(file.hardware),
        options=frozenset(product.options),
        shared=frozenset(product.shared),
    )


def _users(where: str, names: tuple[str | int, ...], mistakes: list[Mistake]) -> frozenset[int]:
    return frozenset(_number(where, "", name, mistakes) for name in names)


def _number(where: str, key: str, user: str | int, mistakes: list[Mistake]) -> int:
    if isinstance(user, int):
        return user
    try:
        return pwd.getpwnam(user).pw_uid
    except (KeyError, ValueError):  # ValueError: a zero character in the name
        place = f"{where}.{key}" if key else where
        mistakes.append(Mistake(place, f"this host has no user {user!r}; create it or write its number"))
        return -1


def _groups(key: str, names: tuple[str | int, ...], mistakes: list[Mistake]) -> frozenset[int]:
    found = set()
    for name in names:
        try:
            found.add(name if isinstance(name, int) else grp.getgrnam(name).gr_gid)
        except (KeyError, ValueError):
            if names != _SHIPPED_GROUPS[key]:
                mistakes.append(Mistake(f"access.{key}", f"this host has no group {name!r}; create it"))
    return frozenset(found)


def _path(key: str, path: str, mistakes: list[Mistake]) -> Path:
    if not path.startswith("/") or "\0" in path:
        mistakes.append(Mistake(f"paths.{key}", f"{path!a} is no absolute path"))
    return Path(path)


def _check_reader(reader: str) -> list[Mistake]:
    try:
        find_reader(reader)
    except ValueError as error:
        return [Mistake("feature_key.reader", str(error))]
    return []
