"""Kamailio with the configuration and the script that are shipped, for the test bench.

The script runs in Kamailio's own Python and finds the package by PYTHONPATH, as a site with a virtual environment sets
it; a Debian package needs none.
"""

from __future__ import annotations

from pathlib import Path

from rig_kamailio import CHECKOUT, Kamailio

from rig import Site

CONFIGURATION = CHECKOUT / "client" / "kamailio.cfg"
SCRIPT = CHECKOUT / "client" / "kamailio_script.py"


def scripted(folder: Path, site: Site, *, more: str = "", **defines: str) -> Kamailio:
    """A Kamailio that asks this site's daemon; `defines` are those of client/kamailio.cfg, `more` further lines."""
    socket = f'modparam("pv", "shvset", "featurekey_socket=s:{site.socket}")'
    names = folder / "names"
    (names / "featurekeyd").mkdir(parents=True, exist_ok=True)
    if not (names / "featurekeyd" / "client").is_symlink():
        (names / "featurekeyd" / "client").symlink_to(CHECKOUT / "client")
    defined = {"FEATUREKEY_SCRIPT": f'"{SCRIPT}"', **defines}
    return Kamailio(folder, CONFIGURATION, defined, more=f"{socket}\n{more}", environ={"PYTHONPATH": str(names)})
