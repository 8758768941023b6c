"""The settings of featurekey-agi: one small TOML file, checked whole before anything is believed.

Rules: an unknown key is refused like every other mistake, by file and dotted key and with the cure. The secret of AMI
stands in a file of its own, never here, never on a command line, never in a text of this module.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .call import DEFAULT_SOCKET
from .license import EMERGENCY_NUMBERS
from .limits import holder_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFAULT_PATH = Path("/etc/featurekeyd/featurekey-agi.toml")

MAX_SETTINGS = 65_536
"""Bytes of the file: hundreds of emergency numbers fit; a wrong file, such as a log, is refused before it is read."""

MAX_SECRET = 1024
"""Bytes of the secret's file: Asterisk reads lines of a configuration file of at most 8,192, secrets have dozens."""

CREDENTIAL = "ami-secret"
"""Name of the credential that systemd hands over (systemd.exec(5), LoadCredential)."""

FASTAGI_PORT = 4573
"""The port that Asterisk takes where the address of an AGI application names none."""

AMI_PORT = 5038


class SettingsMistake(Exception):
    """A mistake in the settings; the text names file, key and cure."""


@dataclass(frozen=True, slots=True)
class AmiSettings:
    """`[ami]`: how to reach the Asterisk Manager Interface."""

    username: str
    secret_file: Path
    address: str = "127.0.0.1"
    port: int = AMI_PORT
    plain: bool = False
    """Send the secret itself where the switch gives no challenge."""


@dataclass(frozen=True, slots=True)
class AgiSettings:
    """The settings; times in seconds."""

    holder: str = "asterisk"
    socket: str = DEFAULT_SOCKET
    address: str = "127.0.0.1"
    port: int = FASTAGI_PORT
    beyond_loopback: bool = False
    """True where the site has said that an address which others can reach is meant."""
    release_context: str = "featurekey-release"
    emergency_numbers: tuple[str, ...] = EMERGENCY_NUMBERS
    ami: AmiSettings | None = None
    sync_seconds: float = 5.0
    ttl_seconds: int = 60


def read_settings(path: Path, *, needed: bool) -> AgiSettings:
    """The settings in a file, the shipped ones where it may be missing and is; raises SettingsMistake."""
    try:
        with path.open("rb") as opened:
            raw = opened.read(MAX_SETTINGS + 1)
    except FileNotFoundError:
        if needed:
            raise SettingsMistake(f"{path}: there is no such file") from None
        return AgiSettings()
    except OSError as error:
        raise SettingsMistake(f"{path} cannot be read ({error.strerror or error})") from None
    if len(raw) > MAX_SETTINGS:
        raise SettingsMistake(f"{path} has more than {MAX_SETTINGS} bytes; is it the right file?")
    return parse_settings(raw, str(path))


def parse_settings(raw: bytes, name: str) -> AgiSettings:
    """The settings in a TOML text; raises SettingsMistake naming the key."""
    try:
        document = tomllib.loads(raw.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsMistake(f"{name}: no TOML ({error})") from None
    try:
        return _settings(_Table("", document))
    except SettingsMistake as mistake:
        raise SettingsMistake(f"{name}: {mistake}") from None


def checked_address(settings: AgiSettings) -> str:
    """What is to be warned of before listening, empty where nothing is; raises SettingsMistake where it is refused."""
    if ipaddress.IPv4Address(settings.address).is_loopback:
        return ""
    danger = (
        f"fastagi.address {settings.address}: whoever reaches this port takes and gives back licenses, "
        "for FastAGI knows neither passwords nor users"
    )
    if not settings.beyond_loopback:
        cure = "listen on 127.0.0.1, or say fastagi.beyond_loopback = true and close the port to all but the switch"
        raise SettingsMistake(f"{danger}; {cure}")
    return danger


def read_secret(ami: AmiSettings) -> str:
    """The secret of AMI, its first line; raises SettingsMistake, which never has it in its text."""
    place = f"ami.secret_file {ami.secret_file}"
    try:
        with ami.secret_file.open("rb") as opened:
            raw = opened.read(MAX_SECRET + 1)
        secret = raw.decode().splitlines()[0].strip() if raw.strip() else ""
    except OSError as error:
        raise SettingsMistake(f"{place} cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise SettingsMistake(f"{place} is not UTF-8") from None
    if len(raw) > MAX_SECRET:
        raise SettingsMistake(f"{place} has more than {MAX_SECRET} bytes; is it the right file?")
    if not (secret and secret.isprintable()):
        raise SettingsMistake(f"{place} needs the secret as its first line, in printable characters")
    return secret


class _Table:
    """One table that is read key by key; what is left over at the end is a mistake."""

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        self._name = name
        self._values = dict(values)

    def table(self, key: str) -> _Table | None:
        value = self._values.pop(key, None)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.mistake(key, "must be a table")
        return _Table(f"{self._name}{key}.", value)

    def take(self, key: str, kind: Callable[[Any], Any], default: Any) -> Any:
        """The value as `kind` reads it, which raises ValueError with what it must be."""
        value = self._values.pop(key, None)
        if value is None:
            return default
        try:
            return kind(value)
        except ValueError as error:
            raise self.mistake(key, str(error)) from None

    def end(self) -> None:
        if self._values:
            raise self.mistake(next(iter(self._values)), "is no key that is known here; compare docs/asterisk.md")

    def mistake(self, key: str, what: str) -> SettingsMistake:
        return SettingsMistake(f"{self._name}{key}: {what}")


def _settings(top: _Table) -> AgiSettings:
    fastagi, emergency, sync = (top.table(name) or _Table("", {}) for name in ("fastagi", "emergency", "sync"))
    ami = top.table("ami")
    settings = AgiSettings(
        holder=top.take("holder", holder_text, "asterisk"),
        socket=top.take("socket", _path, DEFAULT_SOCKET),
        release_context=top.take("release_context", _context, "featurekey-release"),
        address=fastagi.take("address", address, "127.0.0.1"),
        port=fastagi.take("port", _port, FASTAGI_PORT),
        beyond_loopback=fastagi.take("beyond_loopback", _truth, default=False),
        emergency_numbers=emergency.take("numbers", _numbers, EMERGENCY_NUMBERS),
        ami=None if ami is None else _ami(ami),
        sync_seconds=sync.take("seconds", _between(0.1, 60), 5.0),
        ttl_seconds=sync.take("ttl", _seconds, 60),
    )
    for table in (fastagi, emergency, sync, top):
        table.end()
    if settings.ttl_seconds < 2 * settings.sync_seconds:
        raise SettingsMistake("sync.ttl: must be twice sync.seconds at least, or one late list frees running calls")
    return settings


def _ami(table: _Table) -> AmiSettings:
    username = table.take("username", _word, "")
    if not username:
        raise table.mistake("username", "is needed: the section of manager.conf that featurekey-agi logs in with")
    settings = AmiSettings(
        username=username,
        secret_file=Path(table.take("secret_file", _path, "") or _credential(table)),
        address=table.take("address", address, "127.0.0.1"),
        port=table.take("port", _port, AMI_PORT),
        plain=table.take("login", _login, default=False),
    )
    table.end()
    return settings


def _credential(table: _Table) -> str:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise table.mistake("secret_file", f"is needed where systemd hands over no credential {CREDENTIAL}")
    return f"{folder}/{CREDENTIAL}"


def _text(value: object) -> str:
    if not (isinstance(value, str) and 0 < len(value) <= 4096 and value.isprintable()):
        raise ValueError("must be a text of printable characters")
    return value


def _path(value: object) -> str:
    text = _text(value)
    if not text.startswith("/"):
        raise ValueError("must be an absolute path")
    return text


def _word(value: object) -> str:
    text = _text(value)
    if text != text.strip() or len(text) > 80:
        raise ValueError("must be one word of at most 80 characters")
    return text


def _context(value: object) -> str:
    text = _text(value)
    if not (len(text) <= 79 and text.replace("-", "").replace("_", "").isalnum() and text.isascii()):
        raise ValueError("must be the name of a dialplan context: letters, digits, - and _, at most 79")
    return text


def address(value: object) -> str:
    """An IPv4 address; raises ValueError for anything else."""
    try:
        return str(ipaddress.IPv4Address(_text(value)))
    except ValueError:
        raise ValueError("must be an IPv4 address such as 127.0.0.1") from None


def _port(value: object) -> int:
    if type(value) is not int or not 0 <= value <= 65_535:
        raise ValueError("must be a whole number of 0 (any free one) to 65535")
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004 - the reader of a key raises ValueError by contract
    return value


def _login(value: object) -> bool:
    if value not in ("challenge", "plain"):
        raise ValueError('must be "challenge" or "plain"')
    return value == "plain"


def _numbers(value: object) -> tuple[str, ...]:
    if not (isinstance(value, list) and value and all(isinstance(it, str) and it.strip() for it in value)):
        raise ValueError('must be a list of numbers as texts, such as ["112", "911"], with one at least')
    return tuple(it.strip() for it in value)


def _seconds(value: object) -> int:
    if type(value) is not int or not 1 <= value <= 3600:
        raise ValueError("must be a whole number of seconds, 1 to 3600")
    return value


def _between(least: float, most: float) -> Callable[[object], float]:
    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ValueError(f"must be a number of seconds, {least} to {most}")
        return float(value)

    return read
