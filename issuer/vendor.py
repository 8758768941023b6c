"""The vendor's folder: signing key, public key, master secret and register.

Rules of this module:

* The folder has mode 0700, the secrets in it 0600 and the caller as owner. Secrets that others may read are refused,
  not mended: they are no secrets any more.
* Files are created exclusively; nothing is ever overwritten. The folder is made beside its place and moved there
  whole, so a broken `init` leaves nothing that looks like a vendor.
* Passphrases come from a prompt or a file, never from the command line. They protect the signing key; the master
  secret is protected by its mode alone.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from featurekeyd.policy.signedtext import key_id, seal

from .derivation import MASTER_SIZE
from .refusal import Refused
from .register import create_register

SIGNING_KEY = "signing.pem"
PUBLIC_KEY = "vendor.pub"
MASTER_SECRET = "master.secret"  # noqa: S105 - the name of a file
REGISTER = "register.sqlite"

MAX_SECRET = 4096
"""Bytes of a secret file that are read: a PKCS#8 key has a few hundred."""

Passphrase = Callable[[], bytes]
"""Asked only when the signing key is needed and encrypted."""


class Vendor:
    """An opened vendor folder; secrets are read when they are first needed."""

    def __init__(self, folder: Path, passphrase: Passphrase) -> None:
        self._folder = folder
        self._passphrase = passphrase

    @property
    def register_path(self) -> Path:
        """Where the register is."""
        return self._folder / REGISTER

    @cached_property
    def master(self) -> bytes:
        """The master secret; raises Refused."""
        path = self._folder / MASTER_SECRET
        try:
            master = bytes.fromhex(read_secret(path).decode("ascii"))
        except ValueError:
            master = b""
        if len(master) != MASTER_SIZE:
            raise Refused(f"{path} is not {MASTER_SIZE} bytes in hexadecimal.", "Restore it from the backup.")
        return master

    @cached_property
    def _signing_key(self) -> Ed25519PrivateKey:
        path = self._folder / SIGNING_KEY
        pem = read_secret(path)
        passphrase = self._passphrase() if b"ENCRYPTED" in pem else None
        try:
            key = load_pem_private_key(pem, passphrase)
        except (ValueError, TypeError):
            what = "does not open with this passphrase" if passphrase is not None else "is not a private key"
            raise Refused(f"{path} {what}.") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise Refused(f"{path} is not an Ed25519 key.", "Restore it from the backup.")
        return key

    @property
    def public_key(self) -> Ed25519PublicKey:
        """The key that hosts install."""
        return self._signing_key.public_key()

    @property
    def signer(self) -> str:
        """The id of the signing key, as signed texts name it."""
        return key_id(self.public_key)

    def seal(self, kind: str, body: str) -> str:
        """The body as a text of that kind with the vendor's signature."""
        return seal(kind, body, self.signer, self._signing_key.sign)


def create_vendor(folder: Path, passphrase: bytes | None) -> str:
    """Make a vendor folder with fresh secrets and an empty register; gives the signing key's id, raises Refused."""
    place = folder.resolve()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise _occupied(folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        signer = _fill(draft, passphrase)
        _move(draft, place)
    finally:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(draft)
    return signer


def open_vendor(folder: Path, passphrase: Passphrase) -> Vendor:
    """The vendor in that folder; raises Refused when there is none or others may look into it."""
    try:
        about = folder.stat()
    except OSError:
        about = None
    if about is None or not (folder / REGISTER).exists():
        raise Refused(f"{folder} is no vendor folder.", "Name it with --vendor, or make one: featurekey-issue init")
    _check_private(folder, about, "0700")
    return Vendor(folder, passphrase)


def read_secret(path: Path) -> bytes:
    """A file that nobody but its owner may read, blanks around it left out; raises Refused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}.") from error
    with os.fdopen(descriptor, "rb") as file:
        # The mode of what was opened, not of what has that name now.
        _check_private(path, os.fstat(descriptor), "0600")
        return file.read(MAX_SECRET).strip()


def _check_private(path: Path, about: os.stat_result, mode: str) -> None:
    if stat.S_IMODE(about.st_mode) & 0o077:
        cure = f"Make sure that nobody did, then: chmod {mode} {path}"
        raise Refused(f"Others than its owner may read {path}.", cure)
    if about.st_uid != os.geteuid():
        raise Refused(f"{path} belongs to another user.", "Run featurekey-issue as its owner.")


def _fill(draft: Path, passphrase: bytes | None) -> str:
    key = Ed25519PrivateKey.generate()
    encryption: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    create_file(draft / SIGNING_KEY, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption), 0o600)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    create_file(draft / PUBLIC_KEY, public, 0o644)
    create_file(draft / MASTER_SECRET, f"{secrets.token_hex(MASTER_SIZE)}\n".encode(), 0o600)
    create_file(draft / REGISTER, b"", 0o600)
    create_register(draft / REGISTER)
    return key_id(key.public_key())


def create_file(path: Path, content: bytes, mode: int) -> None:
    """A new file with that content, on the disk when this returns; raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _move(draft: Path, place: Path) -> None:
    try:
        # Renaming replaces an empty folder and refuses any other: the check above cannot be overtaken.
        draft.rename(place)
    except OSError as error:
        raise _occupied(place) from error


def _occupied(folder: Path) -> Refused:
    return Refused(f"{folder} is not empty, and nothing is overwritten.", "Name another folder with --vendor.")
