"""The C example client, as it is shipped: built as strict C99, and run against the real daemon and against liars.

Every test runs twice: plain, and with gcc's address and undefined behavior sanitizers, which end the program at the
first fault. A liar is a socket that answers with whatever a test puts in its mouth; what the client makes of it is held
against the Python client, which reads the same bytes by other means.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

import rig
from featurekeyd.client.answer import read_answer
from featurekeyd.client.call import CallRefused, PermissionRefused, ReplyGarbled, decode
from featurekeyd.client.limits import key_text

SOURCE = Path(__file__).parents[2] / "client" / "c" / "featurekey_example.c"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
SANITIZED = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
TRUNKS = "sip-trunk-channels"
AWAY = "denied daemon_away"
LIMIT = 8
"""Trunks of the licensed site."""

Start = Callable[..., "Example"]


class Example:
    """The program under test: one line in, one line out."""

    def __init__(self, program: Path, *arguments: object) -> None:
        command = [str(program), *map(str, arguments)]
        self._popen = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
        )
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        self._into, self._out, self._errors = self._popen.stdin, self._popen.stdout, self._popen.stderr
        self._said = b""

    def ask(self, *fields: str | bytes) -> list[str]:
        """The fields of the answer."""
        line = b"\t".join(field if isinstance(field, bytes) else field.encode() for field in fields)
        self._into.write(line + b"\n")
        self._into.flush()
        return self.hear()

    def hear(self) -> list[str]:
        deadline = time.monotonic() + rig.DEADLINE
        while b"\n" not in self._said:
            readable, _, _ = select.select([self._out], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self._out.fileno(), 65536) if readable else b""
            if not chunk:
                self._popen.kill()
                raise AssertionError(f"no answer: {self._errors.read().decode(errors='replace')}")
            self._said += chunk
        line, _, self._said = self._said.partition(b"\n")
        return line.decode().split("\t")

    def acquire(self, key: str | bytes, *fields: str) -> str:
        """Allowed or denied, and the reason."""
        return " ".join(self.ask("acquire", key, *fields)[:2])

    def end(self) -> None:
        """Let it end by the end of its input; with sanitizers that is also the search for leaks."""
        self._into.close()
        status = self._popen.wait(rig.DEADLINE)
        said = self._errors.read().decode(errors="replace")
        for stream in (self._out, self._errors):
            stream.close()
        assert (status, said) == (0, "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.end()
        else:
            self._popen.kill()
            self._popen.communicate()


@pytest.fixture(scope="module", params=["plain", "sanitized"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built program."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no gcc")
    built = tmp_path_factory.mktemp("c") / "featurekey_example"
    options = SANITIZED if request.param == "sanitized" else ("-O2",)
    done = subprocess.run(
        [compiler, *STRICT, *options, "-o", str(built), str(SOURCE)], capture_output=True, text=True, check=False
    )
    if request.param == "sanitized" and "cannot find" in done.stderr:
        pytest.skip("this gcc has no sanitizers")
    assert (done.returncode, done.stderr) == (0, "")
    return built


@pytest.fixture
def start(program: Path) -> Iterator[Start]:
    """Starts the program on a socket, without a cool-down and with a time limit for loaded machines."""
    with contextlib.ExitStack() as stack:

        def started(path: object, *, holder: str = "switch", cool_down_ms: int = 0, limit_ms: int = 20_000) -> Example:
            return stack.enter_context(Example(program, holder, path, cool_down_ms, limit_ms))

        yield started


# The real daemon


def test_calls_are_granted_denied_with_limit_and_reason_and_given_back(licensed: rig.Licensed, start: Start) -> None:
    switch = start(licensed.site.socket)
    place = ("port=trunk:carrier-a", "channel=7")
    assert switch.ask("acquire", "call-0", TRUNKS, *place) == ["allowed", "granted", TRUNKS, "1", "8", "daemon", ""]
    assert switch.acquire("call-0", TRUNKS) == "allowed already_held"
    for number in range(1, LIMIT):
        assert switch.acquire(f"call-{number}", TRUNKS) == "allowed granted"
    denied = switch.ask("acquire", "call-8", TRUNKS)
    assert denied[:6] == ["denied", "limit_reached", TRUNKS, "8", "8", "daemon"]
    assert "8" in denied[6]
    assert switch.ask("acquire", "x", "no-such-feature")[:2] == ["denied", "unknown_feature"]
    assert switch.ask("release", "call-0") == ["released"]
    assert switch.ask("release", "call-0") == ["nothing"]
    assert licensed.site.feature(TRUNKS)["in_use"] == LIMIT - 1
    assert switch.acquire("call-9", f"{TRUNKS}:2") == "denied limit_reached"


def test_a_call_is_found_as_it_stands(licensed: rig.Licensed, start: Start) -> None:
    switch = start(licensed.site.socket)
    switch.acquire("a@host;tag=1", TRUNKS, "port=trunk:carrier-a", "channel=7")
    assert switch.ask("find", "a@host")[:4] == ["there", "setup", "trunk:carrier-a", "7"]
    switch.acquire("a@host;tag=1", TRUNKS, "phase=established")
    assert switch.ask("find", "a@host;tag=1")[:4] == ["there", "established", "trunk:carrier-a", "7"]
    assert switch.ask("find", "b@host")[0] == "none"


def test_an_emergency_call_passes_with_and_without_the_daemon(licensed: rig.Licensed, start: Start) -> None:
    switch = start(licensed.site.socket)
    assert switch.ask("acquire", "help-1", TRUNKS, "dialed= 112 ")[:2] == ["allowed", "emergency"]
    assert switch.ask("acquire", "help-2", "no-such-feature", "emergency")[5] == "daemon"
    licensed.site.kill()
    for fields in ((TRUNKS, "dialed=911"), (TRUNKS, "emergency"), ()):
        answer = switch.ask("acquire", "help-3", *fields, "emergency")
        assert (answer[:2], answer[5]) == (["allowed", "emergency"], "client")
    assert switch.ask("acquire", "", TRUNKS, "emergency")[:2] == ["allowed", "emergency"]
    assert switch.acquire("call-1", TRUNKS, "dialed=1122") == AWAY


def test_a_restart_of_the_daemon_is_not_noticed(licensed: rig.Licensed, start: Start) -> None:
    switch = start(licensed.site.socket)
    for number in range(3):
        assert switch.acquire(f"call-{number}", TRUNKS) == "allowed granted"
        licensed.site.restart()
    licensed.site.kill()
    licensed.site.start()
    assert switch.ask("release", "call-0") == ["released"]
    assert licensed.site.feature(TRUNKS)["in_use"] == 2


def test_without_the_daemon_the_trunk_decides_and_releases_wait(licensed: rig.Licensed, start: Start) -> None:
    switch = start(licensed.site.socket)
    for key in ("a", "b", "c"):
        switch.acquire(key, TRUNKS)
    licensed.site.kill()
    assert switch.acquire("d", TRUNKS) == AWAY
    assert switch.acquire("d", TRUNKS, "open") == "allowed daemon_away"
    for key in ("a", "b", "a"):
        assert switch.ask("release", key) == ["queued"]
    assert switch.ask("pending") == ["2", "0"]
    licensed.site.start()
    assert switch.acquire("b", TRUNKS) == "allowed granted"  # released first, and then taken afresh
    assert switch.ask("pending") == ["0", "0"]
    assert {lease["key"] for lease in licensed.site.leases()} == {"b", "c"}


def test_the_queue_of_releases_is_bounded_and_the_oldest_goes_first(
    licensed: rig.Licensed, start: Start, tmp_path: Path
) -> None:
    switch = start(tmp_path / "nobody")
    for number in range(1027):
        assert switch.ask("release", f"call-{number}") == ["queued"]
    assert switch.ask("pending") == ["1024", "3"]


def test_in_the_cool_down_a_call_is_answered_on_the_spot_and_a_release_is_tried(
    licensed: rig.Licensed, start: Start
) -> None:
    switch = start(licensed.site.socket, cool_down_ms=3_600_000, limit_ms=50_000)
    switch.acquire("a", TRUNKS)
    licensed.site.kill()
    assert switch.acquire("b", TRUNKS) == AWAY
    licensed.site.start()
    assert switch.acquire("b", TRUNKS) == AWAY
    assert switch.ask("release", "a") == ["released"]
    assert switch.acquire("b", TRUNKS, "dialed=112") == "allowed emergency"


NAMES = {
    "long": "x" * 600,
    "longest that fits": "x" * 512,
    "not ASCII": "grüße-北京-😀@host;tag=ä",
    "long and not ASCII": "ü" * 513,
    "quotes": 'a"b\\c/{}[]:,\'@host;tag="1"',
    "control characters": "a\x01\x1b[2Jb\x7f",
    "of the right": "a\u202eb\u00a0c\u200bd",
}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_carried_as_the_python_client_carries_it(shared: rig.Licensed, start: Start, name: str) -> None:
    key = NAMES[name]
    switch = start(shared.site.socket, holder="names")
    assert switch.acquire(key, TRUNKS, f"port={key[:100]}", f"channel={key[:9]}") == "allowed granted"
    (lease,) = shared.site.leases(holder="names")
    assert lease["key"] == key_text(key)
    assert switch.ask("find", key)[0] == "there"
    assert switch.ask("release", key) == ["released"]


def test_bytes_that_are_no_text_are_a_key_too(shared: rig.Licensed, start: Start) -> None:
    switch = start(shared.site.socket, holder="bytes")
    for key in (b"\xff\xfe", b"a\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80"):
        assert switch.acquire(key, TRUNKS) == "allowed granted"
        assert switch.ask("release", key) == ["released"]


def test_what_the_daemon_refuses_is_denied_even_where_the_trunk_fails_open(
    licensed: rig.Licensed, start: Start
) -> None:
    site = licensed.site
    switch = start(site.socket)
    switch.acquire("a", TRUNKS)
    refused = switch.ask("acquire", "b", f"{TRUNKS}:99999", "open")
    assert (refused[:2], refused[5]) == (["denied", "refused"], "client")
    assert "InvalidParameter" in refused[6]
    assert switch.acquire("b", *[TRUNKS] * 9, "open") == "denied refused"
    assert switch.acquire("", TRUNKS, "open") == "denied refused"
    assert switch.acquire("b", TRUNKS) == "allowed granted"  # the connection goes on


def test_a_child_opens_a_connection_of_its_own(licensed: rig.Licensed, start: Start) -> None:
    switch = start(licensed.site.socket)
    switch.acquire("parent", TRUNKS)
    for number in range(3):
        assert switch.ask("fork", f"child-{number}", TRUNKS)[:2] == ["allowed", "granted"]
        assert switch.ask("find", "parent")[0] == "there"
    licensed.site.kill()
    assert switch.ask("release", "parent") == ["queued"]
    licensed.site.start()
    # What is queued stays the parent's.
    assert switch.ask("fork", "child-3", TRUNKS)[:2] == ["allowed", "granted"]
    assert "parent" in {lease["key"] for lease in licensed.site.leases()}
    assert switch.ask("pending") == ["1", "0"]


# Liars


class Liar:
    """A socket that answers every question with the same bytes and hangs up; or says nothing at all."""

    def __init__(self, path: Path, *, mute: bool = False) -> None:
        self.reply = b""
        self._mute = mute
        self._over = threading.Event()
        self._kept: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connected, _ = self._listener.accept()
            if self._over.is_set():
                connected.close()
                return
            if self._mute:
                self._kept.append(connected)
                continue
            with connected, contextlib.suppress(OSError):
                self._answer(connected)

    def _answer(self, connected: socket.socket) -> None:
        connected.settimeout(rig.DEADLINE)
        asked = b""
        while self.reply and not asked.endswith(b"\0"):
            chunk = connected.recv(65536)
            if not chunk:
                return
            asked += chunk
        connected.sendall(self.reply)

    def close(self) -> None:
        self._over.set()
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(self._listener.getsockname())
        self._thread.join(rig.DEADLINE)
        for connected in [self._listener, *self._kept]:
            connected.close()


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Liar]:
    with contextlib.closing(Liar(tmp_path / "liar")) as it:
        yield it


def test_a_daemon_that_says_nothing_costs_a_quarter_of_a_second_and_leaves_a_release_behind(
    program: Path, tmp_path: Path
) -> None:
    with (
        contextlib.closing(Liar(tmp_path / "mute", mute=True)),
        Example(program, "switch", tmp_path / "mute", 3_600_000) as switch,
    ):
        begun = time.monotonic()
        assert switch.acquire("a", TRUNKS) == AWAY
        assert 0.2 < time.monotonic() - begun < 10
        assert switch.acquire("b", TRUNKS) == AWAY  # on the spot: nothing was sent
        assert switch.ask("pending") == ["1", "0"]
        # A call that is up loses nothing by a doubt.
        assert switch.acquire("a", TRUNKS, "open") == "allowed daemon_away"
        assert switch.ask("pending") == ["0", "0"]


def test_a_full_queue_of_connections_ends_the_question_in_time(program: Path, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(tmp_path / "full"))
        listener.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(str(tmp_path / "full"))
        switch = stack.enter_context(Example(program, "switch", tmp_path / "full"))
        begun = time.monotonic()
        assert switch.acquire("a", TRUNKS) == AWAY
        assert time.monotonic() - begun < 10
        assert switch.ask("pending") == ["0", "0"]  # nothing was sent, so nothing is in doubt


def test_a_peer_that_hangs_up_raises_no_signal(liar: Liar, start: Start, tmp_path: Path) -> None:
    switch = start(tmp_path / "liar")
    for _ in range(200):
        assert switch.acquire("a", TRUNKS, "x" * 30_000) in {AWAY, "denied refused"}


def granted(**members: object) -> bytes:
    parameters = {"allowed": True, "reason": "granted", "feature": TRUNKS, "limit": 8, "in_use": 1, **members}
    return json.dumps({"parameters": parameters}).encode()


def nested(depth: int) -> bytes:
    return b'{"parameters":{"allowed":true,"reason":"x","y":' + b"[" * depth + b"]" * depth + b"}}"


LIES = {
    "nothing": b"",
    "no JSON": b"hello",
    "half": granted()[:-1],
    "more": granted() + b"x",
    "an array": b"[1]",
    "no parameters": b"{}",
    "parameters of the wrong type": b'{"parameters":[]}',
    "no answer": b'{"parameters":{"allowed":true}}',
    "wrong types": granted(allowed="yes"),
    "a limit that is no number": granted(limit="8"),
    "a limit that is true": granted(limit=True),
    "a limit with a fraction": granted(limit=8.5),
    "a reason that is a number": granted(reason=7),
    "many replies": b'{"continues":true,"parameters":{"allowed":true,"reason":"granted"}}',
    "an error of the wrong type": b'{"error":7}',
    "an error without a name": b'{"error":"","parameters":{"allowed":true,"reason":"granted"}}',
    "an error beside an answer": granted()[:-1] + b',"error":"io.featurekey.License.New"}',
    "not UTF-8": granted(reason="x").replace(b'"x"', b'"\xff"'),
    "a raw control character": granted(reason="x").replace(b'"x"', b'"\x01"'),
    "half of a pair": granted(reason="x").replace(b'"x"', b'"\\ud800"'),
    "halves in the wrong order": granted(reason="x").replace(b'"x"', b'"\\udc00\\ud800\\u"'),
    "a NUL in a text": granted(reason="x").replace(b'"x"', b'"\\u0000x"'),
    "a text without an end": b'{"parameters":{"allowed":true,"reason":"granted',
    "an escape at the end": b'{"parameters":{"allowed":true,"reason":"\\',
    "a short escape": b'{"parameters":{"allowed":true,"reason":"\\u12"}}',
    "an unknown escape": b'{"parameters":{"allowed":true,"reason":"\\x41"}}',
    "NaN": granted().replace(b"8", b"NaN"),
    "a leading zero": granted().replace(b"8", b"08"),
    "a bare minus": granted().replace(b"8", b"-"),
    "an exponent": granted().replace(b"8", b"8e0"),
    "twice the same member": granted()[:-2] + b',"allowed":false}}',
    "a member that is null": granted(limit=None, feature=None),
    "allowed is null": granted(allowed=None),
    "deep": nested(20),
    "too deep for everybody": nested(100_000),
    "a trailing comma": granted()[:-2] + b",}}",
    "escaped names": granted().replace(b"allowed", b"\\u0061llowed"),
    "long texts": granted(reason="r" * 5000, feature="ü" * 5000, message="\U0001f600" * 5000),
    "long names": granted(**{"n" * 5000: 1}),
    "blanks": b" \t\r\n" + granted().replace(b":", b" :\n") + b" ",
    "too long": granted(message="x" * 300_000),
    "painted": granted(reason="\x1b[2J", message="\u202e\x9b"),
}


def read_by_python(raw: bytes) -> tuple[str, str, str]:
    """Allowed or denied, and the count and limit, as the Python client reads the same bytes."""
    try:
        parameters, continues = decode(raw)
        read = {name: parameters.get(name) for name in ("allowed", "reason", "feature", "limit", "in_use", "message")}
        answer = read_answer(read)
    except (CallRefused, PermissionRefused):
        return "denied refused", "-1", "-1"
    except ReplyGarbled:
        return AWAY, "-1", "-1"
    if continues or len(raw) > 262_144:
        return AWAY, "-1", "-1"
    numbers = [-1 if number is None else number for number in (answer.in_use, answer.limit)]
    if any(abs(number) >= 10**14 for number in numbers):
        return "either", "", ""
    return ("allowed" if answer.allowed else "denied"), str(numbers[0]), str(numbers[1])


def check_lie(switch: Example, liar: Liar, raw: bytes) -> None:
    """Ask once, and hold what came of it against the Python client."""
    liar.reply = raw + b"\0"
    answer = switch.ask("acquire", "key", TRUNKS, "phase=established")
    expected = read_by_python(raw)
    if b"\0" in raw or expected[0] == "either":
        return
    shown = " ".join(answer[:2]) if answer[5] == "client" else answer[0]
    assert (shown, answer[3], answer[4]) == expected, raw[:300]


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_read_as_the_python_client_reads_it(liar: Liar, start: Start, tmp_path: Path, name: str) -> None:
    switch = start(tmp_path / "liar")
    check_lie(switch, liar, LIES[name])
    assert switch.ask("find", "key")[0] in {"unknown", "none"}
    check_lie(switch, liar, granted())


def test_depth_is_bounded(liar: Liar, start: Start, tmp_path: Path) -> None:
    switch = start(tmp_path / "liar")
    for depth, expected in ((31, "allowed"), (32, "denied")):
        liar.reply = nested(depth) + b"\0"
        assert switch.ask("acquire", "key", TRUNKS, "phase=established")[0] == expected


def test_texts_from_the_daemon_cannot_paint_or_break_a_line(liar: Liar, start: Start, tmp_path: Path) -> None:
    switch = start(tmp_path / "liar")
    liar.reply = granted(reason="a\x1b\n\tb\x00c\u202ed", feature="grün-😀", message="\ud800x") + b"\0"
    assert switch.ask("acquire", "key", TRUNKS)[1:3] == ["a???b?c?d", "grün-😀"]


SPICE = [
    b"\0",
    b'"',
    b"\\",
    b"\\u",
    b"\\ud83d",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"-",
    b"1e",
    b"\xff",
    b"\xc3",
    b"null",
]


def spoiled(chance: random.Random) -> bytes:
    """An answer with some bytes replaced, left out, doubled or put in."""
    raw = chance.choice(list(LIES.values()))
    raw = raw if len(raw) < 2000 else granted()
    for _ in range(chance.randint(1, 4)):
        place, end = sorted(chance.randint(0, len(raw)) for _ in range(2))
        part = chance.choice([b"", bytes([chance.randrange(256)]), chance.choice(SPICE), raw[place:end]])
        cut = place if chance.random() < 0.5 else min(end, place + 3)
        raw = raw[:place] + part + raw[cut:]
    return raw[:4000]


def fuzz(switch: Example, liar: Liar, chance: random.Random, rounds: int) -> None:
    for _ in range(rounds):
        check_lie(switch, liar, spoiled(chance))


def test_spoiled_answers_are_read_as_the_python_client_reads_them(liar: Liar, start: Start, tmp_path: Path) -> None:
    rounds = int(os.environ.get("FEATUREKEY_FUZZ_ROUNDS", "1500"))
    fuzz(start(tmp_path / "liar"), liar, random.Random(20260301), rounds)


def test_the_fuzz_meets_good_answers_and_bad_ones() -> None:
    chance = random.Random(20260301)
    met = {read_by_python(spoiled(chance))[0] for _ in range(1500)}
    assert {"allowed", "denied", AWAY, "denied refused"} <= met
