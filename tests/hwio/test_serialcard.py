"""The Feature Key on a serial reader: in process for a card's answers, on a pty for what needs a port."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurekeyd.hwio.buspirate import Timeouts
from featurekeyd.hwio.featurekey import (
    Absent,
    Assurance,
    Busy,
    DeviceFault,
    FeatureKey,
    FeatureKeyError,
    Garbled,
    Kind,
    NoPermission,
    Unsupported,
)
from featurekeyd.hwio.sdcard import Cid, crc16
from featurekeyd.hwio.serialcard import SerialCard
from featurekeyd.hwio.serialline import SerialLine
from featurekeyd.hwio.simulated_buspirate import SimulatedBusPirate
from featurekeyd.hwio.simulated_card import EXAMPLE_CID, Garble, SimulatedCard
from featurekeyd.hwio.simulated_firmware import Stuck
from featurekeyd.hwio.simulated_line import SimulatedLine
from featurekeyd.hwio.simulated_pty import PtyServer

OTHER_CID = Cid.from_hex("275048534433324760a1b2c3d4014900")
BRISK = Timeouts(quiet=0.005)
"""For many opens: a short quiet gap, and all the time in the world for answers."""


def on_bench(card: SimulatedCard) -> tuple[SerialCard, SimulatedLine]:
    line = SimulatedLine(SimulatedBusPirate(card).answer)
    return SerialCard.on_line(line), line


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - one count, no paths


def test_a_card_is_read(card: SimulatedCard) -> None:
    key, _ = on_bench(card)
    assert isinstance(key, FeatureKey)
    assert key.reading.kind is Kind.SD_CARD
    assert key.reading.hardware_id == "035344535530384780deadbeef0136"
    assert key.reading.assurance is Assurance.A1
    assert key.reading.detail == EXAMPLE_CID.detail + " high capacity"


def test_an_old_card_is_read() -> None:
    key, _ = on_bench(SimulatedCard(OTHER_CID, old=True))
    assert key.reading.hardware_id == OTHER_CID.hardware_id
    assert key.reading.detail.endswith("standard capacity")


@pytest.mark.parametrize("gap", range(9))
def test_every_allowed_gap_before_an_answer_is_read(gap: int) -> None:
    key, _ = on_bench(SimulatedCard(answer_gap=gap))
    key.check()


@pytest.mark.parametrize("gap", [0, 8, 9, 100, 450])
def test_a_card_that_takes_long_for_its_data_is_read(gap: int) -> None:
    key, _ = on_bench(SimulatedCard(data_gap=gap))
    assert key.reading.hardware_id == EXAMPLE_CID.hardware_id


def test_a_card_without_data_is_garbled() -> None:
    with pytest.raises(Garbled, match="no CID within 512 bytes"):
        on_bench(SimulatedCard(data_gap=600))


def test_a_ready_card_is_opened_in_ten_round_trips_and_checked_in_one() -> None:
    key, line = on_bench(SimulatedCard(tries=1))
    assert len(line.written) <= 10
    line.written.clear()
    key.check()
    assert len(line.written) == 1


def test_a_check_reads_nothing_from_the_card(card: SimulatedCard) -> None:
    key, _ = on_bench(card)
    card.commands.clear()
    for _ in range(3):
        key.check()
    assert card.commands == [13, 13, 13]


def test_opening_asks_the_card_nothing_twice() -> None:
    card = SimulatedCard(tries=1)
    on_bench(card)
    assert card.commands == [0, 8, 59, 55, 41, 58, 10]


def test_a_card_that_starts_slowly_is_waited_for() -> None:
    key, line = on_bench(SimulatedCard(tries=200))
    key.check()
    assert line.now() >= 1.0


def test_a_card_that_is_never_ready_is_busy() -> None:
    with pytest.raises(Busy, match="not ready within 2 s"):
        on_bench(SimulatedCard(tries=10_000))


def test_an_empty_reader_is_absent(card: SimulatedCard) -> None:
    card.pull()
    with pytest.raises(Absent, match="no card answers"):
        on_bench(card)


def test_a_pulled_card_is_absent_at_the_next_check(card: SimulatedCard) -> None:
    key, _ = on_bench(card)
    card.pull()
    with pytest.raises(Absent, match="no card answers"):
        key.check()


@pytest.mark.parametrize("cid", [EXAMPLE_CID, OTHER_CID])
def test_a_card_put_back_is_absent_until_opened_afresh(cid: Cid) -> None:
    card = SimulatedCard()
    bench = SimulatedBusPirate(card)
    key = SerialCard.on_line(SimulatedLine(bench.answer))
    card.pull()
    card.put(cid)
    for _ in range(3):
        with pytest.raises(Absent):
            key.check()
    key.close()
    again = SerialCard.on_line(SimulatedLine(bench.answer))
    assert again.reading.hardware_id == cid.hardware_id
    again.check()


@pytest.mark.parametrize(
    ("garble", "words"), [(Garble.CID, "CRC16"), (Garble.CRC16, "CRC16"), (Garble.CRC7, "CRC7 in byte 15")]
)
def test_a_garbled_card_is_told_by_the_checksum_that_found_it(card: SimulatedCard, garble: Garble, words: str) -> None:
    card.garbled = garble
    with pytest.raises(Garbled, match=words):
        on_bench(card)


def test_a_checksum_of_00_in_the_cid_is_wrong_on_a_serial_reader() -> None:
    device = SimulatedBusPirate()
    stripped = EXAMPLE_CID.identity + b"\x00"
    block = b"\x00\xff\xfe" + stripped + crc16(stripped).to_bytes(2, "big")

    def disturbed(data: bytes) -> list[tuple[float, bytes]]:
        if bytes.fromhex("4a000000001b") not in data:
            return device.answer(data)
        return [(0.0, b"\x01" + block.ljust(int.from_bytes(data[3:5], "big"), b"\xff"))]

    with pytest.raises(Garbled, match="CRC7 in byte 15 of the CID is 00, computed 3d"):
        SerialCard.on_line(SimulatedLine(disturbed))


def test_a_card_that_refuses_its_start_command_is_unsupported(card: SimulatedCard) -> None:
    device = SimulatedBusPirate(card)
    acmd41 = bytes.fromhex("694000000077")

    def without_acmd41(data: bytes) -> list[tuple[float, bytes]]:
        if acmd41 in data:
            return [(0.0, b"\x01\xff\x05" + b"\xff" * 7)]
        return device.answer(data)

    with pytest.raises(Unsupported, match="not an SD card"):
        SerialCard.on_line(SimulatedLine(without_acmd41))


@pytest.mark.parametrize(
    ("command", "answer", "words"),
    [
        ("400000000095", "00", r"CMD0 was answered with 00 \(no flag\), expected 01"),
        ("48000001aa87", "09", r"CMD8 was answered with 09 \(idle, crc error\)"),
        ("48000001aa87", "01000001ab", "CMD8 echoed 000001ab"),
        ("7b0000000183", "05", r"CMD59 was answered with 05 \(idle, illegal command\)"),
        ("694000000077", "08", r"CMD41 was answered with 08 \(crc error\)"),
        ("7a00000000fd", "40", r"CMD58 was answered with 40 \(parameter error\)"),
        ("4a000000001b", "00ff09", "data token is 09"),
    ],
)
def test_a_wrong_answer_of_a_card_names_the_command(command: str, answer: str, words: str) -> None:
    device = SimulatedBusPirate()

    def disturbed(data: bytes) -> list[tuple[float, bytes]]:
        if bytes.fromhex(command) not in data:
            return device.answer(data)
        size = int.from_bytes(data[3:5], "big")
        return [(0.0, b"\x01" + bytes.fromhex("ff" + answer).ljust(size, b"\xff"))]

    with pytest.raises(Garbled, match=words):
        SerialCard.on_line(SimulatedLine(disturbed))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("ff01", Absent),
        ("ff05", Absent),
        ("ff0800", Garbled),
        ("ff00ff", Garbled),
        ("00", Garbled),
        ("0000", None),
        ("ff0000", None),
        ("ffffffffffffffff0000", None),
        ("00" * 11, Garbled),
        ("ff000000", Garbled),
    ],
)
def test_a_check_judges_the_status_and_what_follows_it(answer: str, error: type[FeatureKeyError] | None) -> None:
    device = SimulatedBusPirate()
    status = bytes.fromhex("4d000000000d")

    def disturbed(data: bytes) -> list[tuple[float, bytes]]:
        if status not in data:
            return device.answer(data)
        return [(0.0, b"\x01" + bytes.fromhex(answer).ljust(int.from_bytes(data[3:5], "big"), b"\xff"))]

    key = SerialCard.on_line(SimulatedLine(disturbed))
    with pytest.raises(error) if error else contextlib.nullcontext():
        key.check()


@pytest.mark.parametrize("gap", range(9))
def test_a_line_stuck_low_is_no_card(gap: int) -> None:
    bench = SimulatedBusPirate(SimulatedCard(answer_gap=gap))
    line = SimulatedLine(bench.answer)
    key = SerialCard.on_line(line)
    bench.stick(Stuck.LOW)
    line.written.clear()
    with pytest.raises(Garbled, match="after the answer to CMD13 is 00, expected ff: something holds the line"):
        key.check()
    assert len(line.written) == 1
    with pytest.raises(Garbled, match="CMD0 was answered with 00"):
        SerialCard.on_line(SimulatedLine(bench.answer))


def test_a_line_stuck_high_is_no_card(bench: SimulatedBusPirate, line: SimulatedLine) -> None:
    key = SerialCard.on_line(line)
    bench.stick(Stuck.HIGH)
    with pytest.raises(Absent, match="no card answers"):
        key.check()
    bench.well()
    key.check()


@pytest.mark.parametrize("stuck", Stuck)
def test_a_stuck_line_stays_stuck_when_the_device_is_put_back(stuck: Stuck) -> None:
    with SimulatedBusPirate() as device:
        device.stick(stuck)
        device.unplug()
        device.plug()
        with pytest.raises((Absent, Garbled)):
            SerialCard.open(device.port)
        device.well()
        SerialCard.open(device.port).close()


def test_a_card_cannot_prove(card: SimulatedCard) -> None:
    key, _ = on_bench(card)
    with pytest.raises(Unsupported, match="no secret"):
        key.prove(bytes(32))


def test_a_closed_key_is_absent(device: SimulatedBusPirate) -> None:
    key = SerialCard.open(device.port)
    key.close()
    key.close()
    with pytest.raises(Absent, match="closed"):
        key.check()


def test_a_port_that_is_a_pty_makes_the_reading_simulated(device: SimulatedBusPirate) -> None:
    key = SerialCard.open(device.port)
    assert key.reading.simulated
    assert key.reading.reader == f"serial:{device.port}"
    key.close()


def test_a_symlink_to_a_pty_is_simulated_too(device: SimulatedBusPirate, tmp_path: Path) -> None:
    link = tmp_path / "ttyUSB0"
    (tmp_path / "first").symlink_to(device.port)
    link.symlink_to(tmp_path / "first")
    key = SerialCard.open(str(link))
    assert key.reading.simulated
    assert key.reading.reader == f"serial:{link}"
    key.close()


def test_a_missing_port_is_absent_with_its_errno(tmp_path: Path) -> None:
    with pytest.raises(Absent) as caught:
        SerialCard.open(str(tmp_path / "ttyUSB0"))
    assert caught.value.errno == 2
    assert caught.value.reader == f"serial:{tmp_path / 'ttyUSB0'}"


def test_a_path_with_a_nul_byte_is_unsupported() -> None:
    with pytest.raises(Unsupported, match="is not a path"):
        SerialCard.open("/dev/tty\0")


def test_a_dangling_link_is_absent(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Absent):
        SerialCard.open(str(tmp_path / "link"))


@pytest.mark.parametrize("kind", ["file", "folder", "pipe", "null"])
def test_what_is_no_serial_port_is_unsupported(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "file":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = Path("/dev/null")
    with pytest.raises(Unsupported, match="not a serial port"):
        SerialCard.open(str(path))


def test_a_forbidden_port_needs_permission(monkeypatch: pytest.MonkeyPatch, device: SimulatedBusPirate) -> None:
    # The tests may run as root, to whom nothing is forbidden: the refusal is the operating system's, given by hand.
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("serial.serialposix.os.open", refuse)
    with pytest.raises(NoPermission, match="group of the port") as caught:
        SerialCard.open(device.port)
    assert caught.value.errno == 13


@pytest.mark.parametrize(
    ("number", "error"), [(16, Busy), (6, Absent), (5, Absent), (1, NoPermission), (12, DeviceFault)]
)
def test_the_errno_of_an_open_decides(
    monkeypatch: pytest.MonkeyPatch, number: int, error: type[FeatureKeyError]
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, "refused")

    monkeypatch.setattr("serial.serialposix.os.open", refuse)
    with pytest.raises(error) as caught:
        SerialLine.open("/dev/ttyUSB0")
    assert caught.value.errno == number


def test_a_port_in_use_is_busy_and_its_user_is_not_disturbed(device: SimulatedBusPirate) -> None:
    key = SerialCard.open(device.port)
    with pytest.raises(Busy, match="another program"):
        SerialCard.open(device.port)
    key.check()
    key.close()
    SerialCard.open(device.port).close()


def test_an_unplugged_device_is_absent_and_found_again_at_its_new_port(device: SimulatedBusPirate) -> None:
    key = SerialCard.open(device.port)
    former = device.port
    device.unplug()
    for _ in range(2):
        with pytest.raises(Absent):
            key.check()
    key.close()
    with pytest.raises(Absent):
        SerialCard.open(former)
    device.plug()
    SerialCard.open(device.port).close()


def test_a_device_unplugged_while_it_is_waited_for_is_absent(device: SimulatedBusPirate) -> None:
    device.slow(1.0)
    asked = threading.Event()
    answer = device.answer

    def tell(data: bytes) -> list[tuple[float, bytes]]:
        asked.set()
        return answer(data)

    server = PtyServer(tell)

    def hang_up() -> None:
        asked.wait(30)
        server.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    with pytest.raises(Absent):
        SerialCard.open(server.port, timeouts=Timeouts(answer=30))
    thread.join()


def test_a_silent_port_is_absent_within_its_time(device: SimulatedBusPirate, hasty: Timeouts) -> None:
    device.silence()
    with pytest.raises(Absent, match="nothing answers"):
        SerialCard.open(device.port, timeouts=hasty)


def test_a_foreign_device_on_the_port_is_garbled(device: SimulatedBusPirate) -> None:
    device.speak_like(b"$GPGGA,123519\r\n")
    with pytest.raises(Garbled, match="GPGGA"):
        SerialCard.open(device.port)
    device.well()
    SerialCard.open(device.port).close()


def test_a_slow_device_with_late_marks_is_read_on_a_port(device: SimulatedBusPirate) -> None:
    device.slow(0.03)
    device.repeat_mark(0.15)
    key = SerialCard.open(device.port)
    key.check()
    key.close()


def test_the_card_is_pulled_and_put_back_on_a_port(device: SimulatedBusPirate) -> None:
    key = SerialCard.open(device.port)
    device.pull_card()
    with pytest.raises(Absent):
        key.check()
    key.close()
    device.put_card(OTHER_CID)
    key = SerialCard.open(device.port)
    assert key.reading.hardware_id == OTHER_CID.hardware_id
    key.close()


def test_a_key_closed_in_a_bad_moment_is_opened_again(device: SimulatedBusPirate, hasty: Timeouts) -> None:
    key = SerialCard.open(device.port)
    device.silence()
    key.close()
    device.well()
    SerialCard.open(device.port).close()


@pytest.fixture
def load() -> Iterator[None]:
    """Four processes that do nothing but compute, on a machine that is given two cores."""
    command = [sys.executable, "-c", "while True: pass"]
    burners = [subprocess.Popen(command) for _ in range(4)]
    yield
    for burner in burners:
        burner.kill()
        burner.wait()


@pytest.mark.usefixtures("load")
def test_25_opens_in_a_row_succeed_under_load(device: SimulatedBusPirate) -> None:
    device.repeat_mark(0.01)
    for _ in range(25):
        key = SerialCard.open(device.port)
        key.check()
        key.close()


def test_100_opens_leave_no_descriptor_behind(device: SimulatedBusPirate) -> None:
    SerialCard.open(device.port, timeouts=BRISK).close()
    before = descriptors()
    for _ in range(100):
        SerialCard.open(device.port, timeouts=BRISK).close()
    assert descriptors() == before


def test_100_failed_opens_leave_no_descriptor_behind(device: SimulatedBusPirate, tmp_path: Path) -> None:
    device.pull_card()
    quick = Timeouts(quiet=0.005, power_up=0.0)
    before = descriptors()
    for _ in range(100):
        with pytest.raises(Absent):
            SerialCard.open(device.port, timeouts=quick)
        with pytest.raises(Absent):
            SerialCard.open(str(tmp_path / "none"))
        with pytest.raises(Unsupported):
            SerialCard.open("/dev/null")
    assert descriptors() == before


def test_devices_come_and_go_without_leaving_descriptors_or_threads() -> None:
    before, threads = descriptors(), threading.active_count()
    for _ in range(20):
        with SimulatedBusPirate() as device:
            device.unplug()
            device.plug()
    assert (descriptors(), threading.active_count()) == (before, threads)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=10))
def test_random_bytes_on_a_port_never_hang_and_give_feature_key_errors(hasty: Timeouts, garbage: list[bytes]) -> None:
    left = list(garbage)
    server = PtyServer(lambda _: [(0.0, left.pop())] if left else [])
    try:
        with pytest.raises(FeatureKeyError):
            SerialCard.open(server.port, timeouts=hasty)
    finally:
        server.close()


def test_a_line_works_with_descriptors_above_1023(device: SimulatedBusPirate) -> None:
    with_many = (
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (2048, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
        "held = [os.open('/dev/null', os.O_RDONLY) for _ in range(1100)]\n"
        "from featurekeyd.hwio.serialcard import SerialCard\n"
        "key = SerialCard.open(sys.argv[1]); key.check(); key.close()\n"
    )
    subprocess.run([sys.executable, "-c", with_many, device.port], check=True, timeout=60)


def test_a_device_that_takes_no_bytes_is_busy(monkeypatch: pytest.MonkeyPatch, device: SimulatedBusPirate) -> None:
    monkeypatch.setattr("featurekeyd.hwio.serialline.WRITE_WITHIN", 0.05)
    blocked = threading.Event()
    entered = threading.Event()

    def stuck(_: bytes) -> list[tuple[float, bytes]]:
        entered.set()
        blocked.wait(30)
        return []

    server = PtyServer(stuck)
    line = SerialLine.open(server.port)
    try:
        line.write(b"x")
        entered.wait(30)
        with pytest.raises(Busy, match="took no bytes"):
            line.write(bytes(1 << 20))
    finally:
        blocked.set()
        line.close()
        server.close()
