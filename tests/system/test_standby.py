"""An active and a standby switch at one daemon: docs/standby.md, played against the real one while others count.

The active switch is a process of its own that is killed. Its calls are in the ledger until the standby's list takes
them over; another connection looks at the count all the while, and sees nothing outside of what the page says.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import rig
from featurekeyd.client.license import SyncLease

PAGE = (Path(__file__).parents[2] / "docs" / "standby.md").read_text(encoding="utf-8")
TRUNKS = "sip-trunk-channels"
PLACE = "trunk:carrier-a"
SPARED_SECONDS = 2.1
"""A list frees no lease that was granted less than two seconds before it was taken (io.featurekey.License)."""

ACTIVE = """
import sys
from featurekeyd.client.license import LicenseClient, SyncLease
client = LicenseClient("switch-a", sys.argv[1], 20)
for number in range(1, 11):
    answer = client.acquire(f"{number}@host;tag=1", "sip-trunk-channels", port="trunk:carrier-a", phase="established")
    assert answer.reason == "granted", answer
calls = [SyncLease(f"{number}@host;tag=1", ("sip-trunk-channels",)) for number in range(1, 11)]
print("held", client.sync("calls", calls, ttl_seconds=3600).held, flush=True)
sys.stdin.read()
"""
"""The active switch: ten calls, a list, and then nothing more."""

Row = dict[str, str]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[rig.Site]:
    with rig.licensed_site(tmp_path, ("sip-trunk-channels:12", "vcm-channels:30")) as it:
        yield it.site
        print(f"log of the daemon:\n{it.site.log}")


class Counted:
    """What another connection sees of the count while a block runs."""

    def __init__(self, site: rig.Site) -> None:
        self.site = site
        self.seen: list[int] = []
        self._over = threading.Event()
        self._trouble: Exception | None = None
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        try:
            with self.site.connect() as connection:
                while not self._over.is_set():
                    features = connection.call("License.ListFeatures")["features"]
                    self.seen += [it["in_use"] for it in features if it["feature"] == TRUNKS]
        except Exception as trouble:  # noqa: BLE001 - raised in the thread of the test
            self._trouble = trouble

    def __enter__(self) -> Counted:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(rig.DEADLINE)
        if self._trouble is not None:
            raise self._trouble


def let_pass(site: rig.Site, seconds: float) -> None:
    """Let time pass: nothing is waited for that would be told."""
    until = time.monotonic() + seconds
    with site.watch() as events, contextlib.suppress(TimeoutError):
        while (left := until - time.monotonic()) > 0:
            events.connection.socket.settimeout(left)
            events.connection.socket.recv(65536)


def key(number: int) -> str:
    return f"{number}@host;tag=1"


def keys(site: rig.Site, holder: str) -> set[str]:
    return {lease["key"] for lease in site.leases(holder=holder)}


def numbers(text: str) -> list[int]:
    """`3-4 6-11` as numbers."""
    spans = [part.split("-") for part in text.split()]
    return [number for first, last in spans for number in range(int(first), int(last) + 1)]


def listed(*of: int) -> list[SyncLease]:
    return [SyncLease(key(number), (TRUNKS,)) for number in of]


# The table of the page


def rows() -> list[Row]:
    _, _, behind = PAGE.partition("### What happens to the count\n")
    lines = [line.strip().strip("|").split(" | ") for line in behind.splitlines() if line.startswith("|")]
    head, _, *cells = ([cell.strip() for cell in line] for line in lines)
    return [dict(zip(head, row, strict=True)) for row in cells]


def asked(site: rig.Site, request: str) -> str:
    """What is answered to a request as the page writes it."""
    who, _, what = request.partition(": ")
    if who == "daemon":
        assert what == "restart"
        site.restart()
        return "-"
    verb, _, rest = what.partition(" ")
    client = site.client(who)
    if verb == "release":
        return "released" if client.release(key(int(rest))) else "nothing held"
    if verb == "call":
        return client.acquire(key(int(rest)), TRUNKS, port=PLACE, phase="established").reason
    assert verb == "list"
    calls, _, earlier = rest.partition(", takes over ")
    if earlier:
        let_pass(site, SPARED_SECONDS)
    synced = client.sync("calls", listed(*numbers(calls)), ttl_seconds=3600, takes_over=earlier or None)
    return f"held {synced.held}"


def state(site: rig.Site) -> tuple[str, str, str]:
    counts = [len(keys(site, holder)) for holder in ("switch-a", "switch-b")]
    return str(counts[0]), str(counts[1]), str(site.feature(TRUNKS)["in_use"])


def play(site: rig.Site, row: Row, before: int) -> None:
    request = row["request"].strip("`")
    after = int(row["in use"])
    if request.startswith("daemon"):
        answer = asked(site, request)
    else:
        with Counted(site) as counted:
            answer = "-" if request == "-" else asked(site, request)
        assert set(counted.seen) <= set(range(min(before, after), max(before, after) + 1)), row
    assert (answer, *state(site)) == (row["answer"], row["switch-a"], row["switch-b"], row["in use"]), row


def test_the_count_goes_as_the_page_says_and_never_doubles_nor_drops(site: rig.Site) -> None:
    first, dies, *others = rows()
    assert first["request"] == "`switch-a: list 1-10`"
    with rig.Process([sys.executable, "-c", ACTIVE, str(site.socket)]) as active:
        assert active.output.wait(bool) == first["answer"]
        assert state(site) == (first["switch-a"], first["switch-b"], first["in use"])
    # It was killed at the end of the block, without a word.
    before = int(first["in use"])
    for row in (dies, *others):
        play(site, row, before)
        before = int(row["in use"])
    assert len(others) == 10


def test_a_row_that_lies_is_found(site: rig.Site) -> None:
    for column, lie in (("answer", "held 9"), ("switch-a", "9"), ("switch-b", "1"), ("in use", "11")):
        with pytest.raises(AssertionError):
            play(site, rows()[0] | {column: lie}, 0)


def test_calls_that_are_taken_over_keep_their_age_and_place_and_others_are_freed(site: rig.Site) -> None:
    with rig.Process([sys.executable, "-c", ACTIVE, str(site.socket)]) as active:
        active.output.wait(bool)
    let_pass(site, SPARED_SECONDS)
    synced = site.client("switch-b").sync("calls", listed(1, 2, 3), takes_over="switch-a")
    assert (synced.adopted, synced.changed, synced.freed, synced.held) == (0, 3, 7, 3)
    leases = site.leases()
    assert {(it["holder"], it["port"]) for it in leases} == {("switch-b", PLACE)}
    assert min(it["age_seconds"] for it in leases) >= 2
    # The second time nothing changes: an answer that was lost does no harm.
    again = site.client("switch-b").sync("calls", listed(1, 2, 3), takes_over="switch-a")
    assert (again.adopted, again.changed, again.freed, again.held) == (0, 0, 0, 3)


def test_an_emergency_call_goes_over_as_one(site: rig.Site) -> None:
    site.client("switch-a").acquire(key(1), TRUNKS, dialed="112")
    site.client("switch-b").sync("calls", listed(1), takes_over="switch-a")
    (lease,) = site.leases()
    assert (lease["holder"], lease["class"], site.feature(TRUNKS)["in_use"]) == ("switch-b", "emergency", 0)


def test_registrations_are_taken_over_by_a_list_of_their_own(site: rig.Site) -> None:
    phones = [SyncLease(f"phone-{number}", ("third-party-ip-endpoints",)) for number in range(3)]
    site.client("switch-a").sync("registrations", phones)
    site.client("switch-a").sync("calls", listed(1))
    site.client("switch-b").sync("registrations", phones, takes_over="switch-a")
    assert keys(site, "switch-b") == {"phone-0", "phone-1", "phone-2"}
    assert keys(site, "switch-a") == {key(1)}


def test_a_takeover_by_another_user_is_refused_and_changes_nothing(site: rig.Site, as_root: None) -> None:
    site.client("switch-a").sync("calls", listed(1, 2))
    site.write_settings(access={"ask_users": [rig.STRANGER]})
    site.restart()
    for holder in ("intruder", "switch-a"):
        with site.connect_as(rig.STRANGER) as stranger:
            wanted: dict[str, object] = {"holder": holder, "scope": "calls", "leases": [], "takes_over": "switch-a"}
            with pytest.raises(rig.Refused, match="HolderBelongsToAnotherUser"):
                stranger.call("License.Sync", wanted)
    assert keys(site, "switch-a") == {key(1), key(2)}


def test_a_name_that_the_settings_give_to_another_user_is_not_taken_over(tmp_path: Path) -> None:
    with rig.licensed_site(tmp_path, holders={"switch-a": rig.STRANGER}) as it, it.site.connect() as connection:
        wanted: dict[str, object] = {"holder": "switch-b", "scope": "calls", "leases": [], "takes_over": "switch-a"}
        with pytest.raises(rig.Refused, match="HolderBelongsToAnotherUser"):
            connection.call("License.Sync", wanted)


def test_a_list_that_names_nobody_takes_over_from_nobody(site: rig.Site) -> None:
    site.client("switch-a").sync("calls", listed(1, 2))
    let_pass(site, SPARED_SECONDS)
    assert site.client("switch-b").sync("calls", listed(3)).held == 1
    assert keys(site, "switch-a") == {key(1), key(2)}


def test_a_standby_that_comes_after_the_ttl_counts_its_calls_again(site: rig.Site) -> None:
    with site.watch() as events:
        site.client("switch-a").sync("calls", listed(*range(1, 11)), ttl_seconds=1)
        events.wait("drift", "switch-a fell silent")
    assert site.feature(TRUNKS)["in_use"] == 0
    site.client("switch-c").sync("calls", listed(*range(21, 26)))
    synced = site.client("switch-b").sync("calls", listed(*range(1, 11)), takes_over="switch-a")
    assert (synced.adopted, synced.held) == (10, 10)
    assert site.feature(TRUNKS)["over"] == 3
    assert site.client("switch-b").acquire("new", TRUNKS).reason == "limit_reached"


def test_what_the_page_says_to_set_is_understood_by_the_daemon(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    with rig.Site(tmp_path) as site:
        (tmp_path / "vendor" / "public").mkdir(parents=True)
        text = site.settings.read_text(encoding="utf-8") + "\n".join(blocks).replace('"kamailio"', "54321")
        site.settings.write_text(text, encoding="utf-8")
        checked = site.run_daemon("--check")
        assert checked.status == 0, checked.err
