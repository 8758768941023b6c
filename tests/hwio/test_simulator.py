"""The installed command `featurekey-simulator`, run as a process and told what to do line by line."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurekeyd.hwio.console import LINE_MOST, Console
from featurekeyd.hwio.featurekey import Absent, FeatureKeyError, Garbled
from featurekeyd.hwio.sdcard import Cid
from featurekeyd.hwio.serialcard import SerialCard
from featurekeyd.hwio.simulated_buspirate import SimulatedBusPirate
from featurekeyd.hwio.simulated_slot import SimulatedSlot
from featurekeyd.hwio.simulator import SLOW_MOST, SerialDevice, SlotDevice, main
from featurekeyd.hwio.slotcard import SlotCard

OTHER = "275048534433324760a1b2c3d4014900"
DEADLINE = 60


class Simulator:
    """One running command: `tell` sends a line and gives the answer."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "featurekeyd.hwio.simulator", *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.ready = self.line()

    def line(self) -> str:
        assert self.process.stdout is not None
        line = b""
        while not line.endswith(b"\n") and select.select([self.process.stdout], [], [], DEADLINE)[0]:
            if not (byte := os.read(self.process.stdout.fileno(), 1)):
                break
            line += byte
        return line.decode().removesuffix("\n")

    def tell(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return self.line()

    def end(self) -> tuple[int, bytes]:
        """Close the input; the exit status and what was said on standard error."""
        _, error = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, error


Start = Callable[..., Simulator]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[Simulator] = []

    def start_one(*arguments: str) -> Simulator:
        running.append(Simulator(*arguments))
        return running[-1]

    yield start_one
    for simulator in running:
        simulator.process.kill()
        simulator.end()


@pytest.fixture
def link(tmp_path: Path) -> Path:
    return tmp_path / "ttyUSB0"


def test_a_serial_key_is_served_behind_its_link(start: Start, link: Path) -> None:
    simulator = start("sd-serial", "--link", str(link))
    assert str(link.readlink()) == simulator.ready
    key = SerialCard.open(str(link))
    assert key.reading.simulated
    key.check()
    assert simulator.tell("unplug") == "ok"
    with pytest.raises(Absent):
        key.check()
    key.close()
    assert simulator.tell("plug") == "ok"
    SerialCard.open(str(link)).close()
    assert simulator.tell("quit") == "ok"
    assert simulator.end() == (0, b"")
    assert not link.is_symlink()


def test_each_command_does_what_it_says(start: Start, link: Path) -> None:
    simulator = start("sd-serial", "--link", str(link), "--cid", OTHER)
    assert read(link) == OTHER[:30]
    assert simulator.tell("card 035344535530384780deadbeef01363d") == "ok"
    assert read(link) == "035344535530384780deadbeef0136"
    assert simulator.tell("garble crc7") == "ok"
    with pytest.raises(Garbled, match="CRC7"):
        read(link)
    assert simulator.tell("stick") == "ok"
    with pytest.raises(Garbled, match="CMD0"):
        read(link)
    assert simulator.tell("stick high") == "ok"
    with pytest.raises(Absent):
        read(link)
    assert simulator.tell("slow 0.02") == "ok"
    assert simulator.tell("well") == "ok"
    assert read(link) == "035344535530384780deadbeef0136"


def read(link: Path) -> str:
    key = SerialCard.open(str(link))
    key.close()
    return key.reading.hardware_id


def test_the_whole_device_is_unplugged_and_found_again_behind_the_same_link(start: Start, link: Path) -> None:
    simulator = start("sd-serial", "--link", str(link))
    key = SerialCard.open(str(link))
    assert simulator.tell("unplug device") == "ok"
    with pytest.raises(Absent):
        key.check()
    key.close()
    assert not link.is_symlink()
    assert simulator.tell("unplug device") == "ok"
    assert simulator.tell("plug device") == "ok"
    read(link)
    assert simulator.end() == (0, b"")
    assert not link.is_symlink()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(start: Start, link: Path, number: signal.Signals) -> None:
    simulator = start("sd-serial", "--link", str(link))
    simulator.process.send_signal(number)
    assert simulator.process.wait(DEADLINE) == 0
    assert not link.is_symlink()


def test_the_end_of_its_input_ends_it(start: Start, link: Path) -> None:
    simulator = start("sd-serial", "--link", str(link))
    assert simulator.end() == (0, b"")
    assert not link.is_symlink()


def test_a_reader_of_its_answers_who_went_away_ends_it(start: Start, link: Path) -> None:
    simulator = start("sd-serial", "--link", str(link))
    assert simulator.process.stdin is not None
    assert simulator.process.stdout is not None
    simulator.process.stdout.close()
    simulator.process.stdin.write(b"help\n")
    simulator.process.stdin.flush()
    assert simulator.process.wait(DEADLINE) == 0
    assert not link.is_symlink()


def test_a_link_that_a_killed_simulator_left_is_replaced(start: Start, link: Path) -> None:
    killed = start("sd-serial", "--link", str(link))
    killed.process.kill()
    killed.process.wait(DEADLINE)
    assert link.is_symlink()
    start("sd-serial", "--link", str(link))
    read(link)


def test_a_file_in_the_place_of_the_link_is_left_alone(start: Start, link: Path) -> None:
    link.write_text("mine")
    status, error = start("sd-serial", "--link", str(link)).end()
    assert status == 1
    assert b"choose another path" in error
    assert link.read_text() == "mine"


def test_a_link_that_leads_elsewhere_by_now_is_left_alone(start: Start, link: Path) -> None:
    first = start("sd-serial", "--link", str(link))
    second = start("sd-serial", "--link", str(link))
    assert first.end()[0] == 0
    assert str(link.readlink()) == second.ready


def test_a_slot_is_served_below_a_folder(start: Start, tmp_path: Path) -> None:
    simulator = start("sd-slot", str(tmp_path / "sys"), "--cid", OTHER[:30])
    assert simulator.ready == str(tmp_path / "sys")
    key = SlotCard.open(tmp_path / "sys")
    assert key.reading.hardware_id == OTHER[:30]
    for command in ("unplug", "plug", "garble", "well", "card 035344535530384780deadbeef0136"):
        assert simulator.tell(command) == "ok"
    assert SlotCard.open(tmp_path / "sys").reading.hardware_id == "035344535530384780deadbeef0136"
    assert simulator.tell("slow 0.2").startswith("error: ")
    assert simulator.end() == (0, b"")
    with pytest.raises(Absent):
        SlotCard.open(tmp_path / "sys")


def test_help_names_every_command_and_ends_with_ok(start: Start, tmp_path: Path) -> None:
    simulator = start("sd-slot", str(tmp_path))
    lines = [simulator.tell("help")]
    while lines[-1] != "ok":
        lines.append(simulator.line())
        assert lines[-1]
    assert [line.split()[0].rstrip(":") for line in lines[:-1]] == [
        "unplug", "plug", "slow", "garble", "well", "card", "quit"
    ]  # fmt: skip


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    """A console obeyed in process, without descriptors of its own."""
    with SimulatedBusPirate() as device:
        yield Console(SerialDevice(device, tmp_path / "link"), -1, -1)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "no command"),
        ("dance", "unknown command 'dance'"),
        ("slow", "one word is needed"),
        ("slow fast", "could not convert"),
        ("slow nan", "seconds are"),
        ("slow -1", "seconds are"),
        (f"slow {SLOW_MOST + 1}", "seconds are"),
        ("garble everything", "not a valid Garble"),
        ("stick still", "not a valid Stuck"),
        ("stick low high", "one word is needed"),
        ("card 0353", "here are 4"),
        ("card " + "z" * 32, "character 1"),
        ("card 035344535530384780deadbeef01363f", "CRC7"),
        ("well done", "nothing may follow"),
        ("unplug moon", "card or device"),
        ("plug card card", "one word is needed"),
    ],
)
def test_a_bad_command_is_answered_with_its_mistake(console: Console, line: str, words: str) -> None:
    answer = console.obey(line)
    assert answer.startswith("error: ")
    assert words in answer
    assert "\n" not in answer


def test_the_longest_delay_is_accepted(console: Console) -> None:
    assert console.obey(f"slow {SLOW_MOST}") == "ok"


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["plug", "unplug", "garble", "well", "card", OTHER, "crc7", "slow"]) | st.text(max_size=9))
)
def test_any_line_has_an_answer(tmp_path: Path, words: list[str]) -> None:
    answer = Console(SlotDevice(SimulatedSlot(tmp_path)), -1, -1).obey(" ".join(words))
    assert answer == "ok" or answer.startswith("error: ") or answer.endswith("\nok")


def test_a_line_above_its_limit_is_refused_and_the_next_one_obeyed(start: Start, tmp_path: Path) -> None:
    simulator = start("sd-slot", str(tmp_path))
    assert simulator.process.stdin is not None
    simulator.process.stdin.write(b"x" * (LINE_MOST + 1))
    simulator.process.stdin.flush()
    assert simulator.line() == f"error: a line has at most {LINE_MOST} bytes"
    simulator.tell("")
    assert simulator.tell("well") == "ok"


@pytest.mark.parametrize(
    "arguments",
    [[], ["sd-serial"], ["sd-slot"], ["floppy"], ["sd-slot", "/x", "--cid", "12"], ["sd-serial", "--cid", "g"]],
)
def test_a_wrong_command_line_ends_with_the_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: featurekey-simulator" in capsys.readouterr().err


def test_a_card_that_moves_between_slot_and_reader_keeps_its_identity(tmp_path: Path) -> None:
    cid = Cid.from_hex(OTHER)
    slot = SimulatedSlot(tmp_path, cid)
    with SimulatedBusPirate() as device:
        device.put_card(cid)
        key = SerialCard.open(device.port)
        assert key.reading.hardware_id == SlotCard.open(slot.root).reading.hardware_id
        key.close()


def test_a_silenced_device_fails_with_a_feature_key_error(console: Console, tmp_path: Path) -> None:
    assert console.obey("silence") == "ok"
    with pytest.raises(FeatureKeyError):
        SerialCard.open(str(tmp_path / "link"))
    assert console.obey("well") == "ok"
    SerialCard.open(str(tmp_path / "link")).close()
