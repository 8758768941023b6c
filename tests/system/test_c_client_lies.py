"""The C example client and daemons that lie: what it makes of hostile answers, and that none of them breaks it.

What it makes of an answer is held against the Python client, which reads the same bytes by other means. Every test runs
twice: plain, and with gcc's address and undefined behavior sanitizers.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rig_example import WAYS, Example, Liar, build

from featurekeyd.client.answer import read_answer
from featurekeyd.client.call import CallRefused, PermissionRefused, ReplyGarbled, decode

TRUNKS = "sip-trunk-channels"
AWAY = "denied daemon_away"

Start = Callable[..., Example]


@pytest.fixture(scope="module", params=WAYS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built program."""
    built = build(tmp_path_factory.mktemp("c"), request.param)
    if isinstance(built, str):
        pytest.skip(built)
    return built


@pytest.fixture
def start(program: Path) -> Iterator[Start]:
    """Starts the program on a socket, without a cool-down and with a time limit for loaded machines."""
    with contextlib.ExitStack() as stack:

        def started(path: object, *, holder: str = "switch", cool_down_ms: int = 0, limit_ms: int = 20_000) -> Example:
            return stack.enter_context(Example(program, holder, path, cool_down_ms, limit_ms))

        yield started


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


def error(name: str) -> bytes:
    return json.dumps({"error": name, "parameters": {}}).encode()


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
    "an error that says nothing about the question": error("io.featurekey.License.UnexpectedCondition"),
    "too many connections": error("io.featurekey.License.TooManyConnections"),
    "a missing permission": error("org.varlink.service.PermissionDenied"),
    "a method that is not there": error("org.varlink.service.MethodNotFound"),
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
    except (CallRefused, PermissionRefused) as trouble:
        return "denied refused" if trouble.final else AWAY, "-1", "-1"
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


def test_an_answer_that_never_came_leaves_a_release_behind_unless_the_call_is_up(
    liar: Liar, start: Start, tmp_path: Path
) -> None:
    liar.reply = b"{"
    switch = start(tmp_path / "liar")
    assert switch.acquire("a", TRUNKS, "phase=established") == AWAY
    assert switch.ask("pending") == ["0", "0"]
    assert switch.acquire("a", TRUNKS, "open") == "allowed daemon_away"
    assert switch.ask("pending") == ["0", "0"]
    assert switch.acquire("a", TRUNKS) == AWAY
    assert switch.ask("pending") == ["1", "0"]


def test_a_release_that_is_refused_is_given_up_and_one_without_permission_waits(
    liar: Liar, start: Start, tmp_path: Path
) -> None:
    switch = start(tmp_path / "liar")
    liar.reply = error("org.varlink.service.PermissionDenied") + b"\0"
    assert switch.ask("release", "a") == ["queued"]
    liar.reply = error("org.varlink.service.InvalidParameter") + b"\0"
    assert switch.ask("release", "b") == ["nothing"]
    assert switch.ask("pending") == ["0", "2"]


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
