"""The recorder's signature: one Ed25519 key at a time, older ones vouched for by the next's.

A folder holds the private key (`signing.pem`, mode 600) and every public key that was ever used
(`public/ID.pem`), each but the first with an endorsement: the signature of the key before over it.
So a verifier that trusts one key trusts those that came after it.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

ENDORSEMENT: Final = b"countersign.key.1\n"
"""Before the public key's bytes in what an endorsement signs."""

PublicKeys = Mapping[str, Ed25519PublicKey]
"""Keys whose signatures count, by their id."""


class BadKey(Exception):
    """A key file is not what it must be; the message names it."""


class Signature(NamedTuple):
    """A signature and the id of the key that made it."""

    key_id: str
    signature: bytes


class Signer:
    """Signs with the key that is in force; takes up a new one when the file changes."""

    def __init__(self, folder: Path) -> None:
        """Open the folder; makes it, and a first key, where there is none yet."""
        self._folder = folder
        self._path = folder / "signing.pem"
        if not self._path.exists():
            _write_key(folder, None)
        self._stamp = 0
        self._load()

    def sign(self, root: str) -> Signature:
        """Sign a root."""
        if self._path.stat().st_mtime_ns != self._stamp:
            self._load()
        return Signature(self._key_id, self._key.sign(root.encode()))

    def _load(self) -> None:
        self._stamp = self._path.stat().st_mtime_ns
        self._key = _read_private(self._path)
        self._key_id = key_id_of(self._key.public_key())


def rotate(folder: Path) -> str:
    """Put a new key in force, endorsed by the one before; returns its id.

    The private part of the old one is gone for good.
    """
    return _write_key(folder, _read_private(folder / "signing.pem"))


def key_id_of(key: Ed25519PublicKey) -> str:
    """Return the id of a key: 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def is_signed(keys: PublicKeys, key_id: str, root: str, signature: bytes) -> bool:
    """Return whether a trusted key of that id signed the root."""
    key = keys.get(key_id)
    return key is not None and _is_valid(key, signature, root.encode())


def list_keys(folder: Path) -> list[tuple[str, str, str]]:
    """Return of each public key: its id, the key that vouches for it, and its file."""
    found = []
    for file in sorted((folder / "public").glob("*.pem")):
        endorsement = file.with_name(f"{file.stem}.endorsed.json")
        by = _read_endorsement(endorsement).key_id if endorsement.exists() else ""
        found.append((file.stem, by, str(file)))
    return found


def first_keys(folder: Path) -> tuple[Path, ...]:
    """Return the file of the first key of a folder, for whom no other vouches.

    Raises:
        BadKey: there are several, so one of them is not the first.
    """
    found = tuple(
        file
        for file in sorted((folder / "public").glob("*.pem"))
        if not file.with_name(f"{file.stem}.endorsed.json").exists()
    )
    if len(found) > 1:
        raise BadKey(f"{folder}: several keys for whom no other vouches; name the one to trust")
    return found


def read_public_keys(files: Iterable[Path]) -> dict[str, Ed25519PublicKey]:
    """Return the keys of PEM files; each is trusted as it stands."""
    keys = [_read_public(file) for file in files]
    return {key_id_of(key): key for key in keys}


def add_endorsed(keys: PublicKeys, folder: Path) -> dict[str, Ed25519PublicKey]:
    """Return `keys` and all of a `public` folder that a chain of endorsements leads to."""
    trusted = dict(keys)
    waiting = {
        file: _read_endorsement(file)
        for file in sorted(folder.glob("*.endorsed.json"))
        if _pem_of(file).exists()
    }
    while True:
        endorsed = [file for file, by in waiting.items() if is_endorsed(trusted, _key_of(file), by)]
        if not endorsed:
            return trusted
        for file in endorsed:
            key = _key_of(file)
            trusted[key_id_of(key)] = key
            del waiting[file]


def is_endorsed(keys: PublicKeys, key: Ed25519PublicKey, by: Signature) -> bool:
    """Return whether a trusted key vouches for another."""
    voucher = keys.get(by.key_id)
    return voucher is not None and _is_valid(voucher, by.signature, _endorsed_bytes(key))


def _is_valid(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def _write_key(folder: Path, before: Ed25519PrivateKey | None) -> str:
    public = folder / "public"
    for each in (folder, public):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    key_id = key_id_of(key.public_key())
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if before is not None:
        endorsement = {
            "by": key_id_of(before.public_key()),
            "signature": before.sign(_endorsed_bytes(key.public_key())).hex(),
        }
        _write(public / f"{key_id}.endorsed.json", json.dumps(endorsement).encode())
    _write(public / f"{key_id}.pem", pem)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write(folder / "signing.pem", private)
    return key_id


def _write(path: Path, content: bytes) -> None:
    """Write a file of mode 600 whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)


def _read_private(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as e:
        raise BadKey(f"{path}: can't be read as a private key: {e}") from e
    if not isinstance(key, Ed25519PrivateKey):
        raise BadKey(f"{path}: is not an Ed25519 key")
    return key


def _read_public(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, TypeError) as e:
        raise BadKey(f"{path}: can't be read as a public key: {e}") from e
    if not isinstance(key, Ed25519PublicKey):
        raise BadKey(f"{path}: is not an Ed25519 key")
    return key


def _read_endorsement(path: Path) -> Signature:
    try:
        found = json.loads(path.read_text())
        return Signature(str(found["by"]), bytes.fromhex(found["signature"]))
    except (OSError, ValueError, TypeError, KeyError) as e:
        raise BadKey(f"{path}: can't be read as an endorsement: {e}") from e


def _key_of(endorsement: Path) -> Ed25519PublicKey:
    return _read_public(_pem_of(endorsement))


def _pem_of(endorsement: Path) -> Path:
    return endorsement.with_name(endorsement.name.replace(".endorsed.json", ".pem"))


def _endorsed_bytes(key: Ed25519PublicKey) -> bytes:
    return ENDORSEMENT + key.public_bytes(Encoding.Raw, PublicFormat.Raw)
