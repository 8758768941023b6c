"""Asterisk with everything at once, in an order made by chance: the leases are those of the channels that there are."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from fake_asterisk import Channel
from rig_agi import LICENSED, LINE, Switch, switch

STEPS = 40


@pytest.fixture(scope="module")
def pbx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Switch]:
    with switch(tmp_path_factory.mktemp("switch")) as it:
        yield it


class Day:
    """What a site does; `holding` has each channel that holds a lease, with the trunk's channel that it dialed."""

    def __init__(self, pbx: Switch, seed: int) -> None:
        self.pbx = pbx
        self.chance = random.Random(seed)
        self.holding: dict[Channel, Channel | None] = {}

    def step(self) -> None:
        what = [self.call, self.call, self.answer, self.end, self.transfer, self.masquerade, self.lose, self.cut]
        self.chance.choice(what)()

    def call(self) -> None:
        channel = self.pbx.call() if self.chance.random() < 0.7 else self.local()
        assert channel.status == ("allowed" if len(self.holding) < LICENSED else "denied")
        if channel.status == "allowed":
            self.holding[channel] = None
        else:
            channel.hang_up(34)

    def local(self) -> Channel:
        half = self.pbx.asterisk.local()[1]
        half.agi(LINE)
        return half

    def answer(self) -> None:
        channel = self.one(answered=False)
        if channel is not None:
            leg = channel.dial("PJSIP/carrier-a")
            channel.answer(leg)
            self.holding[channel] = leg

    def end(self) -> None:
        channel = self.one()
        if channel is not None:
            leg = self.holding.pop(channel)
            if leg is not None:
                leg.hang_up()
            channel.hang_up()
            self.settle()

    def transfer(self) -> None:
        """Who dialed out leaves the call; the trunk's channel goes on."""
        channel = self.one(answered=True)
        if channel is not None:
            leg = self.holding.pop(channel)
            assert leg is not None
            channel.hang_up()
            self.holding[leg] = None
            self.settle()

    def masquerade(self) -> None:
        channel = self.one(answered=False)
        if channel is not None:
            target = self.pbx.asterisk.channel("AsyncGoto/PJSIP")
            self.pbx.asterisk.masquerade(channel, target)
            self.holding[target] = self.holding.pop(channel)
            self.settle()

    def lose(self) -> None:
        """A channel ends and nobody tells of it: no handler, no event."""
        channel = self.one(answered=False)
        if channel is not None:
            del self.holding[channel]
            self.pbx.asterisk.lose(channel)
            self.settle()

    def cut(self) -> None:
        self.pbx.asterisk.cut_ami()
        self.pbx.asterisk.wait_for("logins")
        self.settle()

    def one(self, *, answered: bool | None = None) -> Channel | None:
        those = [it for it, leg in self.holding.items() if answered is None or (leg is not None) is answered]
        return self.chance.choice(those) if those else None

    def settle(self) -> None:
        self.pbx.until_keys(*self.holding)


@pytest.mark.parametrize("seed", range(2))
def test_the_leases_are_those_of_the_channels_whatever_happens(pbx: Switch, seed: int) -> None:
    day = Day(pbx, seed)
    for _ in range(STEPS):
        day.step()
    for channel, leg in list(day.holding.items()):
        channel.hang_up()
        if leg is not None:
            leg.hang_up()
    pbx.until_in_use(0)
    for channel in pbx.asterisk.snapshot():
        channel.hang_up()
    assert pbx.held() == set()
