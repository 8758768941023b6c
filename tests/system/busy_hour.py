"""A busy hour on a simulated site, in under a minute: what `./dev demo` shows.

Everything is real but the Feature Key, which is a simulated SD card in a simulated reader on a pty: the vendor makes
keys and a license list, the daemon reads the card and takes them, two telephony systems ask it through the client
library. In the hour trunks fill up, phones register, someone calls for help when every channel is taken, the card is
pulled and put back, and the daemon is killed and started again. In the end the sums must agree: what was counted here,
call by call, and what the daemon counted. Exit status 0 when they do, else 1.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

import rig
from featurekeyd.client.answer import Answer
from featurekeyd.client.license import LicenseClient

MINUTES = 60
ORDERS = (
    "essential-edition",
    "sip-trunk-channels:10",
    "vcm-channels:8",
    "third-party-ip-endpoints:20",
    "softconsole:6",
)
"""Ten channels and more VCM than they need; six SoftConsoles, of which the platform runs four."""

TRUNKS = {"trunk:carrier-a": 8, "trunk:carrier-b": 6}
"""Channels that the trunks have: more than are licensed, so that the license decides."""

SIP, VOICEMAIL, PHONES, CONSOLES = (
    "sip-trunk-channels",
    "embedded-voicemail-ports",
    "third-party-ip-endpoints",
    "softconsole",
)


@dataclass
class Call:
    """A call that was granted: when it is answered and when it ends, in minutes of the hour."""

    key: str
    feature: str
    ends: int
    port: str | None = None
    channel: str | None = None


@dataclass
class Sums:
    """What was counted here, by feature."""

    granted: Counter[str] = field(default_factory=Counter)
    denied: Counter[str] = field(default_factory=Counter)
    highest: Counter[str] = field(default_factory=Counter)
    now: Counter[str] = field(default_factory=Counter)

    def count(self, feature: str, answer: Answer) -> None:
        """Count one answer."""
        if not answer.allowed:
            self.denied[feature] += 1
            return
        self.granted[feature] += 1
        self.now[feature] += 1
        self.highest[feature] = max(self.highest[feature], self.now[feature])


class Hour:
    """The hour: what happens in each minute, and what came of it."""

    def __init__(self, licensed: rig.Licensed, seed: int) -> None:
        self.site = licensed.site
        self.simulator = licensed.simulator
        self.kamailio = licensed.site.client("kamailio")
        self.asterisk = licensed.site.client("asterisk")
        self.sums = Sums()
        self.before = Counter[tuple[str, str]]()
        """What the daemon counted before it was killed, by feature and member."""
        self.news: list[str] = []
        self.wrong: list[str] = []
        self._chance = random.Random(seed)
        self._calls: list[Call] = []
        self._made = 0
        self._events = {
            0: self._open_consoles,
            20: self._rush,
            25: self._emergency,
            35: self._pull_card,
            45: self._put_card_back,
            50: self._kill_daemon,
            MINUTES - 1: self._close_down,
        }

    def minute(self, number: int) -> None:
        """Let one minute of the hour happen."""
        self._end_calls(number)
        if number < MINUTES - 1:
            self._ring(number, self._chance.randrange(0, 8))
            if self._chance.random() < 0.4:
                self._ask(self.asterisk, VOICEMAIL, number + 2)
            if number < 12:
                for _ in range(2):
                    self._ask(self.asterisk, PHONES, MINUTES)
        event = self._events.get(number)
        if event is not None:
            event(number)

    def features(self) -> list[dict[str, Any]]:
        """The features with what the daemon counted over the whole hour."""
        features: list[dict[str, Any]] = self.site.call("License.ListFeatures")["features"]
        for feature in features:
            for member in ("granted", "denied"):
                feature[member] += self.before[feature["feature"], member]
            feature["peak"] = max(feature["peak"], self.before[feature["feature"], "peak"])
        return features

    def check(self) -> None:
        """Hold the sums against each other; what does not agree is noted in `wrong`."""
        for feature in self.features():
            name = feature["feature"]
            self._same(f"{name}: granted", self.sums.granted[name], feature["granted"])
            self._same(f"{name}: denied", self.sums.denied[name], feature["denied"])
            self._same(f"{name}: in use at the end", 0, feature["in_use"])
            if self.sums.highest[name] > feature["limit"]:
                self.wrong.append(f"{name}: {self.sums.highest[name]} at once, above the limit of {feature['limit']}")
        self._same("leases at the end", 0, len(self.site.leases()))
        self._same("standing", "licensed", self.site.status()["standing"])

    # What happens

    def _ring(self, number: int, calls: int) -> None:
        for _ in range(calls):
            port = self._chance.choice(list(TRUNKS))
            channel = self._free_channel(port)
            if channel is not None:
                self._ask(self.kamailio, SIP, number + self._chance.randrange(1, 4), port, channel)

    def _free_channel(self, port: str) -> str | None:
        taken = {call.channel for call in self._calls if call.port == port}
        free = [str(channel) for channel in range(1, TRUNKS[port] + 1) if str(channel) not in taken]
        return free[0] if free else None

    def _ask(
        self, client: LicenseClient, feature: str, ends: int, port: str | None = None, channel: str | None = None
    ) -> Answer:
        self._made += 1
        key = f"{feature}-{self._made}"
        answer = client.acquire(key, [feature], port=port, channel=channel)
        self.sums.count(feature, answer)
        if answer.allowed:
            if feature == SIP:  # taken besides while the call is set up, and given back when it is answered
                self.sums.granted["vcm-channels"] += 1
                client.acquire(key, [feature], port=port, channel=channel, phase="established")
            self._calls.append(Call(key, feature, ends, port, channel))
        return answer

    def _end_calls(self, number: int) -> None:
        for call in [call for call in self._calls if call.ends <= number]:
            client = self.kamailio if call.feature == SIP else self.asterisk
            if not client.release(call.key):
                self.wrong.append(f"{call.key}: the daemon did not have this lease")
            self.sums.now[call.feature] -= 1
            self._calls.remove(call)

    def _open_consoles(self, _: int) -> None:
        answers = [self._ask(self.asterisk, CONSOLES, MINUTES) for _ in range(6)]
        self._tell(f"six operators open a SoftConsole: {sum(it.allowed for it in answers)} may, this platform runs 4")

    def _rush(self, number: int) -> None:
        self._tell("everybody calls at once")
        self._ring(number, 12)

    def _emergency(self, number: int) -> None:
        self._ring(number, 14)
        refused = self._ask(self.kamailio, SIP, number + 1)
        helped = self.kamailio.acquire("help", [SIP], port="trunk:carrier-a", dialed="112")
        self._same("a call at the limit", "limit_reached", refused.reason)
        self._same("an emergency call at the limit", "emergency", helped.reason)
        self._tell(f"with {refused.in_use} of {refused.limit} channels in use, someone dials 112: {helped.reason}")
        self.kamailio.release("help")

    def _pull_card(self, _: int) -> None:
        self.simulator.tell("unplug")
        status = self._await(lambda status: bool(status["grace"]), "grace after the card was pulled")
        hours = status["grace"][0]["seconds_left"] / 3600 if status["grace"] else 0
        self._tell(f"the card is pulled: {status['standing']}, calls go on for {hours:.1f} hours")

    def _put_card_back(self, _: int) -> None:
        self.simulator.tell("plug")
        status = self._await(lambda status: not status["grace"], "all well after the card was put back")
        self._tell(f"the card is back: {status['standing']}")

    def _kill_daemon(self, _: int) -> None:
        for feature in self.site.call("License.ListFeatures")["features"]:
            for member in ("granted", "denied", "peak"):
                self.before[feature["feature"], member] = feature[member]
        self.site.kill()
        self.site.start()
        held = {lease["key"] for lease in self.site.leases()}
        self._same("leases after the daemon was killed", {call.key for call in self._calls}, held)
        self._tell(f"the daemon is killed and started again: {len(held)} leases are still there")

    def _close_down(self, _: int) -> None:
        self._end_calls(10 * MINUTES)
        self._tell("everybody hangs up")

    def _await(self, wanted: Any, what: str) -> dict[str, Any]:
        """Status, asked until it is as wanted; a reader takes a moment to see that a card is gone."""
        deadline = time.monotonic() + 10
        while not wanted(status := self.site.status()):
            if time.monotonic() > deadline:
                self.wrong.append(f"{what}: not within 10 s")
                break
            self.site.call("Manage.CheckNow")
        return status

    def _same(self, what: str, here: object, there: object) -> None:
        if here != there:
            self.wrong.append(f"{what}: counted here {here}, the daemon says {there}")

    def _tell(self, news: str) -> None:
        self.news.append(news)


def picture(hour: Hour, number: int) -> Group:
    """The table of the minute, with the news under it."""
    table = Table(title=f"minute {number:2} of a busy hour", title_justify="left")
    table.add_column("feature")
    for heading in ("in use", "limit", "peak", "granted", "denied"):
        table.add_column(heading, justify="right")
    for feature in hour.features():
        if feature["granted"] or feature["denied"] or feature["limit"]:
            style = "red" if feature["limit"] and feature["in_use"] >= feature["limit"] else ""
            numbers = (feature["in_use"], feature["limit"], feature["peak"], feature["granted"], feature["denied"])
            table.add_row(feature["feature"], *(str(value) for value in numbers), style=style)
    return Group(table, *(Text(f"  {line}") for line in hour.news))


@contextmanager
def screen(console: Console) -> Iterator[Any]:
    """A live table on a terminal; elsewhere the table of every tenth minute."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda hour, number: live.update(picture(hour, number), refresh=True)
    else:
        yield lambda hour, number: console.print(picture(hour, number)) if number % 10 == 9 else None


def play(hour: Hour, seconds: float, console: Console) -> None:
    """Play the hour in about that many seconds."""
    begun = time.monotonic()
    with screen(console) as show:
        for number in range(MINUTES):
            hour.minute(number)
            show(hour, number)
            # Paced for the eye, not for the test: with 0 seconds there is no pause at all.
            time.sleep(max(0.0, begun + seconds * (number + 1) / MINUTES - time.monotonic()))


def main() -> int:
    """Play the hour and hold the sums against each other; the exit status."""
    parser = argparse.ArgumentParser(prog="./dev demo", description="A busy hour on a simulated site.")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the hour takes (default 30)")
    parser.add_argument("--seed", type=int, default=7, help="seed of the chance that calls come by (default 7)")
    arguments = parser.parse_args()
    console = Console()
    console.print("making the vendor's keys, certifying a simulated SD card, importing a license list …")
    with (
        tempfile.TemporaryDirectory(prefix="featurekeyd-demo-") as folder,
        rig.licensed_site(Path(folder), ORDERS, feature_key={"poll_seconds": 0.2}) as licensed,
    ):
        hour = Hour(licensed, arguments.seed)
        play(hour, arguments.seconds, console)
        hour.check()
    requests = hour.sums.granted.total() - hour.sums.granted["vcm-channels"] + hour.sums.denied.total()
    console.print(
        f"\n{requests} requests: {requests - hour.sums.denied.total()} granted, {hour.sums.denied.total()} denied, "
        "1 emergency call granted at the limit."
    )
    for line in hour.wrong:
        console.print(f"DOES NOT ADD UP: {line}", style="red")
    console.print("The sums agree." if not hour.wrong else "The sums do not agree.")
    return 1 if hour.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
