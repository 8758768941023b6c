"""The way into a Bus Pirate, against simulated firmware in process: every deadline without waiting for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.hwio.buspirate import SEEN_MOST, TRANSFER_MOST, BusPirate, Timeouts
from featurekeyd.hwio.featurekey import Absent, FeatureKeyError, Garbled, Unsupported
from featurekeyd.hwio.serialcard import SerialCard
from featurekeyd.hwio.simulated_buspirate import SimulatedBusPirate
from featurekeyd.hwio.simulated_card import SimulatedCard
from featurekeyd.hwio.simulated_firmware import TRANSFER_MOST as FIRMWARE_MOST
from featurekeyd.hwio.simulated_firmware import BusPirateFirmware, Mode
from featurekeyd.hwio.simulated_line import SimulatedLine
from featurekeyd.hwio.simulated_pty import Responder


def scripted(*answers: bytes) -> Responder:
    """A device that answers its first messages with these bytes and then falls silent."""
    left = list(answers)

    def answer(_data: bytes) -> Iterable[tuple[float, bytes]]:
        return [(0.0, left.pop(0))] if left else []

    return answer


def entered(line: SimulatedLine) -> BusPirate:
    bus = BusPirate(line, Timeouts())
    bus.enter()
    return bus


def test_a_device_at_its_terminal_is_entered_in_three_round_trips(line: SimulatedLine) -> None:
    entered(line)
    assert line.written == [bytes(20), b"\x01", bytes([0x8A, 0x49, 0x62, 0x03])]


def test_a_device_still_in_spi_mode_is_entered(bench: SimulatedBusPirate, line: SimulatedLine) -> None:
    entered(line)
    entered(SimulatedLine(bench.answer))


def test_a_device_that_waits_for_the_rest_of_a_transfer_is_entered(
    bench: SimulatedBusPirate, line: SimulatedLine
) -> None:
    entered(line)
    line.write(b"\x04\x00\x40\x00\x00abc")
    entered(SimulatedLine(bench.answer))


def test_half_a_line_typed_at_the_terminal_does_no_harm(bench: SimulatedBusPirate, line: SimulatedLine) -> None:
    bench.answer(b"m 5 half a command")
    entered(line)


@pytest.mark.parametrize("seconds", [0.01, 0.2, 0.6, 1.5])
def test_a_second_mark_that_comes_late_does_no_harm(
    bench: SimulatedBusPirate, line: SimulatedLine, seconds: float
) -> None:
    bench.repeat_mark(seconds)
    entered(line)


@pytest.mark.parametrize("seconds", [0.05, 0.3, 0.7, 1.4])
def test_late_answers_are_waited_for(bench: SimulatedBusPirate, line: SimulatedLine, seconds: float) -> None:
    bench.slow(seconds)
    entered(line)


def test_answers_later_than_the_limit_are_given_up(bench: SimulatedBusPirate, line: SimulatedLine) -> None:
    bench.slow(2.5)
    with pytest.raises(Absent, match="nothing answers"):
        entered(line)
    assert line.now() == pytest.approx(2.0)


def test_the_shipped_waits_are_two_seconds_or_more() -> None:
    assert Timeouts().answer >= 2.0
    assert Timeouts().ready >= 2.0


def test_a_silent_device_is_absent(bench: SimulatedBusPirate, line: SimulatedLine) -> None:
    bench.silence()
    with pytest.raises(Absent, match="nothing answers"):
        entered(line)


def test_a_foreign_device_is_garbled_and_shown(bench: SimulatedBusPirate, line: SimulatedLine) -> None:
    bench.speak_like(b"\r\nERROR\x1b\r\n")
    with pytest.raises(Garbled, match=r"the device says '\\x0d\\x0aERROR\\x1b"):
        entered(line)


@pytest.mark.parametrize("banner", [b"Bus Pirate 5\r\nHiZ> ", b"BUS PIRATE v6 rev 1", b"BBIO2", b"\x00Bus Pirate 5XL"])
def test_a_newer_bus_pirate_is_unsupported(bench: SimulatedBusPirate, line: SimulatedLine, banner: bytes) -> None:
    bench.speak_like(banner)
    with pytest.raises(Unsupported, match="use a Bus Pirate v3 or v4"):
        entered(line)


def test_another_version_of_spi_mode_is_unsupported() -> None:
    with pytest.raises(Unsupported, match="SPI2"):
        entered(SimulatedLine(scripted(b"BBIO1", b"SPI2")))


def test_a_long_banner_is_shortened(bench: SimulatedBusPirate, line: SimulatedLine) -> None:
    bench.speak_like(b"x" * 5000)
    with pytest.raises(Garbled) as caught:
        entered(line)
    assert len(str(caught.value)) < 250
    assert f"({SEEN_MOST} bytes)" in str(caught.value)


def test_a_device_that_never_stops_talking_is_given_up() -> None:
    line = SimulatedLine(lambda _: [(0.01 * count, b"BBIO1") for count in range(1000)])
    with pytest.raises(Garbled, match="never silent"):
        entered(line)
    assert line.now() < 5


@pytest.mark.parametrize("split", range(1, 5))
def test_a_mark_may_come_in_two_pieces(split: int) -> None:
    pieces = [(0.0, b"noise" + b"BBIO1"[:split]), (0.01, b"BBIO1"[split:])]
    answers = iter([pieces, [(0.0, b"SPI1")], [(0.0, b"\x01\x01"), (0.5, b"\x01\x01")]])
    entered(SimulatedLine(lambda _: next(answers)))


def test_refused_output_settings_are_told() -> None:
    with pytest.raises(Garbled, match="01 01 00 01"):
        entered(SimulatedLine(scripted(b"BBIO1", b"SPI1", b"\x01\x01\x00\x01")))


def test_an_answer_that_ends_early_is_garbled(line: SimulatedLine) -> None:
    cut = SimulatedLine(scripted(b"BBIO1", b"SPI1", b"\x01" * 4, b"\x01\xff"))
    bus = entered(cut)
    with pytest.raises(Garbled, match="answer to 04 has 2 bytes, expected 9"):
        bus.transfer(b"x", 8)


def test_a_refused_transfer_is_told_at_once(line: SimulatedLine) -> None:
    bus = entered(SimulatedLine(scripted(b"BBIO1", b"SPI1", b"\x01" * 4, b"\x00")))
    with pytest.raises(Garbled, match="expected 01"):
        bus.transfer(b"x", 8)


def test_a_reader_that_falls_silent_is_absent(bench: SimulatedBusPirate, line: SimulatedLine) -> None:
    bus = entered(line)
    bench.silence()
    with pytest.raises(Absent, match="silent for 2 s"):
        bus.clock()


def test_a_byte_that_nobody_asked_for_is_garbled() -> None:
    bus = entered(SimulatedLine(scripted(b"BBIO1", b"SPI1", b"\x01" * 4, b"\x01" * 9 + b"?")))
    with pytest.raises(Garbled, match="expected 9"):
        bus.transfer(b"x", 8)


def test_a_byte_that_comes_between_two_requests_is_garbled() -> None:
    answers = iter([[(0.0, b"BBIO1")], [(0.0, b"SPI1")], [(0.0, b"\x01" * 4), (0.0, b"late")]])
    bus = entered(SimulatedLine(lambda _: next(answers)))
    with pytest.raises(Garbled, match="nobody asked for: 'late'"):
        bus.clock()


def test_a_transfer_above_the_limit_of_the_firmware_is_refused(line: SimulatedLine) -> None:
    bus = entered(line)
    assert len(bus.transfer(b"", TRANSFER_MOST)) == TRANSFER_MOST == FIRMWARE_MOST
    with pytest.raises(ValueError, match="at most 4096"):
        bus.transfer(b"", TRANSFER_MOST + 1)
    with pytest.raises(ValueError, match="at most 4096"):
        bus.transfer(bytes(TRANSFER_MOST + 1), 0)


def test_leaving_brings_the_terminal_back_and_cuts_the_power(card: SimulatedCard) -> None:
    firmware = BusPirateFirmware(card)
    line = SimulatedLine(lambda data: [(0.0, firmware.feed(data))])
    bus = entered(line)
    modes = [firmware.mode]
    bus.leave()
    modes.append(firmware.mode)
    assert modes == [Mode.SPI, Mode.TERMINAL]


def test_a_device_that_was_never_entered_is_not_told_to_leave(bench: SimulatedBusPirate, line: SimulatedLine) -> None:
    bench.speak_like(b"OK\r\n")
    with pytest.raises(Garbled):
        SerialCard.on_line(line)
    assert b"\x00\x0f" not in line.written
    assert line.closed


@given(st.lists(st.tuples(st.floats(0, 3), st.binary(max_size=40)), max_size=12), st.binary(max_size=30))
def test_a_device_that_sends_garbage_gives_a_feature_key_error(garbage: list[tuple[float, bytes]], tail: bytes) -> None:
    line = SimulatedLine(lambda _: [*garbage, (0.0, tail)])
    with pytest.raises(FeatureKeyError):
        SerialCard.on_line(line)
    assert line.closed


@given(st.data())
def test_garbage_after_a_good_beginning_gives_a_feature_key_error(data: st.DataObject) -> None:
    good = data.draw(st.integers(1, 9))
    device = SimulatedBusPirate()

    def answer(request: bytes) -> Iterable[tuple[float, bytes]]:
        nonlocal good
        good -= 1
        if good >= 0:
            return device.answer(request)
        size = data.draw(st.sampled_from([0, 1, 9, 10, 13, 36, 100]))
        return [(0.0, data.draw(st.sampled_from([b"", b"\x01"])) + data.draw(st.binary(min_size=size, max_size=size)))]

    with contextlib.suppress(FeatureKeyError):
        SerialCard.on_line(SimulatedLine(answer)).check()
