"""org.varlink.service: the daemon describes itself with the very files that its interfaces are defined by."""

from __future__ import annotations

from pathlib import Path

import msgspec

from .methods import Client, Method, Nothing, Permission, method
from .version import VERSION
from .wire import LICENSE, MANAGE, SERVICE, error_reply, reply

INTERFACES = (SERVICE, LICENSE, MANAGE)


class Interface(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of GetInterfaceDescription."""

    interface: str


def description(interface: str) -> str:
    """The text of an interface file."""
    return Path(__file__).with_name(f"{interface}.varlink").read_text(encoding="utf-8")


def service_methods() -> dict[str, Method]:
    """The methods of org.varlink.service, which anybody may call who may call anything."""
    info = {
        "vendor": "featurekeyd",
        "product": "featurekeyd",
        "version": VERSION,
        "url": "",
        "interfaces": list(INTERFACES),
    }
    descriptions = {name: description(name) for name in INTERFACES}

    def get_info(_: Client, __: Nothing) -> bytes:
        return reply(info)

    def get_interface_description(_: Client, parameters: Interface) -> bytes:
        text = descriptions.get(parameters.interface)
        if text is None:
            return error_reply(f"{SERVICE}.InterfaceNotFound", {"interface": parameters.interface[:256]})
        return reply({"description": text})

    return {
        f"{SERVICE}.GetInfo": method(Permission.NONE, Nothing, get_info),
        f"{SERVICE}.GetInterfaceDescription": method(Permission.NONE, Interface, get_interface_description),
    }
