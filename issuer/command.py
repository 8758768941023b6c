"""`featurekey-issue`: what the vendor does at the command line.

Rules of this module:

* Only reading arguments and showing results; the acts are in the other modules.
* Exit status 0: done. 1: refused, with the reason and the cure in one message. 2: wrong usage.
* Documents go to standard output or a new file; what is said about them goes to standard error.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import pwd
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from featurekeyd.hwio.simulated_usbkey import SimulatedUsbBackend
from featurekeyd.policy.catalog import Catalog
from featurekeyd.policy.checkevidence import MAX_GOOD_DAYS
from featurekeyd.policy.findings import Finding, Unreadable
from featurekeyd.policy.licensekey import shorten
from featurekeyd.policy.permit import MayChange
from featurekeyd.policy.request_text import Request, read_request

from .catalogfiles import find_catalog, find_catalogs
from .certify import Certified, certify
from .check import make_check
from .clock import Time, Today, utc_time, utc_today
from .exchange import exchange
from .keystory import tell_key
from .order import TERMS, Item, Order, SetItem, issue, read_item, revoke
from .permit import MAX_DAYS, SHIPPED_DAYS, PermitOrder, make_permit
from .refusal import Refused
from .register import LicenseRow, Register, System
from .rescue import RescueOrder, make_rescue
from .signedlist import make_list
from .tables import as_json, as_lines, as_table
from .texts import new_text, read_text
from .usbprogram import program
from .vendor import PUBLIC_KEY, Vendor, create_vendor, open_vendor, read_secret

FILE = click.Path(path_type=Path, dir_okay=False, allow_dash=True)


class Office(msgspec.Struct, kw_only=True):
    """Where the vendor works: folder, passphrase and clock; tests hand in another clock as click's `obj`."""

    today: Today = utc_today
    time: Time = utc_time
    folder: Path = Path("vendor")
    passphrase_file: Path | None = None

    def vendor(self) -> Vendor:
        """The vendor's folder, opened."""
        return open_vendor(self.folder, self._passphrase)

    @contextlib.contextmanager
    def register(self) -> Iterator[Register]:
        """The register, closed in the end."""
        with contextlib.closing(Register.open(self.vendor().register_path)) as register:
            yield register

    def _passphrase(self) -> bytes:
        if self.passphrase_file is not None:
            return _passphrase_in(self.passphrase_file)
        return str(click.prompt("Passphrase of the signing key", hide_input=True, err=True)).encode()


class _Group(click.Group):
    """Shows refusals as one message, whichever act they come from."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the act; a refusal becomes exit status 1."""
        try:
            return super().invoke(ctx)
        except Unreadable as error:
            remedy = f" {error.finding.remedy}" if error.finding.remedy else ""
            raise click.ClickException(f"{error}{remedy}") from error
        except Refused as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            raise click.ClickException(f"{error.filename or 'Writing'}: {error.strerror}.") from error


def _items(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[Item | SetItem, ...]:
    try:
        return tuple(map(read_item, value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--vendor", type=click.Path(path_type=Path), default=Path("vendor"), envvar="FEATUREKEY_VENDOR",
              show_default=True, show_envvar=True, help="Folder with the vendor's keys and register.")  # fmt: skip
@click.option("--passphrase-file", type=click.Path(path_type=Path), envvar="FEATUREKEY_PASSPHRASE_FILE",
              show_envvar=True, help="File with the signing key's passphrase, asked for unless given.")  # fmt: skip
@click.pass_context
def main(ctx: click.Context, *, vendor: Path, passphrase_file: Path | None) -> None:
    """Program, certify and exchange Feature Keys, issue license keys and signed license lists."""
    office = ctx.obj if isinstance(ctx.obj, Office) else Office()
    office.folder, office.passphrase_file = vendor, passphrase_file
    ctx.obj = office


@main.command()
@click.option("--passphrase", is_flag=True, help="Ask for a passphrase that encrypts the signing key.")
@click.pass_obj
def init(office: Office, *, passphrase: bool) -> None:
    """Make the vendor's keys and an empty register in a new folder."""
    chosen = None
    if office.passphrase_file is not None:
        chosen = _passphrase_in(office.passphrase_file)
    elif passphrase:
        chosen = click.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True).encode()
    signer = create_vendor(office.folder, chosen)
    click.echo(f"Vendor key {signer} made. Hosts install {office.folder / PUBLIC_KEY}; keep the folder and a backup.")


@main.group()
def request() -> None:
    """Look at what hosts send."""


@request.command("show")
@click.argument("file", type=FILE)
@click.option("--json", "in_json", is_flag=True, help="Show it as JSON.")
def request_show(*, file: Path, in_json: bool) -> None:
    """Show what a request says."""
    said = msgspec.structs.asdict(read_request(read_text(file)))
    said = {name: value for name, value in said.items() if value is not None or name == "serial"}
    click.echo(as_json(said) if in_json else as_lines(said), nl=False)


@main.command("program")
@click.option("--replace", is_flag=True, help="Lose what slot 2 of the key holds now.")
@click.option("--simulator", type=click.Path(path_type=Path, dir_okay=False), help="State file of a simulated key.")
@click.pass_obj
def program_key(office: Office, *, replace: bool, simulator: Path | None) -> None:
    """Write this vendor's secret into the USB key that is plugged in."""
    backend = None if simulator is None else SimulatedUsbBackend(simulator)
    with office.register() as register:
        done = program(office.vendor().master, register, office.today(), backend=backend, replace=replace)
    what = "is programmed" if done.written else "carried this vendor's secret already"
    sort = "simulated key" if done.simulated else "key"
    click.echo(f"The {sort} {done.hardware_id} ({done.detail}) {what}, and answers as it should.")


@main.command("certify")
@click.argument("request_file", metavar="REQUEST|-", type=FILE)
@click.option("--output", type=FILE, help="New file for the certificate.")
@click.option("--catalog", type=FILE, help="Catalog file, for a catalog that is not shipped.")
@click.pass_obj
def certify_request(office: Office, *, request_file: Path, output: Path | None, catalog: Path | None) -> None:
    """Make the certificate for the hardware of a request."""
    asked = read_request(read_text(request_file))
    _check_product(asked, catalog)
    with office.register() as register, new_text(output) as write:
        done = certify(asked, office.vendor(), register, office.today())
        write(done.text)
    serial = done.certificate.serial
    _say_certified(done, asked)
    if asked.serial not in {None, serial}:
        _say(f"The host says that its serial is {asked.serial}: its licenses are for that one, not for {serial}.")


@main.command("issue")
@click.argument("serial")
@click.argument("items", metavar="FEATURE[:INSTANCES]|set:SET...", nargs=-1, required=True, callback=_items)
@click.option("--term", type=click.Choice(list(TERMS)), default="perpetual", show_default=True)
@click.option(
    "--date", type=click.DateTime(["%Y-%m-%d"]), help="Earlier issue day on the keys; today in UTC if left out."
)
@click.option("--catalog", type=FILE, help="Catalog file, for a catalog that is not shipped.")
@click.option("--json", "in_json", is_flag=True, help="Show the keys as JSON.")
@click.pass_obj
def issue_keys(
    office: Office,
    *,
    serial: str,
    items: tuple[Item | SetItem, ...],
    term: str,
    date: datetime.datetime | None,
    catalog: Path | None,
    in_json: bool,
) -> None:
    """Issue license keys for a serial, all or none; what is printed can be imported as it is.

    `set:SET` is one key for each feature of a set of the catalog; see: featurekey-issue sets
    """
    today = office.today()
    order = Order(serial=serial, items=items, term=TERMS[term], day=date.date() if date else today, today=today)
    with office.register() as register:
        rows = issue(order, find_catalog(register.catalog_of(serial), catalog), register)
    if in_json:
        click.echo(as_json([_in_full(row) for row in rows]), nl=False)
        return
    click.echo(f"# serial {serial}, issued {order.day}, term {term}")
    for row in rows:
        came_with = f",{row.license_set}" if row.license_set else ""
        click.echo(f'{row.key},"{row.title.replace(chr(34), " ")}",{row.instances}{came_with}')


@main.command("sets")
@click.argument("catalog_id", metavar="[CATALOG]", required=False)
@click.option("--catalog", "file", type=FILE, help="Catalog file, for a catalog that is not shipped.")
@click.option("--json", "in_json", is_flag=True, help="Show them as JSON.")
def list_sets(*, catalog_id: str | None, file: Path | None, in_json: bool) -> None:
    """List the sets of a catalog, or of all that are shipped."""
    catalogs = find_catalogs(catalog_id, file)
    if in_json:
        click.echo(as_json({catalog.id: catalog.sets for catalog in catalogs}), nl=False)
        return
    rows = [row for catalog in catalogs for row in _sets(catalog)]
    if not rows:
        _say(f"No set is in the catalog {', '.join(catalog.id for catalog in catalogs)}.")
    click.echo(as_table(rows), nl=False)


def _sets(catalog: Catalog) -> Iterator[dict[str, object]]:
    for name, it in catalog.sets.items():
        adds = " ".join(f"{feature}:{count}" for feature, count in it.adds.items())
        yield {"catalog": catalog.id, "set": name, "title": it.title, "adds": adds, "unverified": it.unverified}


@main.command("revoke")
@click.argument("serial")
@click.argument("key")
@click.option("--reason", default="", help="Kept in the register.")
@click.pass_obj
def revoke_key(office: Office, *, serial: str, key: str, reason: str) -> None:
    """Revoke a license key; hosts learn it from the next list."""
    with office.register() as register:
        row, now = revoke(serial, key, reason, register, office.today())
    what = "is revoked; send the next list" if now else f"was revoked on {row.revoked}"
    click.echo(f"{shorten(row.key)} ({row.title}) {what}: featurekey-issue list {serial}")


@main.command("list")
@click.argument("serial")
@click.option("--output", type=FILE, help="New file for the list.")
@click.pass_obj
def list_keys(office: Office, *, serial: str, output: Path | None) -> None:
    """Make the next signed license list of a serial."""
    with office.register() as register, new_text(output) as write:
        done = make_list(serial, office.vendor(), register, office.today())
        write(done.text)
        retired = register.exchange_of(serial)
    revoked = sum(entry.revoked for entry in done.licenses.entries)
    _say(f"List {done.licenses.number} of {serial}: {len(done.licenses.entries)} keys, {revoked} of them revoked.")
    if retired is not None:
        _say(f"{serial} was exchanged for {retired.new_serial}: this list takes everything from it.")
    if done.left_out:
        _say(f"{done.left_out} keys for an earlier catalog are not on it.")


@main.command("exchange")
@click.argument("old_serial")
@click.argument("request_file", metavar="REQUEST|-", type=FILE)
@click.option("--output", type=FILE, help="New file for the certificate and the license list.")
@click.option("--other-host", is_flag=True, help="Take the request of a host that had a third serial before.")
@click.option("--catalog", type=FILE, help="Catalog file, for a catalog that is not shipped.")
@click.pass_obj
def exchange_key(
    office: Office, *, old_serial: str, request_file: Path, output: Path | None, other_host: bool, catalog: Path | None
) -> None:
    """Carry all good licenses of a serial over to the replacement in a request, and retire the serial.

    One file comes of it, with the certificate and the license list of the new serial; the host takes both with
    `featurekeyctl certificate import`. There is no way back.
    """
    asked = read_request(read_text(request_file))
    _check_product(asked, catalog)
    with office.register() as register, new_text(output) as write:
        done = exchange(old_serial, asked, office.vendor(), register, office.today(), other_host=other_host)
        write(done.text)
    _say_certified(done.certified, asked)
    number, new_serial = done.listed.licenses.number, done.listed.licenses.serial
    _say(f"List {number} of {new_serial}: {done.carried} keys in place of those of {old_serial}, which is retired.")
    if done.left_behind:
        _say(f"{done.left_behind} keys that were revoked, expired or for an earlier catalog stay behind.")


@main.command("check")
@click.argument("request_file", metavar="REQUEST|-", type=FILE)
@click.option("--days", type=click.IntRange(1, MAX_GOOD_DAYS), default=MAX_GOOD_DAYS, show_default=True,
              help="How long the answer is good.")  # fmt: skip
@click.option("--output", type=FILE, help="New file for the answer.")
@click.pass_obj
def check_request(office: Office, *, request_file: Path, days: int, output: Path | None) -> None:
    """Answer a host that asks whether its licenses still hold; a serial that was exchanged is told no."""
    asked = read_request(read_text(request_file))
    with office.register() as register, new_text(output) as write:
        done = make_check(asked, office.vendor(), register, office.time(), days=days)
        write(done.text)
    evidence = done.evidence
    said = "no" if evidence.retired else f"good until {evidence.until:%Y-%m-%d %H:%M} UTC"
    _say(f"Check {evidence.number} of {evidence.serial}: {said}, {len(evidence.revoked)} keys revoked.")
    for told in done.told:
        _say(told)


@main.command("rescue")
@click.argument("serial")
@click.option("--date", type=click.DateTime(["%Y-%m-%d"]), help="The date that the host shows, if it is not today.")
@click.option("--certified", type=click.DateTime(["%Y-%m-%d"]),
              help="Issue day of the certificate on the host, if it is not the newest.")  # fmt: skip
@click.option("--reason", default="", help="Kept in the register.")
@click.option("--again", is_flag=True, help="Give another code within seven days.")
@click.pass_obj
def rescue_serial(
    office: Office,
    *,
    serial: str,
    date: datetime.datetime | None,
    certified: datetime.datetime | None,
    reason: str,
    again: bool,
) -> None:
    """Make a code that opens a system without its Feature Key for seven days."""
    order = RescueOrder(
        serial=serial,
        issuer=_user(),
        reason=reason,
        date=date.date() if date else None,
        certified=certified.date() if certified else None,
        again=again,
    )
    with office.register() as register:
        done = make_rescue(order, office.vendor(), register, office.time())
    click.echo(done.code)
    _say(f"For {serial} with its certificate of {done.certified}, on a host that takes {done.day} for today,")
    _say(f"a day before or a day after. It is good once and opens seven days; {serial} had {done.before} before.")


@main.command("permit")
@click.argument("serial")
@click.argument("may_change", metavar="hardware|addresses...", nargs=-1, required=True,
                type=click.Choice([str(it) for it in MayChange]))  # fmt: skip
@click.option("--host", "hardware_id", help="Hardware id of the one host it is for, as featurekeyctl host shows it.")
@click.option("--any-host", is_flag=True, help="Give one to a system without Feature Key for whatever host takes it.")
@click.option("--days", type=click.IntRange(1, MAX_DAYS), default=SHIPPED_DAYS, show_default=True,
              help="How long it is good.")  # fmt: skip
@click.option("--reason", default="", help="Kept in the register.")
@click.option("--output", type=FILE, help="New file for the permit.")
@click.pass_obj
def permit_change(office: Office, /, *, output: Path | None, may_change: tuple[str, ...], **said: Any) -> None:
    """Permit a system to go on with other hardware or another address; a host takes the permit once."""
    order = PermitOrder(may_change=tuple(map(MayChange, may_change)), **said)
    with office.register() as register, new_text(output) as write:
        done = make_permit(order, office.vendor(), register, office.today())
        write(done.text)
    permit, whom = done.permit, f"host {order.hardware_id}" if order.hardware_id else "any host"
    what = " and ".join(permit.may_change)
    _say(f"Permit {permit.number} of {permit.serial}: {what} may change until {permit.until}, for {whom}.")
    _say(f"{permit.serial} had {done.before} before; once this one is taken, those are worthless.")


def _user() -> str:
    """Who runs this, by the name that the register keeps."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


@main.command("show")
@click.argument("key")
@click.option("--catalog", type=FILE, help="Catalog file, for a catalog that is not shipped.")
@click.option("--json", "in_json", is_flag=True, help="Show it as JSON.")
@click.pass_obj
def show_key(office: Office, *, key: str, catalog: Path | None, in_json: bool) -> None:
    """Show what a license key says, and which serial of the register it fits."""
    with office.register() as register:
        story = tell_key(key, register, partial(find_catalog, file=catalog))
    if isinstance(story, Finding):
        said = {name: value for name, value in msgspec.structs.asdict(story).items() if value is not None}
    else:
        said = msgspec.structs.asdict(story)
    click.echo(as_json(said) if in_json else as_lines(said), nl=False)
    if isinstance(story, Finding):
        raise click.exceptions.Exit(1)


@main.command("register")
@click.argument("serial", required=False)
@click.option("--json", "in_json", is_flag=True, help="Show it as JSON.")
@click.pass_obj
def show_register(office: Office, *, serial: str | None, in_json: bool) -> None:
    """Show the systems of the register, or all about one serial."""
    with office.register() as register:
        if serial is None:
            rows = [_system(it, register) for it in register.systems()]
            click.echo(as_json(rows) if in_json else as_table(rows), nl=False)
            return
        system, keys = _system(register.system(serial), register), [_in_short(it) for it in register.licenses(serial)]
    click.echo(as_json(system | {"license_keys": keys}) if in_json else _page(system, keys), nl=False)


def _page(system: dict[str, object], keys: list[dict[str, object]]) -> str:
    return as_lines(system) + ("\n" + as_table(keys) if keys else "")


def _system(system: System, register: Register) -> dict[str, object]:
    keys, lists = register.licenses(system.serial), register.lists(system.serial)
    retired, replaces = register.exchange_of(system.serial), register.exchange_to(system.serial)
    rescues, checks = register.rescues(system.serial), register.checks(system.serial)
    return {
        "serial": system.serial,
        "kind": system.kind,
        "hardware_id": system.hardware_id,
        "test": system.simulated,
        "catalog": register.catalog_of(system.serial),
        "since": system.day,
        "replaces": replaces.old_serial if replaces else None,
        "exchanged_for": retired.new_serial if retired else None,
        "exchanged": retired.day if retired else None,
        "keys": len(keys),
        "revoked": sum(key.revoked is not None for key in keys),
        "newest_list": lists[-1].number if lists else None,
        "listed": lists[-1].day if lists else None,
        "rescues": len(rescues),
        "rescued": rescues[-1].day if rescues else None,
        "permits": len(register.permits(system.serial)),
        "checks": len(checks),
        "checked": checks[-1].day if checks else None,
    }


def _in_short(row: LicenseRow) -> dict[str, object]:
    return _in_full(row) | {"key": shorten(row.key)}


def _in_full(row: LicenseRow) -> dict[str, object]:
    names = ("key", "feature", "title", "instances", "issued")
    said: dict[str, object] = {name: getattr(row, name) for name in names}
    said |= {"term": row.term.name.lower().replace("_", "-"), "sequence": row.sequence}
    return said | {"set": row.license_set, "revoked": row.revoked}


def _check_product(asked: Request, file: Path | None) -> None:
    catalog = find_catalog(asked.catalog, file)
    if asked.platform not in catalog.platforms:
        known = ", ".join(sorted(catalog.platforms))
        _say(f"The catalog {catalog.id!r} has no platform {asked.platform!r}, only {known}.")


def _say_certified(done: Certified, asked: Request) -> None:
    had = " It had this serial before." if done.known else ""
    test = " (test)" if done.certificate.test else ""
    _say(f"Serial {done.certificate.serial}{test} for {asked.kind} {asked.hardware_id}.{had}")


def _passphrase_in(path: Path) -> bytes:
    passphrase = read_secret(path)
    if not passphrase:
        raise Refused(f"{path} holds no passphrase.")
    return passphrase


_say: Callable[[str], None] = partial(click.echo, err=True)
