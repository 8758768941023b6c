"""The request: what a host tells the vendor so that its Feature Key can be certified, or its licenses checked.

    -----BEGIN FEATUREKEYD REQUEST-----
    Format: 1
    Kind: sd-card
    Hardware-Id: 035344535530384780deadbeef0136
    Assurance: A1
    Reader: serial:/dev/ttyUSB0
    Simulated: no
    Catalog: ip-office
    Platform: ip500-v2
    Serial: 110123456789
    Version: 0.1.0
    -----END FEATUREKEYD REQUEST-----

`Serial` stands there only when the system was certified before, and these only when a check is asked for:

    Nonce: 5f0c…                  32 hexadecimal digits, answered once
    State-Head: 1204 9b1e…        how far the state has come, and a digest over it
    Audit-Head: 88 77aa…          how many entries the audit has, and the hash of the last
    Audit-Since: 80 91fe…         the entry that the newest answer names, and the hash that it has here now
    Emergency-Claims: 2           emergency calls without a listed number since the check before
    Tamperings: 0                 starts that found the state changed by somebody else since then
    State-Losses: 0               starts that found the state damaged, and began without it, since then
    Clock-Repairs: 1              times that the clock was believed again by command since then
    Catalog-Digest: c1d2…         SHA-256 of the catalog file
    List: 7                       number of the license list that is installed, 0 for none
    Enrolled-Host: 0f3c…          digest of the host that was enrolled

The text is unsigned: it proves nothing, and nothing is granted for what it says. Lines are read as those of a signed
text are (see `signedtext`): quoting, line ends and text around the request do not matter. A line that mail broke is put
together again, and fields that this release does not know are skipped, so that a newer host can ask.
"""

from __future__ import annotations

import re

import msgspec

from .findings import Unreadable, Verdict
from .signedtext import Line, begin_line, canonical_lines, end_line, place_of

KIND = "REQUEST"
"""Kind of the text."""

FORMAT = "1"
"""The only format so far."""

MAX_TEXT = 1 << 16
"""Characters of a text that is looked at: a mail around the request, and far more than one."""

MAX_LINES = 64
"""Lines in a request: three times as many as it has, for broken lines and fields to come."""

MAX_VALUE = 200
"""Characters of a value: the longest, a path of a reader in sysfs, stays under 150."""

SHOWN = 40
"""Characters of a wrong value that a message shows."""

_NAME = re.compile(r"([A-Z][A-Za-z]*(?:-[A-Z][A-Za-z]*)*):(?: +(.*))?")
_NUMBER = r"0|[1-9][0-9]{0,9}"
_COUNT = r"0|[1-9][0-9]{0,11}"
_HARDWARE_ID = {"usb-otp": _NUMBER, "sd-card": r"[0-9a-f]{30}", "host": r"[0-9a-f]{64}"}
_HARDWARE_ID_IN_WORDS = {
    "usb-otp": "a serial number of at most 10 digits",
    "sd-card": "30 hexadecimal digits in lower case",
    "host": "64 hexadecimal digits in lower case",
}
_DIGEST = r"[0-9a-f]{64}"
_HEAD = rf"({_COUNT}) ({_DIGEST})"
_NAMES_OF_FIELDS = {
    "Format": "format",
    "Kind": "kind",
    "Hardware-Id": "hardware_id",
    "Assurance": "assurance",
    "Reader": "reader",
    "Simulated": "simulated",
    "Catalog": "catalog",
    "Platform": "platform",
    "Serial": "serial",
    "Version": "version",
    "Nonce": "nonce",
    "State-Head": "state_head",
    "Audit-Head": "audit_head",
    "Audit-Since": "audit_since",
    "Emergency-Claims": "emergency_claims",
    "Tamperings": "tamperings",
    "State-Losses": "state_losses",
    "Clock-Repairs": "clock_repairs",
    "Catalog-Digest": "catalog_digest",
    "List": "list_number",
    "Enrolled-Host": "enrolled_host",
}
_OPTIONAL = frozenset(
    {
        "Serial",
        "Nonce",
        "State-Head",
        "Audit-Head",
        "Audit-Since",
        "Emergency-Claims",
        "Tamperings",
        "State-Losses",
        "Clock-Repairs",
        "Catalog-Digest",
        "List",
        "Enrolled-Host",
    }
)
_FORMS = {
    "Kind": (r"usb-otp|sd-card|host", "usb-otp, sd-card or host"),
    "Assurance": (r"A[0-9]", "A and a digit"),
    "Simulated": (r"yes|no", "yes or no"),
    "Catalog": (r"[a-z][a-z0-9]*(-[a-z0-9]+)*", "lower-case words joined by hyphens"),
    "Platform": (r"[a-z][a-z0-9]*(-[a-z0-9]+)*", "lower-case words joined by hyphens"),
    "Serial": (r"[0-9]{12}", "12 digits"),
    "Nonce": (r"[0-9a-f]{32}", "32 hexadecimal digits in lower case"),
    "State-Head": (_HEAD, "a number and 64 hexadecimal digits in lower case"),
    "Audit-Head": (_HEAD, "a number and 64 hexadecimal digits in lower case"),
    "Audit-Since": (_HEAD, "a number and 64 hexadecimal digits in lower case"),
    "Emergency-Claims": (_COUNT, "a number"),
    "Tamperings": (_COUNT, "a number"),
    "State-Losses": (_COUNT, "a number"),
    "Clock-Repairs": (_COUNT, "a number"),
    "Catalog-Digest": (_DIGEST, "64 hexadecimal digits in lower case"),
    "List": (r"0|[1-9][0-9]{0,8}", "a number"),
    "Enrolled-Host": (_DIGEST, "64 hexadecimal digits in lower case"),
}


class Head(msgspec.Struct, frozen=True):
    """How far a record of the host has come, and the digest that only its whole content gives."""

    number: int
    """Only advances: entries of the audit, changes of the state."""
    digest: str
    """64 hexadecimal digits."""

    def __str__(self) -> str:
        return f"{self.number} {self.digest}"


def read_head(text: str) -> Head:
    """The head that is written so; raises ValueError."""
    match = re.fullmatch(_HEAD, text)
    if match is None:
        raise ValueError(f"not a head: {_shown(text)}")
    return Head(int(match[1]), match[2])


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says."""

    kind: str
    hardware_id: str
    assurance: str
    reader: str
    simulated: bool
    catalog: str
    platform: str
    version: str
    serial: str | None = None
    """The serial of the certificate the host has, None when it has none."""
    nonce: str | None = None
    """What the answer to a check must name, None where no check is asked for; so with all that follow."""
    state_head: Head | None = None
    audit_head: Head | None = None
    audit_since: Head | None = None
    """The entry that the vendor's newest answer names, with the digest that it has here."""
    emergency_claims: int | None = None
    tamperings: int | None = None
    state_losses: int | None = None
    clock_repairs: int | None = None
    catalog_digest: str | None = None
    list_number: int | None = None
    enrolled_host: str | None = None


def request_text(request: Request) -> str:
    """The text to send to the vendor; raises ValueError naming a field that no vendor could read."""
    values = {name: getattr(request, attribute, FORMAT) for name, attribute in _NAMES_OF_FIELDS.items()}
    values["Simulated"] = "yes" if request.simulated else "no"
    lines = [f"{name}: {value}" for name, value in values.items() if value is not None]
    text = "\n".join([begin_line(KIND), *lines, end_line(KIND), ""])
    if read_request(text) != request:
        raise ValueError("a field begins or ends with a blank or '>'")
    return text


def read_request(text: str) -> Request:
    """The request in a text; raises Unreadable naming the field and the line."""
    fields = _fields(_body(text))
    _check_format(fields)
    missing = [name for name in _NAMES_OF_FIELDS if name not in fields and name not in _OPTIONAL]
    if missing:
        raise Unreadable(Verdict.BAD_DOCUMENT, f"The field {missing[0]!r} is missing.")
    for name, (form, words) in _FORMS.items():
        _check(fields, name, form, words)
    kind = fields["Kind"].text
    _check(fields, "Hardware-Id", _HARDWARE_ID[kind], f"{_HARDWARE_ID_IN_WORDS[kind]}, as {kind} has")
    return Request(
        kind=kind,
        hardware_id=fields["Hardware-Id"].text,
        assurance=fields["Assurance"].text,
        reader=fields["Reader"].text,
        simulated=fields["Simulated"].text == "yes",
        catalog=fields["Catalog"].text,
        platform=fields["Platform"].text,
        version=fields["Version"].text,
        serial=_text(fields, "Serial"),
        nonce=_text(fields, "Nonce"),
        state_head=_head(fields, "State-Head"),
        audit_head=_head(fields, "Audit-Head"),
        audit_since=_head(fields, "Audit-Since"),
        emergency_claims=_count(fields, "Emergency-Claims"),
        tamperings=_count(fields, "Tamperings"),
        state_losses=_count(fields, "State-Losses"),
        clock_repairs=_count(fields, "Clock-Repairs"),
        catalog_digest=_text(fields, "Catalog-Digest"),
        list_number=_count(fields, "List"),
        enrolled_host=_text(fields, "Enrolled-Host"),
    )


def _text(fields: dict[str, Line], name: str) -> str | None:
    return fields[name].text if name in fields else None


def _count(fields: dict[str, Line], name: str) -> int | None:
    return int(fields[name].text) if name in fields else None


def _head(fields: dict[str, Line], name: str) -> Head | None:
    return read_head(fields[name].text) if name in fields else None


def _body(text: str) -> list[Line]:
    if len(text) > MAX_TEXT:
        raise Unreadable(Verdict.BAD_DOCUMENT, f"The text is longer than {MAX_TEXT} characters.")
    lines = canonical_lines(text)
    begin, end = place_of(begin_line(KIND), lines), place_of(end_line(KIND), lines)
    if end < begin:
        raise Unreadable(Verdict.BAD_DOCUMENT, "The END line stands before the BEGIN line.", line=lines[end].number)
    if end - begin - 1 > MAX_LINES:
        raise Unreadable(Verdict.BAD_DOCUMENT, f"The request has more than {MAX_LINES} lines.")
    return lines[begin + 1 : end]


def _fields(body: list[Line]) -> dict[str, Line]:
    fields: dict[str, Line] = {}
    name = ""
    for line in body:
        match = _NAME.fullmatch(line.text)
        if match is None and not name:
            raise _bad(line.number, f"{_shown(line.text)} is no field: a name, a colon, a value.")
        if match is None:
            # Mail broke a long line: it belongs to the field above.
            fields[name] = Line(fields[name].number, f"{fields[name].text} {line.text}".strip())
            continue
        name = match[1]
        if name in fields:
            raise _bad(line.number, f"The field {_shown(name)} is there more than once.")
        fields[name] = Line(line.number, (match[2] or "").strip())
    for name, line in fields.items():
        _check_value(name, line)
    return fields


def _check_value(name: str, line: Line) -> None:
    if len(line.text) > MAX_VALUE:
        raise _bad(line.number, f"The field {_shown(name)} is longer than {MAX_VALUE} characters.")
    if not line.text:
        raise _bad(line.number, f"The field {_shown(name)} is empty.")
    if not line.text.isprintable():
        raise _bad(line.number, f"The field {_shown(name)} has a character that cannot be printed.")


def _check_format(fields: dict[str, Line]) -> None:
    line = fields.get("Format")
    if line is not None and line.text != FORMAT:
        message = f"The request is of format {_shown(line.text)}; this release reads format {FORMAT}."
        raise Unreadable(Verdict.UNKNOWN_VERSION, message, line=line.number)


def _check(fields: dict[str, Line], name: str, form: str, words: str) -> None:
    line = fields.get(name)
    if line is not None and not re.fullmatch(form, line.text):
        raise _bad(line.number, f"The field {name!r} is {_shown(line.text)} instead of {words}.")


def _shown(value: str) -> str:
    return repr(value if len(value) <= SHOWN else f"{value[:SHOWN]}…")


def _bad(line: int, message: str) -> Unreadable:
    return Unreadable(Verdict.BAD_DOCUMENT, f"Line {line}: {message}", line=line)
