"""Signed texts: what a mail does to them is tolerated, what a hand does to them is found."""

from __future__ import annotations

import base64
import itertools

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurekeyd.policy.findings import Unreadable, Verdict
from featurekeyd.policy.signedtext import (
    MAX_BYTES,
    Line,
    SignedText,
    is_signed,
    key_id,
    one_field,
    read_vendor_key,
    seal,
    unseal,
)

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A loaded machine may be slow."""

KIND = "TEST NOTE"
VENDOR = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = key_id(VENDOR.public_key())
KEYS = {SIGNER: VENDOR.public_key()}
BODY = "Serial: 110123456789\nList: 7\nkey,name,state\n40A0,SIP Trunk Channels,valid\nrow: with a colon,é,valid"
TEXT = seal(KIND, BODY, SIGNER, VENDOR.sign)

LINE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30).filter(
    lambda line: line == line.strip("\ufeff \t\r>") and not line.startswith("-----")
)
BODIES = st.lists(LINE, min_size=1, max_size=6).map("\n".join)


def sealed(body: str) -> str:
    return seal(KIND, body, SIGNER, VENDOR.sign)


def refusal(text: str, kind: str = KIND) -> Unreadable:
    with pytest.raises(Unreadable) as caught:
        unseal(kind, text, KEYS)
    assert not caught.value.finding.accepted
    return caught.value


def texts(document: SignedText) -> list[str]:
    fields = [f"{name}: {line.text}" for name, lines in document.fields.items() for line in lines]
    return [*fields, *(line.text for line in document.rows)]


def test_a_known_document_is_signed_as_ever() -> None:
    assert sealed("Serial: 110123456789\nrow") == (
        "-----BEGIN FEATUREKEYD TEST NOTE-----\n"
        "Serial: 110123456789\n"
        "row\n"
        "-----SIGNATURE-----\n"
        "56475aa75463474c\n"
        "0+wHrW+1+qZWOLJ27rGhMZsXJIgzEFyd3QxrBbR5GfBT\n"
        "Qobu2z7Hpxs+VQYdJeRQsZl43iFJX7gNq2hgGFfNDg==\n"
        "-----END FEATUREKEYD TEST NOTE-----\n"
    )


def test_fields_and_rows_come_with_the_lines_they_stood_on() -> None:
    document = unseal(KIND, "Dear Sir,\n\n" + TEXT, KEYS)
    assert document.fields == {"Serial": [Line(4, "110123456789")], "List": [Line(5, "7")]}
    assert document.rows[0] == Line(6, "key,name,state")
    assert document.rows[-1] == Line(8, "row: with a colon,é,valid")
    assert document.signer == SIGNER


@relaxed
@given(BODIES)
def test_what_is_sealed_is_unsealed(body: str) -> None:
    assert sorted(texts(unseal(KIND, sealed(body), KEYS))) == sorted(body.split("\n"))


@relaxed
@given(
    BODIES,
    st.sampled_from(["\n", "\r\n", "\n\n", " \n", "\t\r\n", "\n> ", "\r\n>> ", "\n>   \n>\t"]),
    st.sampled_from(["", "\ufeff", "Hello,\r\n\r\n", "> On Monday you wrote:\n> ", "-----BEGIN PGP MESSAGE-----\n"]),
    st.sampled_from(["", "\n-- \nThe vendor", "\r\n\ufeff\r\n", "\n>\n> bye"]),
)
def test_line_ends_quoting_and_text_around_do_not_matter(body: str, between: str, before: str, behind: str) -> None:
    text = sealed(body)
    carried = before + text.rstrip("\n").replace("\n", between) + behind
    assert texts(unseal(KIND, carried, KEYS)) == texts(unseal(KIND, text, KEYS))


def test_every_change_of_one_character_of_the_body_is_found() -> None:
    first, last = TEXT.index("Serial"), TEXT.index("\n-----SIGNATURE")
    for place, new in itertools.product(range(first, last), "x1:,- \n>\t\r\0é"):
        changed = TEXT[:place] + new + TEXT[place + 1 :]
        if new != TEXT[place]:
            assert refusal(changed).finding.verdict is Verdict.BAD_SIGNATURE, (place, new)


@relaxed
@given(BODIES, st.data())
def test_a_change_of_a_byte_of_any_body_is_found(body: str, data: st.DataObject) -> None:
    text = sealed(body).encode()
    first, last = text.index(b"-----\n") + 6, text.index(b"\n-----SIGNATURE-----\n")
    place = data.draw(st.integers(first, last - 1))
    changed = bytearray(text)
    changed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Unreadable):
        unseal(KIND, changed.decode(errors="surrogateescape"), KEYS)


@relaxed
@given(BODIES, LINE, st.data())
def test_a_line_put_in_or_taken_away_is_found(body: str, more: str, data: st.DataObject) -> None:
    lines = sealed(body).split("\n")
    end = lines.index("-----SIGNATURE-----")
    longer = [*lines]
    longer.insert(data.draw(st.integers(1, end)), more)
    assert refusal("\n".join(longer)).finding.verdict is Verdict.BAD_SIGNATURE
    del lines[data.draw(st.integers(1, end - 1))]
    assert refusal("\n".join(lines)).finding.verdict is Verdict.BAD_SIGNATURE


@pytest.mark.parametrize("place", range(0, 86, 5))
def test_a_changed_signature_is_found(place: int) -> None:
    lines = TEXT.split("\n")
    encoded = bytearray(base64.b64decode(lines[-4] + lines[-3]))
    encoded[place * 6 // 8] ^= 1
    changed = base64.b64encode(encoded).decode()
    text = TEXT.replace(lines[-4], changed[:44]).replace(lines[-3], changed[44:])
    assert refusal(text).finding.verdict is Verdict.BAD_SIGNATURE


def test_a_document_does_not_pass_for_one_of_another_kind() -> None:
    assert "missing" in str(refusal(TEXT, "OTHER NOTE"))
    renamed = TEXT.replace(KIND, "OTHER NOTE")
    assert refusal(renamed, "OTHER NOTE").finding.verdict is Verdict.BAD_SIGNATURE


def test_a_signer_that_is_not_installed_is_named() -> None:
    stranger = Ed25519PrivateKey.generate()
    name = key_id(stranger.public_key())
    error = refusal(seal(KIND, BODY, name, stranger.sign))
    assert error.finding.verdict is Verdict.UNKNOWN_SIGNER
    assert name in str(error)


def test_a_stranger_who_uses_the_vendors_name_is_found() -> None:
    forged = seal(KIND, BODY, SIGNER, Ed25519PrivateKey.generate().sign)
    assert refusal(forged).finding.verdict is Verdict.BAD_SIGNATURE


BEGIN, MIDDLE, END = f"-----BEGIN FEATUREKEYD {KIND}-----", "-----SIGNATURE-----", f"-----END FEATUREKEYD {KIND}-----"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", f"{BEGIN!r} is missing"),
        (TEXT.replace(END, ""), f"{END!r} is missing"),
        (TEXT.replace(MIDDLE, ""), f"{MIDDLE!r} is missing"),
        (TEXT + TEXT, f"{BEGIN!r} is there more than once"),
        ("\n".join([END, MIDDLE, BEGIN]), "out of order"),
        ("\n".join([BEGIN, MIDDLE, SIGNER, END]), "signature is incomplete"),
        ("\n".join([BEGIN, MIDDLE, SIGNER, "*", END]), "not base64"),
        ("\n".join([BEGIN, MIDDLE, SIGNER, "éé==", END]), "not base64"),
        ("\n".join([BEGIN, MIDDLE, SIGNER, "AAA", END]), "not base64"),
        ("\n".join([BEGIN, "\ud800", MIDDLE, SIGNER, "AAAA", END]), "changed after"),
        (f"{TEXT}{' ' * MAX_BYTES}", f"longer than {MAX_BYTES}"),
    ],
)
def test_what_is_wrong_with_a_broken_document_is_said(text: str, said: str) -> None:
    assert said in str(refusal(text))


def test_the_longest_text_is_still_read() -> None:
    assert unseal(KIND, TEXT + " " * (MAX_BYTES - len(TEXT)), KEYS).signer == SIGNER


@relaxed
@given(st.lists(st.sampled_from([BEGIN, MIDDLE, END, SIGNER]) | st.text(st.characters(), max_size=20)).map("\n".join))
def test_no_text_raises_anything_but_unreadable(text: str) -> None:
    with pytest.raises(Unreadable):
        unseal(KIND, text, KEYS)


def test_a_field_stands_exactly_once() -> None:
    document = unseal(KIND, sealed("A: 1\nB: 2\nB: 3"), KEYS)
    assert one_field(document, "A") == "1"
    with pytest.raises(Unreadable, match="'B' is there more than once"):
        one_field(document, "B")
    with pytest.raises(Unreadable, match="'C' is missing"):
        one_field(document, "C")


def test_a_document_is_known_by_its_first_line() -> None:
    assert is_signed(KIND, TEXT)
    assert not is_signed("OTHER NOTE", TEXT)


def test_a_vendor_key_is_an_ed25519_key_in_pem() -> None:
    pem = VENDOR.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for text in (pem, b"a note\r\n" + pem.replace(b"\n", b"\r\n")):
        name, key = read_vendor_key(text)
        assert (name, key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)) == (SIGNER, pem)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        # A key of an algorithm that does not exist: object identifier 1.2.3.
        b"-----BEGIN PUBLIC KEY-----\nMAowBAYCKgMDAgAA\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN PUBLIC KEY-----\nM!owBAYCKgMDAgAA\n-----END PUBLIC KEY-----\n",
        *(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            for key in (ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048))
        ),
    ],
    ids=["empty", "broken", "unknown", "no base64", "elliptic", "rsa"],
)
def test_another_key_is_no_vendor_key(pem: bytes) -> None:
    with pytest.raises(ValueError, match=r"key|PEM"):
        read_vendor_key(pem)


def test_one_mail_may_hold_documents_of_two_kinds() -> None:
    one, two = (
        seal(kind, body, SIGNER, VENDOR.sign) for kind, body in (("ONE KIND", "Name: one"), ("ANOTHER", "Name: two"))
    )
    mail = f"Dear customer,\n{one}\nand\n{two}\nregards"
    assert unseal("ONE KIND", mail, KEYS).fields["Name"][0].text == "one"
    assert unseal("ANOTHER", mail, KEYS).fields["Name"][0].text == "two"
