"""The program `featurekeyd`: `daemon.main`, in a process without what it would load for nothing.

asyncio loads the TLS library where there is one, four megabytes that a daemon on a Unix socket never uses; it does
without where there is none.
"""

from __future__ import annotations

import sys
from typing import Any, cast


def main() -> int:
    """Run the daemon; the exit status."""
    cast("dict[str, Any]", sys.modules).setdefault("ssl", None)
    from .main import main as run  # noqa: PLC0415 - not before the line above

    return run()


if __name__ == "__main__":
    sys.exit(main())
