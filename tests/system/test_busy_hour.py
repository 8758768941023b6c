"""The demo is a test as well: without its pauses, and with another seed than people see."""

from __future__ import annotations

import sys
from pathlib import Path

import rig


def test_the_sums_of_a_busy_hour_agree() -> None:
    played = rig.run(sys.executable, str(Path(__file__).parent / "busy_hour.py"), "--seconds", "0", "--seed", "11")
    assert played.status == 0, played.out + played.err
    assert "The sums agree." in played.out
