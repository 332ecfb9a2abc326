"""Made-up secrets of the right form, for answers that a masking rule should catch.

Each is assembled at run time from parts and a digest of its kind: the same in every run, valid
nowhere, and in no source file as a whole.
"""

import base64
import hashlib
import string
import zlib
from collections.abc import Callable, Mapping

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_BASE32 = string.ascii_uppercase + "234567"


def _draw(seed: str, length: int, alphabet: str) -> str:
    noise = hashlib.shake_256(f"countersign demo {seed}".encode()).digest(length)
    return "".join(alphabet[byte % len(alphabet)] for byte in noise)


def _aws() -> str:
    return "AK" + "IA" + _draw("aws", 16, _BASE32)


def _github() -> str:
    body = _draw("github", 30, _BASE62)
    checksum, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        checksum, digit = divmod(checksum, 62)
        digits = _BASE62[digit] + digits
    return "gh" + "p_" + body + digits


def _slack() -> str:
    numbers = _draw("slack", 24, string.digits)
    return "-".join(("xo" + "xb", numbers[:12], numbers[12:], _draw("slack tail", 24, _BASE62)))


def _private_key() -> str:
    body = base64.b64encode(hashlib.shake_256(b"countersign demo key").digest(138)).decode()
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    rule, label = "-" * 5, "PRIVATE" + " KEY"
    return "\n".join((f"{rule}BEGIN {label}{rule}", *lines, f"{rule}END {label}{rule}"))


def _jwt() -> str:
    parts = (b'{"alg":"HS256","typ":"JWT"}', b'{"sub":"demo","name":"Nobody"}')
    encoded = [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts]
    return ".".join((*encoded, _draw("jwt", 43, _BASE62)))


def _field() -> str:
    return _draw("field", 20, _BASE62)


def _email() -> str:
    return "@".join(("erika.mustermann", "example.org"))


_MAKERS: Mapping[str, tuple[Callable[[], str], str]] = {
    "aws": (_aws, "The access key id is {}, rotate it soon."),
    "github": (_github, "Push with the token {}, as always."),
    "slack": (_slack, "The bot posts with {}, in every channel."),
    "private-key": (_private_key, "The server's key is:\n{}\nKeep it safe."),
    "jwt": (_jwt, "The session token was {}, before it ran out."),
    "field": (_field, 'The settings say password = "{}", in clear.'),
    "email": (_email, "Write to {}, she knows more."),
}

KINDS = tuple(_MAKERS)
"""The kinds of secret that there is a specimen of."""


def specimen(kind: str) -> str:
    """Return the made-up secret of this kind, always the same."""
    return _MAKERS[kind][0]()


def sentence(kind: str) -> str:
    """Return a sentence that gives the made-up secret of this kind away."""
    make, frame = _MAKERS[kind]
    return frame.format(make())
