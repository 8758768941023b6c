"""The backup's text: all of the state comes back from it, and what was changed on the way is found."""

from __future__ import annotations

import base64
import datetime
import random
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.daemon import backup
from featurekeyd.daemon.backup import MAX_BACKUP_BYTES, MAX_CONTENT_BYTES, BackupTooLarge, read_backup, write_backup
from featurekeyd.daemon.facts import Answer, Facts
from featurekeyd.daemon.limits import MAX_MESSAGE_BYTES
from featurekeyd.daemon.store import Documents, Kept
from featurekeyd.policy.audit import MAX_ENTRIES, START, Act, Entry, extended, head_of, verify
from featurekeyd.policy.findings import Unreadable, Verdict
from featurekeyd.policy.hostaddress import Announcement
from featurekeyd.policy.licenses import Mark
from featurekeyd.policy.rescue import Opening
from featurekeyd.policy.reservations import Reservation
from featurekeyd.policy.timekeeping import TimeMark

SERIAL = "110123456789"
WALL = 1_796_000_000.0
DAY = datetime.date(2026, 11, 30)


def acts(count: int, text: str = "Reserved.") -> list[Entry]:
    return extended(START, [Act(wall=it, who="uid 0", what="reserved", message=text) for it in range(count)])


FULL = Kept(
    documents=Documents(
        certificate="one\ntwo ü", license_list="list", typed=("A", "B"), marks={SERIAL: Mark(7, trials={2: DAY})}
    ),
    drained={"feature_key_absent": 12.5},
    reservations=(Reservation(feature="trunk", key="201", holder="asterisk", instances=3),),
    facts=Facts(answer=Answer(serial=SERIAL, number=3, text="text"), checks={SERIAL: 3}, emergency_claims=2),
    audit=tuple(acts(5)),
)


def written(kept: Kept = FULL) -> str:
    return write_backup(kept, serial=SERIAL, catalog="exchange", version="0.1.0", wall=WALL)


def refused(text: str) -> str:
    with pytest.raises(Unreadable) as caught:
        read_backup(text)
    assert caught.value.finding.verdict is Verdict.BAD_BACKUP
    return caught.value.finding.message


IMPLAUSIBLE = {
    "facts.clock.wall": msgspec.structs.replace(
        FULL, facts=Facts(clock=TimeMark(wall=1e30, boot=0.0, boot_id="x", ahead=0.0))
    ),
    "facts.opening.day": msgspec.structs.replace(
        FULL, facts=Facts(opening=Opening(serial=SERIAL, day=datetime.date.max))
    ),
    "facts.emergency_claims": msgspec.structs.replace(FULL, facts=Facts(emergency_claims=10**30)),
    "drained.no_check": msgspec.structs.replace(FULL, drained={"no_check": -1e12}),
    "audit.acts[0].wall": msgspec.structs.replace(
        FULL, audit=tuple(extended(START, [Act(wall=-(10**400), who="", what="", message="")]))
    ),
    "documents.marks.110123456789.trials.2": msgspec.structs.replace(
        FULL, documents=Documents(marks={SERIAL: Mark(7, trials={2: datetime.date.max})})
    ),
}


@pytest.mark.parametrize("place", IMPLAUSIBLE)
def test_a_number_or_date_that_nothing_real_has_is_refused_with_its_place(place: str) -> None:
    assert refused(written(IMPLAUSIBLE[place])).startswith(f"The content of the backup cannot be: {place} is ")


def test_all_of_the_state_comes_back() -> None:
    found = read_backup(written())
    assert found.kept == FULL
    assert verify(found.kept.audit, head_of(FULL.audit)).sound
    assert msgspec.to_builtins(found.origin) == {
        "serial": SERIAL,
        "catalog": "exchange",
        "version": "0.1.0",
        "written": "2026-11-30T00:53:20Z",
    }


def test_the_same_state_gives_the_same_text() -> None:
    assert written() == written()
    assert written().startswith("-----BEGIN FEATUREKEYD BACKUP-----\nFormat: 1\nSerial: 110123456789\n")


def test_a_state_without_a_certificate_has_no_serial() -> None:
    text = write_backup(Kept(), serial=None, catalog="exchange", version="0.1.0", wall=WALL)
    assert read_backup(text).origin.serial is None
    assert read_backup(text).kept == Kept()


def test_what_waits_for_an_answer_or_an_address_is_left_out() -> None:
    announced = Announcement(address="192.0.2.10", wall=1.0, boot=2.0, boot_id="boot")
    facts = Facts(nonces=("aa",), announced=announced, emergency_claims=1)
    assert read_backup(written(Kept(facts=facts))).kept.facts == Facts(emergency_claims=1)


def test_a_text_that_went_by_mail_is_read() -> None:
    text = "Dear colleague,\r\n\r\n" + written().replace("\n", " \r\n") + "\r\n-- \r\nM."
    assert read_backup(text).kept == FULL


@given(st.data())
def test_a_character_that_was_changed_is_found(data: st.DataObject) -> None:
    text = written()
    begin, end = text.index("\n") + 1, text.rindex("-----END") - 1
    place = data.draw(st.integers(begin, end - 1))
    letter = data.draw(st.characters(min_codepoint=33, max_codepoint=126))
    if letter == text[place] or text[place].isspace():
        return
    changed = text[:place] + letter + text[place + 1 :]
    if base64_of(changed) == base64_of(text) and fields_of(changed) == fields_of(text):
        return  # the last character of base64 has bits that stand for nothing
    refused(changed)


def base64_of(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split("\n\n", 1)[1].splitlines()[:-1]), validate=True)
    except ValueError:
        return b""


def fields_of(text: str) -> str:
    return text.split("\n\n", 1)[0]


@pytest.mark.parametrize("cut", [0, 20, 100, 300, -2])
def test_a_text_that_is_not_whole_is_refused(cut: int) -> None:
    assert "no backup" in refused(written()[:cut])


@given(st.text())
def test_any_other_text_is_refused(text: str) -> None:
    refused(text)


def test_a_later_format_is_refused_with_the_cure() -> None:
    assert refused(written().replace("Format: 1", "Format: 2")) == (
        "The backup has format 2, and this release reads 1. Update featurekeyd."
    )


@pytest.mark.parametrize("line", ["no field", "Serial: 110123456789", ": x"])
def test_a_line_that_is_no_field_of_its_own_is_named(line: str) -> None:
    assert refused(written().replace("Catalog:", f"{line}\nCatalog:")) == "Line 4 of the backup is no field of its own."


def repacked(content: bytes) -> str:
    """A backup with another content and a digest that fits."""
    fields = {"Format": "1", "Serial": SERIAL, "Catalog": "exchange", "Version": "0", "Written": "x"}
    return backup._text(fields, content)


def test_a_bomb_is_refused_before_it_goes_off() -> None:
    assert "longer than" in refused(repacked(zlib.compress(bytes(MAX_CONTENT_BYTES + 1))))
    assert "cut off" in refused(repacked(zlib.compress(b"{}")[:-3]))


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b"[" * 5000])
def test_a_content_of_another_kind_is_refused(content: bytes) -> None:
    assert "cannot be read" in refused(repacked(zlib.compress(content)))
    refused(repacked(content))


def test_an_audit_that_was_changed_is_refused_even_where_the_digest_was_made_anew() -> None:
    content = backup._content(FULL, MAX_ENTRIES).replace(b"Reserved.", b"Removed.", 1)
    assert "does not end at the head" in refused(repacked(zlib.compress(content)))


def test_an_audit_that_is_not_sound_is_left_out() -> None:
    broken = msgspec.structs.replace(FULL, audit=FULL.audit[1:])
    assert read_backup(written(broken)).kept == msgspec.structs.replace(FULL, audit=())


# Size


def noise(size: int) -> str:
    """Text that hardly gets smaller."""
    return base64.b64encode(random.Random(7).randbytes(size * 3 // 4)).decode()


def test_a_backup_always_fits_into_one_message() -> None:
    assert MAX_BACKUP_BYTES < MAX_MESSAGE_BYTES
    large = written(msgspec.structs.replace(FULL, audit=tuple(acts(MAX_ENTRIES))))
    assert len(read_backup(large).kept.audit) == MAX_ENTRIES
    assert len(msgspec.json.encode(large)) <= MAX_BACKUP_BYTES


def test_the_oldest_entries_of_the_audit_are_left_out_where_all_do_not_fit() -> None:
    long = noise(2500 * 400)
    texts = [long[it * 400 : it * 400 + 400] for it in range(2500)]
    entries = extended(START, [Act(wall=1, who="uid 0", what="reserved", message=text) for text in texts])
    kept = msgspec.structs.replace(FULL, audit=tuple(entries))
    kept = msgspec.structs.replace(kept, documents=Documents(license_list=noise(1_400_000)))
    found = read_backup(written(kept))
    assert 0 < len(found.kept.audit) < 2500
    assert found.kept.audit == kept.audit[-len(found.kept.audit) :]
    assert found.before_audit == entries[-len(found.kept.audit) - 1].digest
    assert len(msgspec.json.encode(written(kept))) <= MAX_BACKUP_BYTES


def test_a_state_too_large_for_a_message_is_told_so() -> None:
    with pytest.raises(BackupTooLarge, match="even without its audit"):
        written(Kept(documents=Documents(license_list=noise(3_000_000))))
