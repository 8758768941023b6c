"""Erlang B: how much of the traffic that is offered to a group of channels finds all of them busy.

It holds where calls come independently of each other and one that is blocked goes away (A. K. Erlang, 1917; ITU-T E.501
and every book on teletraffic). Pure: numbers in, numbers out.
"""

from __future__ import annotations

MAX_CHANNELS = 100_000
"""More are not looked for: the largest limit of any catalog is a tenth of that."""


def blocking(erlangs: float, channels: int) -> float:
    """The part of the calls that is blocked, from 0 to 1, by the usual recurrence, which neither over- nor underflows.

    Raises ValueError for traffic or channels below 0.
    """
    if not 0 <= erlangs < float("inf") or channels < 0:
        raise ValueError("traffic and channels are 0 or more")
    if erlangs == 0:
        return 0.0 if channels else 1.0
    part = 1.0
    for channel in range(1, channels + 1):
        part = erlangs * part / (channel + erlangs * part)
    return part


def channels_for(erlangs: float, grade: float) -> int:
    """The fewest channels with which no greater part than `grade` is blocked.

    Raises ValueError for traffic below 0, a grade that is not above 0 and below 1, and more than `MAX_CHANNELS`.
    """
    if not 0 <= erlangs < float("inf") or not 0 < grade < 1:
        raise ValueError("traffic is 0 or more, and a grade of service between 0 and 1")
    part, channel = 1.0, 0
    while erlangs and part > grade:
        channel += 1
        if channel > MAX_CHANNELS:
            raise ValueError(f"more than {MAX_CHANNELS} channels")
        part = erlangs * part / (channel + erlangs * part)
    return channel
