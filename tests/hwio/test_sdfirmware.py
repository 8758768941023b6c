"""The simulated card, the simulated Bus Pirate firmware and the pty they are served on, asked byte by byte."""

from __future__ import annotations

import os
import select
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.hwio.sdcard import R1, Command, crc16, frame, split_answer
from featurekeyd.hwio.simulated_card import EXAMPLE_CID, Garble, SimulatedCard
from featurekeyd.hwio.simulated_firmware import (
    BANNER,
    PROMPT,
    TRANSFER_MOST,
    TYPED_MOST,
    BusPirateFirmware,
    Mode,
    Stuck,
)
from featurekeyd.hwio.simulated_pty import BACKLOG_MOST, PtyServer

ZEROS = bytes(20)
OUTPUTS = bytes([0x8A, 0x49, 0x62, 0x03])


def ask(card: SimulatedCard, data: bytes, count: int = 40) -> bytes:
    """One transaction on the bus: write, read, deselect."""
    for byte in data:
        card.exchange(byte, selected=True)
    answer = bytes(card.exchange(0xFF, selected=True) for _ in range(count))
    card.exchange(0xFF, selected=False)
    return answer


def r1(card: SimulatedCard, command: Command, argument: int = 0) -> R1 | None:
    found = split_answer(ask(card, frame(command, argument)))
    return found[0] if found else None


def clocked(card: SimulatedCard) -> SimulatedCard:
    for _ in range(10):
        card.exchange(0xFF, selected=False)
    return card


def in_spi(card: SimulatedCard, outputs: bytes = OUTPUTS) -> BusPirateFirmware:
    firmware = BusPirateFirmware(card)
    assert firmware.feed(ZEROS + b"\x01") == b"BBIO1SPI1"
    assert firmware.feed(outputs) == b"\x01" * len(outputs)
    return firmware


def transfer(data: bytes, count: int) -> bytes:
    return b"\x04" + len(data).to_bytes(2, "big") + count.to_bytes(2, "big") + data


def test_a_card_without_its_clocks_is_silent() -> None:
    card = SimulatedCard()
    for _ in range(9):
        card.exchange(0xFF, selected=False)
    assert r1(card, Command.GO_IDLE) is None
    assert r1(card, Command.GO_IDLE) == R1.IDLE


def test_a_powered_card_answers_nothing_but_cmd0_with_its_checksum() -> None:
    card = clocked(SimulatedCard())
    assert r1(card, Command.SEND_STATUS) is None
    assert split_answer(ask(card, b"\x40\x00\x00\x00\x00\x97")) is None
    assert r1(card, Command.GO_IDLE) == R1.IDLE


def test_an_idle_card_does_not_tell_its_cid() -> None:
    card = clocked(SimulatedCard())
    r1(card, Command.GO_IDLE)
    assert r1(card, Command.SEND_CID) == R1.IDLE | R1.ILLEGAL_COMMAND


def test_a_card_takes_as_many_tries_as_it_was_told() -> None:
    card = clocked(SimulatedCard(tries=3))
    r1(card, Command.GO_IDLE)
    answers = []
    for _ in range(4):
        r1(card, Command.APP_COMMAND)
        answers.append(r1(card, Command.APP_SEND_OP_COND, 1 << 30))
    assert answers == [R1.IDLE, R1.IDLE, R1(0), R1(0)]


def test_a_modern_card_stays_idle_for_a_host_that_cannot_address_blocks() -> None:
    card = clocked(SimulatedCard(tries=1))
    r1(card, Command.GO_IDLE)
    for _ in range(5):
        r1(card, Command.APP_COMMAND)
        assert r1(card, Command.APP_SEND_OP_COND, 0) == R1.IDLE


def test_acmd41_without_cmd55_is_illegal() -> None:
    card = clocked(SimulatedCard())
    r1(card, Command.GO_IDLE)
    assert r1(card, Command.APP_SEND_OP_COND, 1 << 30) == R1.IDLE | R1.ILLEGAL_COMMAND


def test_a_checksum_counts_only_after_cmd59_but_always_for_cmd8() -> None:
    card = clocked(SimulatedCard())
    r1(card, Command.GO_IDLE)
    wrong = frame(Command.READ_OCR)[:5] + b"\x01"
    assert split_answer(ask(card, wrong))[0] == R1.IDLE  # type: ignore[index]  # None would be the failure
    assert split_answer(ask(card, b"\x48\x00\x00\x01\xaa\x01"))[0] == R1.IDLE | R1.CRC_ERROR  # type: ignore[index]
    r1(card, Command.CRC_ON_OFF, 1)
    assert split_answer(ask(card, wrong))[0] == R1.IDLE | R1.CRC_ERROR  # type: ignore[index]


@pytest.mark.parametrize("outputs", [b"\x03", b"\x8a\x03", b"\x49\x03", b"\x82\x49\x03", b"\x8a\x41\x03"])
def test_a_host_that_forgets_outputs_or_power_sees_nothing(outputs: bytes) -> None:
    firmware = in_spi(SimulatedCard(), outputs)
    firmware.feed(b"\x19" + b"\xff" * 10)
    assert firmware.feed(transfer(frame(Command.GO_IDLE), 8)) == b"\x01" + b"\xff" * 8


def test_a_host_that_sets_both_sees_the_card() -> None:
    firmware = in_spi(SimulatedCard())
    assert firmware.feed(b"\x19" + b"\xff" * 10) == b"\x01" + b"\xff" * 10
    assert firmware.feed(transfer(frame(Command.GO_IDLE), 3)) == b"\x01\xff\x01\xff"


@pytest.mark.parametrize("mode", [0x80 | bits for bits in range(16) if bits != 0x0A])
def test_a_host_in_another_spi_mode_reads_ff(mode: int) -> None:
    firmware = in_spi(SimulatedCard(), bytes([mode, 0x49, 0x62, 0x03]))
    firmware.feed(b"\x19" + b"\xff" * 10)
    assert firmware.feed(transfer(frame(Command.GO_IDLE), 8)) == b"\x01" + b"\xff" * 8


@pytest.mark.parametrize("speed", range(8))
def test_a_card_is_started_at_250_khz_or_less(speed: int) -> None:
    firmware = in_spi(SimulatedCard(), bytes([0x8A, 0x49, 0x60 | speed, 0x03]))
    firmware.feed(b"\x19" + b"\xff" * 10)
    answer = firmware.feed(transfer(frame(Command.GO_IDLE), 3))
    assert answer == (b"\x01\xff\x01\xff" if speed <= 2 else b"\x01\xff\xff\xff")


@pytest.mark.parametrize("speed", range(8))
def test_a_ready_card_is_read_at_2_mhz_or_less(speed: int) -> None:
    firmware = in_spi(SimulatedCard(tries=1))
    firmware.feed(b"\x19" + b"\xff" * 10)
    for command, argument in ((Command.GO_IDLE, 0), (Command.APP_COMMAND, 0), (Command.APP_SEND_OP_COND, 1 << 30)):
        firmware.feed(transfer(frame(command, argument), 3))
    firmware.feed(bytes([0x60 | speed]))
    answer = firmware.feed(transfer(frame(Command.SEND_STATUS), 4))
    assert answer == (b"\x01\xff\x00\x00\xff" if speed <= 4 else b"\x01\xff\xff\xff\xff")


def test_a_fast_host_that_cuts_the_power_has_to_start_the_card_slowly_again() -> None:
    firmware = in_spi(SimulatedCard(tries=1))
    firmware.feed(b"\x19" + b"\xff" * 10)
    for command, argument in ((Command.GO_IDLE, 0), (Command.APP_COMMAND, 0), (Command.APP_SEND_OP_COND, 1 << 30)):
        firmware.feed(transfer(frame(command, argument), 3))
    firmware.feed(b"\x63\x41\x49" + b"\x19" + b"\xff" * 10)
    assert firmware.feed(transfer(frame(Command.GO_IDLE), 3)) == b"\x01\xff\xff\xff"
    firmware.feed(b"\x62" + b"\x19" + b"\xff" * 10)
    assert firmware.feed(transfer(frame(Command.GO_IDLE), 3)) == b"\x01\xff\x01\xff"


@pytest.mark.parametrize(("stuck", "byte"), [(Stuck.LOW, b"\x00"), (Stuck.HIGH, b"\xff")])
@pytest.mark.parametrize("outputs", [OUTPUTS, b"\x03"])
def test_a_stuck_line_reads_the_same_whatever_the_card_says(stuck: Stuck, byte: bytes, outputs: bytes) -> None:
    firmware = in_spi(SimulatedCard(), outputs)
    firmware.feed(b"\x19" + b"\xff" * 10)
    firmware.stuck = stuck
    assert firmware.feed(transfer(frame(Command.GO_IDLE), 8)) == b"\x01" + byte * 8


def test_chip_select_can_be_set_by_hand() -> None:
    firmware = in_spi(SimulatedCard())
    firmware.feed(b"\x19" + b"\xff" * 10)
    assert firmware.feed(b"\x02") == b"\x01"
    assert firmware.feed(b"\x15" + frame(Command.GO_IDLE)) == b"\x01" + b"\xff" * 6
    assert firmware.feed(b"\x05\x00\x00\x00\x02") == b"\x01\xff\x01"
    assert firmware.feed(b"\x03") == b"\x01"


def test_cutting_the_power_makes_the_card_forget() -> None:
    firmware = in_spi(SimulatedCard())
    firmware.feed(b"\x19" + b"\xff" * 10)
    assert b"\x01" in firmware.feed(transfer(frame(Command.GO_IDLE), 3))[1:]
    firmware.feed(b"\x41\x49")
    assert firmware.feed(transfer(frame(Command.READ_OCR), 3)) == b"\x01\xff\xff\xff"


@pytest.mark.parametrize("lengths", ["10010000", "00001001", "ffffffff"])
def test_a_transfer_above_4096_bytes_is_refused(lengths: str) -> None:
    firmware = in_spi(SimulatedCard())
    assert firmware.feed(b"\x04" + bytes.fromhex(lengths)) == b"\x00"
    assert firmware.feed(b"\x03") == b"\x01"


def test_a_transfer_of_4096_bytes_is_carried_out() -> None:
    firmware = in_spi(SimulatedCard())
    assert len(firmware.feed(transfer(bytes(TRANSFER_MOST), TRANSFER_MOST))) == 1 + TRANSFER_MOST


def test_nineteen_zeros_are_not_enough() -> None:
    firmware = BusPirateFirmware(SimulatedCard())
    assert firmware.feed(bytes(19)) == b""
    assert firmware.feed(b"x") == b"x"
    assert firmware.feed(bytes(19)) == b""
    assert firmware.feed(b"\x00\x00") == b"BBIO1BBIO1"


def test_the_terminal_echoes_and_tells_its_version() -> None:
    firmware = BusPirateFirmware(SimulatedCard())
    assert firmware.feed(b"i\r") == b"i\r\n" + BANNER + PROMPT
    assert firmware.feed(b"?\r") == b"?\r\n" + PROMPT


def test_a_long_typed_line_is_kept_only_in_part() -> None:
    firmware = BusPirateFirmware(SimulatedCard())
    firmware.feed(b"x" * 10_000)
    assert len(firmware._typed) == TYPED_MOST


@given(st.lists(st.binary(max_size=300), max_size=10))
def test_from_any_garbage_enough_zeros_lead_to_binary_mode(garbage: list[bytes]) -> None:
    firmware = BusPirateFirmware(SimulatedCard())
    for data in garbage:
        assert len(firmware.feed(data)) <= len(data) * (TRANSFER_MOST + 1) + len(BANNER) * len(data) + 100
    assert firmware.feed(bytes(TRANSFER_MOST + 25)).endswith(b"BBIO1")
    assert firmware.mode is Mode.BINARY


@given(st.lists(st.tuples(st.integers(0, 255), st.booleans()), max_size=300))
def test_a_card_survives_any_bytes(clocks: list[tuple[int, bool]]) -> None:
    card = SimulatedCard()
    for byte, selected in clocks:
        assert 0 <= card.exchange(byte, selected=selected) <= 255
    card.put()
    assert r1(clocked(card), Command.GO_IDLE) == R1.IDLE


def test_each_garble_changes_what_it_says() -> None:
    card = clocked(SimulatedCard(tries=1, data_gap=0))
    r1(card, Command.GO_IDLE)
    r1(card, Command.APP_COMMAND)
    r1(card, Command.APP_SEND_OP_COND, 1 << 30)

    def block() -> bytes:
        found = split_answer(ask(card, frame(Command.SEND_CID)))
        assert found is not None
        return found[1][1:19]

    good = EXAMPLE_CID.raw + crc16(EXAMPLE_CID.raw).to_bytes(2, "big")
    assert block() == good
    differences = {}
    for card.garbled in Garble:
        differences[card.garbled] = {place for place, byte in enumerate(block()) if byte != good[place]}
    assert differences[Garble.CID] == {9}
    assert differences[Garble.CRC16] == {17}
    assert differences[Garble.CRC7] >= {15}


def read_until(descriptor: int, count: int) -> bytes:
    data = b""
    while len(data) < count and select.select([descriptor], [], [], 20)[0]:
        data += os.read(descriptor, count - len(data))
    return data


def test_late_bytes_keep_their_order() -> None:
    delays = iter([0.1, 0.0])
    taken = threading.Semaphore(0)

    def echo(data: bytes) -> list[tuple[float, bytes]]:
        taken.release()
        return [(next(delays), data)]

    server = PtyServer(echo)
    descriptor = os.open(server.port, os.O_RDWR | os.O_NOCTTY)
    os.write(descriptor, b"first")
    assert taken.acquire(timeout=20)
    os.write(descriptor, b"second")
    assert read_until(descriptor, 11) == b"firstsecond"
    os.close(descriptor)
    server.close()


def test_a_reader_that_does_not_read_stops_the_device_and_loses_nothing() -> None:
    taken = 0

    def flood(data: bytes) -> list[tuple[float, bytes]]:
        nonlocal taken
        taken += len(data)
        return [(0.0, b"x" * 4096 * len(data))]

    server = PtyServer(flood)
    descriptor = os.open(server.port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        for _ in range(100):
            os.write(descriptor, b"?")
        assert len(read_until(descriptor, 100 * 4096)) == 100 * 4096
        assert taken == 100
    finally:
        os.close(descriptor)
        server.close()


def test_a_backlog_above_its_limit_stops_the_taking_of_commands() -> None:
    taken = threading.Semaphore(0)

    def flood(_: bytes) -> list[tuple[float, bytes]]:
        taken.release()
        return [(0.0, bytes(BACKLOG_MOST * 2))]

    server = PtyServer(flood)
    descriptor = os.open(server.port, os.O_RDWR | os.O_NOCTTY)
    os.write(descriptor, b"?")
    assert taken.acquire(timeout=20)
    os.write(descriptor, b"?")
    assert not taken.acquire(timeout=0.1)
    assert len(read_until(descriptor, BACKLOG_MOST * 2)) == BACKLOG_MOST * 2
    assert taken.acquire(timeout=20)
    os.close(descriptor)
    server.close()


def test_an_idle_device_sleeps_without_a_time_limit() -> None:
    server = PtyServer(lambda data: [(0.0, data)])
    descriptor = os.open(server.port, os.O_RDWR | os.O_NOCTTY)
    os.write(descriptor, b"x")
    assert read_until(descriptor, 1) == b"x"
    assert server._milliseconds() is None
    os.close(descriptor)
    server.close()
