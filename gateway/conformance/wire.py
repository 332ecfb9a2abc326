"""HTTP/1.1 as bytes: what both sides of a tested gateway share. Hides nothing, mends nothing."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

Headers = Sequence[tuple[str, str]]
"""Names in lower case, and values; in order."""


class Reader(Protocol):
    """What is read from: an `asyncio.StreamReader`."""

    async def readuntil(self, separator: bytes) -> bytes:
        """Return bytes up to and with the separator."""

    async def readexactly(self, n: int) -> bytes:
        """Return so many bytes."""

    async def read(self, n: int) -> bytes:
        """Return at most so many bytes, none at the end."""


def read_headers(head: bytes) -> tuple[str, Headers]:
    """Return the first line of a head, and its headers."""
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return first, [(name.strip().lower(), value.strip()) for name, _, value in pairs]


def find(headers: Headers, name: str) -> str:
    """Return a header's value; of repeated ones all, as one list."""
    return ", ".join(value for found, value in headers if found == name)


async def read_body(
    reader: Reader, headers: Headers, *, is_answer: bool = False
) -> AsyncIterator[bytes]:
    """Yield a body as it arrives.

    An answer without a stated length ends with its connection.

    Raises:
        asyncio.IncompleteReadError: it ended too early.
    """
    length = find(headers, "content-length")
    if "chunked" in find(headers, "transfer-encoding").lower():
        while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
    elif length:
        left = int(length)
        while left:
            part = await reader.readexactly(min(left, 65536))
            left -= len(part)
            yield part
    elif is_answer:
        while part := await reader.read(65536):
            yield part


def write_head(first: str, headers: Headers) -> bytes:
    """Return the bytes of a head."""
    lines = [first, *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return bytes as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
