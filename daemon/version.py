"""Version of the package, and the day this release was made."""

from __future__ import annotations

import datetime

VERSION = "0.1.0"
"""As in pyproject.toml, which a test holds it to: to ask the installed package would load a parser for e-mail."""

RELEASED = datetime.date(2026, 11, 21)
"""No date before this one is believed: a host whose clock says 1970 has not gone back in time."""
