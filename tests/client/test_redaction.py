"""What a support bundle leaves out of texts and of structures, and what stays."""

from __future__ import annotations

import json
import re
import time

import pytest

from featurekeyd.client.redaction import Redaction, redacted


def test_license_keys_are_shortened_whatever_their_form() -> None:
    groups = ["4Q7K", "AB1D", "9XYZ", "0123", "4567", "89AB", "CDEF", "GHJK"]
    for key in ("-".join(groups), " ".join(groups), "".join(groups)):
        assert redacted(f"the key {key}.") == "the key 4Q7K-…-GHJK."


def test_digests_and_message_ids_stay() -> None:
    text = "7e876f5ab4e24786a5577aed658e4d5c " + "ab" * 32
    assert redacted(text) == text


def test_the_same_call_has_the_same_mark_and_its_name_is_gone() -> None:
    text = '"key": "a84b4c76@10.0.0.1;tag=19" LEASE=a84b4c76@10.0.0.1;tag=19 LEASE=other'
    marks = [word.rpartition("call-")[2].strip('"') for word in redacted(text).split() if "call-" in word]
    assert len(marks) == 3
    assert marks[0] == marks[1] != marks[2]
    assert "a84b4c76" not in redacted(text)


def test_addresses_are_cut_and_left_where_that_is_wanted() -> None:
    text = "00:1b:21:5e:8a:01 192.0.2.17 2001:db8:0:1::17 127.0.0.1 04:26:33 1.2.3"
    assert redacted(text) == "00:1b:21:xx:xx:xx 192.0.x.x (IPv6 address) 127.0.0.1 04:26:33 1.2.3"
    assert redacted(text, addresses=True) == text


@pytest.mark.parametrize(
    "key",
    [
        "4Q7K--AB1D-9XYZ-0123-4567-89AB-CDEF-GHJK",
        "4Q7K_AB1D_9XYZ_0123_4567_89AB_CDEF_GHJK",
        "4Q7K\u2011AB1D\u20119XYZ\u20110123\u20114567\u201189AB\u2011CDEF\u2011GHJK",
        "4Q7K-AB1D-9XYZ-0123-\n    4567-89AB-CDEF-GHJK",
        "4q7kab1d9xyz0123456789abcdefghjk",
    ],
)
def test_a_key_that_a_mail_or_a_hand_has_changed_is_shortened_too(key: str) -> None:
    text = redacted(f"code {key} there").lower()
    assert text in {"code 4q7k-…-ghjk there", "code-…-ghjk there"}


def test_words_of_four_letters_are_no_key() -> None:
    text = "this must stay here when some word have just four each"
    assert redacted(text) == text


def test_a_field_with_blanks_and_the_message_beside_it_are_left_out_of_all() -> None:
    it = Redaction()
    document = {
        "entries": [
            {"message": "Channel B7 of a b c is over.", "fields": [{"name": "LEASE", "value": "a b c"},
                                                                  {"name": "CHANNEL", "value": "B7"}]},
            {"MESSAGE": "another of a b c, B7 times", "HOLDER": "kamailio"},
        ],
        "text": "said [LEASE=a b c HOLDER=kamailio]",
    }  # fmt: skip
    it.learn(document)
    cleaned = json.dumps(it.cleaned(document))
    assert "a b c" not in cleaned
    assert "Channel B7" not in cleaned
    assert "B7 times" in cleaned
    assert "HOLDER=kamailio]" in cleaned
    assert len(set(re.findall("call-[0-9a-f]{10}", cleaned.replace("Channel call", "")))) == 2  # a b c, and B7


def test_emergency_numbers_and_short_license_keys_are_told() -> None:
    it = Redaction()
    document = {"key": "4Q7K…GHJK", "fields": [{"name": "DIALED", "value": "112"}], "message": "to 112"}
    it.learn(document)
    assert it.cleaned(document) == document


@pytest.mark.parametrize("address", ["fe80::1", "2001:db8::1", "2001:db8:0:0:0:0:0:1", "::ffff:192.0.2.1"])
def test_an_address_in_any_form_of_ipv6_is_cut(address: str) -> None:
    assert redacted(f"at {address}, and [{address}]:5060") == "at (IPv6 address), and [(IPv6 address)]:5060"


@pytest.mark.parametrize("text", ["::1", "127.0.0.1:5060", "2026-11-22T04:26:33+00:00", "04:26:33", "a::b::c", "1.2.3"])
def test_what_is_no_address_or_everybodys_stays(text: str) -> None:
    assert redacted(text) == text


def test_a_password_in_settings_is_left_out_and_the_name_of_its_file_stays() -> None:
    text = 'secret = "x1"\nami_password = "x2"\nsecret_file = "/etc/ami"\n'
    assert redacted(text) == 'secret = (left out)\nami_password = (left out)\nsecret_file = "/etc/ami"\n'


def test_a_short_name_is_left_out_only_where_it_is_named() -> None:
    it = Redaction()
    document = [
        {"message": "B7x is over", "fields": [{"name": "LEASE", "value": "B7x"}]},
        {"message": "1900 is over", "fields": [{"name": "LEASE", "value": "1900"}]},
        {"message": "B7x of 1900, 1900-01-01, A1900"},
    ]
    it.learn(document)
    assert it.cleaned(document)[2]["message"].startswith("B7x of call-")
    assert it.cleaned(document)[2]["message"].endswith(", 1900-01-01, A1900")
    assert [each["message"][:5] for each in it.cleaned(document)[:2]] == ["call-", "call-"]


@pytest.mark.parametrize("letters", ["x", ":", "1a:", "4Q7K-", "LEASE=", "a@", "'key': '", "aaaa ", "+1", "00:"])
def test_a_text_that_a_far_end_has_made_long_takes_no_longer_for_it(letters: str) -> None:
    before = time.process_time()
    redacted(letters * 50_000)
    assert time.process_time() - before < 2.0, "some 0.05 s; what looks at each letter for each takes a minute"
