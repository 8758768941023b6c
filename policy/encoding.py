"""Length-prefixed encoding of fields that are hashed or signed together.

Fields joined by a separator can be split in two ways that give one text (facts/field.md section 5, licensecc); a length
before each field cannot.
"""

from __future__ import annotations


def length_prefixed(*fields: bytes) -> bytes:
    """Each field behind its length in 4 bytes, big-endian."""
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)
