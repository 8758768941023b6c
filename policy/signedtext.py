"""Signed texts: documents of the vendor that people mail, paste and read.

    -----BEGIN FEATUREKEYD LICENSE LIST-----
    Serial: 110123456789
    List: 7
    key,name,state,set
    40C0-…,SIP Trunk Channels,valid,
    -----SIGNATURE-----
    9c1f0e6a5b7d3c21
    <Ed25519 signature in base64, two lines of 44 characters>
    -----END FEATUREKEYD LICENSE LIST-----

What is signed is the body in its canonical form: every line without blanks, quotation marks of mail (`>`) and a byte
order mark around it, empty lines left out. So line ends, quoting and text around the document may change on the way,
and nothing else may. The kind of document is signed with it, so that no document passes for one of another kind.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .encoding import length_prefixed
from .findings import Unreadable, Verdict

MAX_BYTES = 1 << 20
"""Longest document that is looked at: a list of 10,000 keys has 700,000 to 950,000 bytes."""

_LABEL = b"featurekeyd signed text"
_SIGNATURE = "-----SIGNATURE-----"
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----(.+?)-----END PUBLIC KEY-----", re.DOTALL)
_ED25519 = bytes.fromhex("302a300506032b6570032100")
"""What stands before the 32 bytes of the key (RFC 8410, section 4: id-Ed25519 without parameters)."""

_AROUND = "\ufeff \t\r>"


class Line(msgspec.Struct, frozen=True):
    """One line of a body: where it stood in the text that was brought, counted from 1, and what it says."""

    number: int
    text: str


class SignedText(msgspec.Struct, frozen=True):
    """A document whose signature is good: its header fields, and the lines behind them."""

    fields: dict[str, list[Line]]
    rows: list[Line]
    signer: str


VendorKeys = Mapping[str, Ed25519PublicKey]
"""The vendor's public keys by their key id."""


def key_id(public_key: Ed25519PublicKey) -> str:
    """16 hexadecimal digits that name a public key: the first 8 bytes of its SHA-256."""
    # Imported here, because it brings every kind of key there is, a megabyte that no host needs.
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    return _key_id(public_key.public_bytes(Encoding.Raw, PublicFormat.Raw))


def _key_id(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:16]


def read_vendor_key(pem: bytes) -> tuple[str, Ed25519PublicKey]:
    """The key id and the key of an Ed25519 public key in PEM form (RFC 8410); raises ValueError for anything else."""
    match = _PEM.search(pem)
    if match is None:
        raise ValueError("there is no public key in PEM form in it")
    try:
        der = base64.b64decode(b"".join(match[1].split()), validate=True)
    except binascii.Error:
        raise ValueError("the key in PEM form is damaged") from None
    raw = der.removeprefix(_ED25519)
    if len(der) != len(_ED25519) + 32 or len(raw) != 32:
        raise ValueError("the key is not an Ed25519 key")
    return _key_id(raw), Ed25519PublicKey.from_public_bytes(raw)


def seal(kind: str, body: str, signer: str, sign: Callable[[bytes], bytes]) -> str:
    """The body as a signed document of that kind; `sign` makes the Ed25519 signature."""
    lines = canonical_lines(body)
    signature = base64.b64encode(sign(_signed_bytes(kind, lines))).decode()
    return "\n".join(
        [
            begin_line(kind),
            *(line.text for line in lines),
            _SIGNATURE,
            signer,
            signature[:44],
            signature[44:],
            end_line(kind),
            "",
        ]
    )


def is_signed(kind: str, text: str) -> bool:
    """Whether the text seems to hold a document of that kind."""
    return begin_line(kind) in text


def unseal(kind: str, text: str, vendor_keys: VendorKeys) -> SignedText:
    """The document of that kind in the text, its signature verified; raises Unreadable."""
    body, signer, signature = _parts(kind, text)
    public_key = vendor_keys.get(signer)
    if public_key is None:
        raise Unreadable(Verdict.UNKNOWN_SIGNER, f"The document is signed by key {signer!r}, which is not installed.")
    try:
        public_key.verify(signature, _signed_bytes(kind, body))
    except InvalidSignature:
        raise Unreadable(Verdict.BAD_SIGNATURE, "The document was changed after it was signed.") from None
    return _document(body, signer)


def one_field(document: SignedText, name: str) -> str:
    """The value of a field that stands exactly once; raises Unreadable."""
    lines = document.fields.get(name, [])
    if len(lines) != 1:
        count = "missing" if not lines else "there more than once"
        raise Unreadable(Verdict.BAD_DOCUMENT, f"The field {name!r} is {count}.")
    return lines[0].text


def _parts(kind: str, text: str) -> tuple[list[Line], str, bytes]:
    if len(text) > MAX_BYTES:
        raise Unreadable(Verdict.BAD_DOCUMENT, f"The text is longer than {MAX_BYTES} characters.")
    lines = canonical_lines(text)
    begin, end = place_of(begin_line(kind), lines), place_of(end_line(kind), lines)
    if end < begin:
        raise Unreadable(Verdict.BAD_DOCUMENT, "The BEGIN and END lines are out of order.", line=lines[end].number)
    # Only now the signature: a mail may hold documents of other kinds beside this one, each with its own.
    middle = begin + place_of(_SIGNATURE, lines[begin:end])
    seal_lines = lines[middle + 1 : end]
    if len(seal_lines) < 2:
        raise Unreadable(Verdict.BAD_DOCUMENT, "The signature is incomplete.", line=lines[middle].number)
    encoded = "".join(line.text for line in seal_lines[1:])
    try:
        signature = base64.b64decode(encoded, validate=True)
    except ValueError:  # binascii.Error, or the plain one for characters outside ASCII
        raise Unreadable(Verdict.BAD_DOCUMENT, "The signature is not base64.", line=seal_lines[1].number) from None
    return lines[begin + 1 : middle], seal_lines[0].text, signature


def place_of(mark: str, lines: list[Line]) -> int:
    """The place of the one line that reads so; raises Unreadable when it is missing or there more than once."""
    places = [place for place, line in enumerate(lines) if line.text == mark]
    if len(places) != 1:
        count = "missing" if not places else "there more than once"
        raise Unreadable(Verdict.BAD_DOCUMENT, f"The line {mark!r} is {count}.")
    return places[0]


def canonical_lines(text: str) -> list[Line]:
    """The lines of a text without what mail puts around them, empty ones left out."""
    stripped = ((number, line.strip(_AROUND)) for number, line in enumerate(text.split("\n"), 1))
    return [Line(number, line) for number, line in stripped if line]


def _signed_bytes(kind: str, body: list[Line]) -> bytes:
    return length_prefixed(_LABEL, kind.encode(), "\n".join(line.text for line in body).encode(errors="surrogatepass"))


def _document(body: list[Line], signer: str) -> SignedText:
    fields: dict[str, list[Line]] = {}
    for place, line in enumerate(body):
        name, colon, value = line.text.partition(": ")
        if not colon:
            return SignedText(fields, body[place:], signer)
        fields.setdefault(name, []).append(Line(line.number, value))
    return SignedText(fields, [], signer)


def begin_line(kind: str) -> str:
    """The line before a document of that kind."""
    return f"-----BEGIN FEATUREKEYD {kind}-----"


def end_line(kind: str) -> str:
    """The line behind a document of that kind."""
    return f"-----END FEATUREKEYD {kind}-----"
