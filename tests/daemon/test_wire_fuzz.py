"""The wire and the lease file under fuzz: whatever comes, it is answered, told, and nobody else notices.

Calls are sent through the real service of a site: arbitrary bytes, valid calls with something wrong in them, cut up at
any place. The lease file is a real one, spoiled as disks and kills spoil files.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurekeyd.daemon.leasefile import LeaseFile, Recovered
from featurekeyd.policy.catalog import Scope
from featurekeyd.policy.ledger import Dropped, Lease

if TYPE_CHECKING:
    from tests.daemon.conftest import Caller, House

LICENSE = "io.featurekey.License"
FUZZ = settings(
    max_examples=150,
    deadline=None,
    # One site serves all examples: that nothing is left of one when the next begins is a part of the test.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

# Calls, good and bad

KEYS = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(["a", "b", "a\0b", "\u202e", "x" * 513, ""])
NUMBERS = st.integers(-2, 3) | st.sampled_from([2**31, 2**53, 2**64, -(2**64), 10**400, 1e308, 0.5, True])
ODD: st.SearchStrategy[Any] = (
    st.none() | NUMBERS | KEYS | st.just([]) | st.just({}) | st.just([[]]) | st.just({"a": {}})
)
WANT = st.fixed_dictionaries({"feature": st.sampled_from(["trunk", "tenant", "moon"])}, optional={"instances": NUMBERS})
MEMBERS: dict[str, st.SearchStrategy[Any]] = {
    "holder": st.sampled_from(["kamailio", "asterisk"]),
    "key": KEYS,
    "wants": st.lists(WANT, max_size=3),
    "port": KEYS,
    "channel": KEYS,
    "class": st.sampled_from(["normal", "emergency", "callback", "x"]),
    "dialed": st.sampled_from(["112", "4711"]),
    "phase": st.sampled_from(["setup", "established"]),
    "bound": st.booleans(),
    "wait": st.booleans(),
    "rank": KEYS,
    "application": st.sampled_from(["desk", "x"]),
    "mode": st.sampled_from(["pro", "lite", "x"]),
    "scope": st.sampled_from(["calls", "registrations", "configuration"]),
    "leases": st.lists(st.fixed_dictionaries({"key": KEYS, "wants": st.lists(WANT, max_size=2)}), max_size=3),
    "list_age_ms": NUMBERS,
    "ttl_seconds": NUMBERS,
    "generation": NUMBERS,
    "part": NUMBERS,
    "last": st.booleans(),
    "call": KEYS,
    "takes_over": st.sampled_from(["kamailio", "asterisk"]),
}
TAKEN = {
    "Acquire": ("holder", "key", "wants"),
    "Release": ("holder", "key"),
    "Sync": ("holder", "scope", "leases"),
    "Explain": ("holder", "key", "wants"),
    "Status": (),
    "ListFeatures": (),
    "ListLeases": (),
    "FindCall": ("call",),
    "Nothing": (),
}


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    """A call that is nearly right: members left out, added, or of another type."""
    name = draw(st.sampled_from(list(TAKEN)))
    parameters = {member: draw(MEMBERS[member]) for member in TAKEN[name]}
    for member in draw(st.lists(st.sampled_from([*MEMBERS, "other"]), max_size=2)):
        parameters[member] = draw(MEMBERS.get(member, ODD) | ODD)
    for member in draw(st.lists(st.sampled_from(list(TAKEN[name]) or ["x"]), max_size=1)):
        parameters.pop(member, None) if draw(st.booleans()) else parameters.update({member: draw(ODD)})
    call: dict[str, Any] = {"method": f"{LICENSE}.{name}", "parameters": parameters}
    for flag in draw(st.lists(st.sampled_from(["more", "oneway", "upgrade"]), max_size=1)):
        call[flag] = draw(st.booleans() | ODD)
    return call


def written(call: dict[str, Any], ascii_only: bool) -> bytes:
    return json.dumps(call, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


DEEP = st.tuples(st.sampled_from([b"[", b'{"a":']), st.integers(1, 3000)).map(
    lambda it: b'{"method":"io.featurekey.License.Acquire","parameters":' + it[0] * it[1]
)
SPOILERS = st.sampled_from(
    [b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\0", b"{", b"]", b'"', b"1e999", b"\xef"]
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """One message without its NUL: noise, or a call, whole or with some bytes of it replaced."""
    data = draw(st.binary(max_size=60) | DEEP | st.builds(written, calls(), st.booleans()))
    for spoiler in draw(st.lists(SPOILERS, max_size=2)):
        place = draw(st.integers(0, len(data)))
        data = data[:place] + spoiler + data[place + draw(st.integers(0, 3)) :]
    return data


def pieces(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


def feed(house: House, caller: Caller, data: bytes, places: list[int]) -> None:
    """Send the bytes in pieces, as far as the daemon reads; then let it end what it has begun."""
    for piece in pieces(data, places):
        if caller.wire.closed:
            break
        caller.bytes(piece)
        house.loop.turn(3)
    house.loop.turn(10)


def held(house: House) -> set[tuple[str, str]]:
    return {(lease.holder, lease.key) for lease in house.enforcer.ledger}


@FUZZ
@given(st.lists(messages(), max_size=5), st.lists(st.integers(0, 100_000), max_size=6), st.booleans())
def test_whatever_comes_is_answered_with_json_and_nobody_else_notices(
    licensed: House, sent: list[bytes], places: list[int], ended: bool
) -> None:
    other, caller = licensed.caller(), licensed.caller()
    feed(licensed, caller, b"\0".join(sent) + (b"\0" if ended else b""), places)
    for reply in caller.replies:
        assert reply.keys() <= {"parameters", "error", "continues"}
        assert isinstance(reply["parameters"], dict)
        assert reply.get("error") != f"{LICENSE}.UnexpectedCondition"
    assert b"".join(caller.wire.writes).endswith(b"\0") or not caller.wire.writes
    other.send(licensed.call("Status"))
    licensed.loop.turn(2)
    assert other.parameters[-1]["leases"] == len(licensed.enforcer.ledger)
    assert not other.wire.closed
    for client in (caller, other):
        client.leave()
    assert licensed.recorded() == {key for _, key in held(licensed)}
    _clear(licensed)


@FUZZ
@given(st.lists(calls(), min_size=1, max_size=6), st.lists(st.integers(0, 100_000), max_size=6), st.booleans())
def test_every_lease_was_told_of_in_a_reply(
    licensed: House, sent: list[dict[str, Any]], places: list[int], ascii_only: bool
) -> None:
    caller = licensed.caller()
    ordered = [call for call in sent if call.get("oneway") is not True and call["method"] != f"{LICENSE}.ListLeases"]
    told: set[tuple[str, str]] = set()
    for call in ordered:
        if caller.wire.closed:
            break
        before, count = held(licensed), len(caller.replies)
        feed(licensed, caller, written(call, ascii_only) + b"\0", places)
        (reply,) = caller.replies[count:]
        told |= _told(call, reply)
        new = held(licensed) - before
        assert new <= told
        if "error" in reply:
            assert held(licensed) == before
    caller.leave()
    _clear(licensed)


def _told(call: dict[str, Any], reply: dict[str, Any]) -> set[tuple[str, str]]:
    """The leases that a good reply to the call speaks of."""
    parameters, answer = call["parameters"], reply["parameters"]
    if "error" in reply:
        return set()
    if call["method"] == f"{LICENSE}.Acquire" and answer["allowed"]:
        return {(parameters["holder"], parameters["key"])}
    if call["method"] == f"{LICENSE}.Sync":
        return {(parameters["holder"], lease["key"]) for lease in parameters["leases"]}
    return set()


def _clear(house: House) -> None:
    for holder, key in held(house):
        house.enforcer.release_by_force(holder, key, "the test", house.site.clock())
    house.site.settle()
    assert house.recorded() == set()
    house.log.events.clear()


# The lease file


def lease(key: str, moment: float, holder: str = "kamailio") -> Lease:
    return Lease(
        holder=holder, key=key, uid=1000, scope=Scope.CALLS, wants={"trunk": 1}, granted=moment, port="x", channel="7"
    )


HISTORY = st.lists(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.booleans()).map(
            lambda it: lease(it[0], 1.5) if it[1] else Dropped("kamailio", it[0])
        ),
        min_size=1,
        max_size=3,
    ),
    min_size=1,
    max_size=8,
)


def numbered(turns: list[list[Lease | Dropped]]) -> list[list[Lease | Dropped]]:
    """The history with a moment of its own for each lease, so that each state of a key is told from the others."""
    moments = iter(range(1, 1000))
    return [
        [lease(change.key, float(next(moments))) if isinstance(change, Lease) else change for change in turn]
        for turn in turns
    ]


def states(turns: list[list[Lease | Dropped]]) -> list[dict[str, Lease]]:
    """The leases before the first turn, and after each."""
    there: dict[str, Lease] = {}
    after = [there]
    for turn in turns:
        there = dict(there)
        for change in turn:
            there.pop(change.key, None)
            if isinstance(change, Lease):
                there[change.key] = change
        after.append(there)
    return after


def file_of(folder: Path, turns: list[list[Lease | Dropped]]) -> Path:
    """A lease file with that history, each turn written as one."""
    path = folder / "leases"
    opened = LeaseFile(path, "this-boot")
    opened.rewrite([])
    for turn in turns:
        opened.append(turn)
    opened.close()
    return path


def recovered(path: Path, data: bytes) -> Recovered:
    path.write_bytes(data)
    found = LeaseFile(path, "this-boot").recover()
    # What comes back is what the next run begins with, and it is whole then.
    again = LeaseFile(path, "this-boot")
    again.rewrite(found.leases)
    again.close()
    assert LeaseFile(path, "this-boot").recover().leases == found.leases
    return found


def by_key(found: Recovered) -> dict[str, Lease]:
    assert len({it.key for it in found.leases}) == len(found.leases)
    return {it.key: it for it in found.leases}


@FUZZ
@given(HISTORY, st.integers(0, 100_000))
def test_a_file_that_was_cut_off_gives_what_was_true_after_one_of_its_turns(
    tmp_path: Path, turns: list[list[Lease | Dropped]], place: int
) -> None:
    turns = numbered(turns)
    path = file_of(tmp_path, turns)
    data = path.read_bytes()
    kept = data[: place % (len(data) + 1)]
    found = recovered(path, kept)
    assert by_key(found) == states(turns)[max(kept.count(b"\n") - 1, 0)]
    assert bool(found.damage) is (b"\n" not in kept)


@FUZZ
@given(HISTORY, st.integers(0, 100_000), st.integers(0, 7))
def test_a_flipped_bit_costs_the_turns_it_touches_and_is_told(
    tmp_path: Path, turns: list[list[Lease | Dropped]], place: int, bit: int
) -> None:
    turns = numbered(turns)
    path = file_of(tmp_path, turns)
    data = bytearray(path.read_bytes())
    place %= len(data) - 1  # the last line end alone is as if the file had been cut there
    was_end = data[place] == ord("\n")
    number = data[:place].count(b"\n")
    data[place] ^= 1 << bit
    found = recovered(path, bytes(data))
    lost = {number, number + 1} if was_end else {number}
    assert found.damage
    assert not found.whole
    if 0 in lost:
        assert found.leases == []
    else:
        assert by_key(found) == states([turn for line, turn in enumerate(turns, 1) if line not in lost])[-1]


@st.composite
def damages(draw: st.DrawFn) -> tuple[str, int, int, int]:
    kind = draw(st.sampled_from(["remove", "repeat", "insert", "overwrite", "swap"]))
    return kind, draw(st.integers(0, 100_000)), draw(st.integers(1, 400)), draw(st.integers(0, 100_000))


def spoiled(data: bytes, damage: tuple[str, int, int, int]) -> bytes:
    kind, begin, length, to = damage
    begin %= len(data) + 1
    to %= len(data) + 1
    block, rest = data[begin : begin + length], data[:begin] + data[begin + length :]
    if kind == "remove":
        return rest
    if kind == "repeat":
        return data[:to] + block + data[to:]
    if kind == "insert":
        return data[:to] + bytes(range(256))[:length] + data[to:]
    if kind == "overwrite":
        return data[:begin] + b"\0" * len(block) + data[begin + len(block) :]
    return rest[:to] + block + rest[to:]


@FUZZ
@given(HISTORY, st.lists(damages(), min_size=1, max_size=3))
def test_a_spoiled_file_gives_leases_that_were_there_and_never_raises(
    tmp_path: Path, turns: list[list[Lease | Dropped]], spoilers: list[tuple[str, int, int, int]]
) -> None:
    turns = numbered(turns)
    path = file_of(tmp_path, turns)
    whole = data = path.read_bytes()
    for damage in spoilers:
        data = spoiled(data, damage)
    path.with_suffix(".damaged").unlink(missing_ok=True)
    found = recovered(path, data)
    ever = [change for turn in turns for change in turn if isinstance(change, Lease)]
    assert all(it in ever for it in by_key(found).values())
    good = set(whole.splitlines(keepends=True))
    ended, _, _ = data.rpartition(b"\n")
    strange = any(line + b"\n" not in good for line in ended.split(b"\n")) if b"\n" in data else False
    if strange:
        assert found.damage
        assert not found.whole
        assert path.with_suffix(".damaged").exists()


@pytest.mark.parametrize("boot", ["", "x" * 100])
def test_the_file_of_another_boot_gives_nothing_whatever_its_boot_is_called(tmp_path: Path, boot: str) -> None:
    path = file_of(tmp_path, [[lease("a", 1.0)]])
    assert LeaseFile(path, boot).recover().leases == []
