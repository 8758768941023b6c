"""Version of the installed package, and the day this release was made."""

from __future__ import annotations

import datetime
from importlib.metadata import version

VERSION = version("featurekeyd")

RELEASED = datetime.date(2026, 11, 21)
"""No date before this one is believed: a host whose clock says 1970 has not gone back in time."""
