"""Values by journal in the properties of a table, which travel in the transaction of its rows."""

from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec

_T = TypeVar("_T")


class PerJournal(Generic[_T]):
    """One kind of value, under names with a common beginning."""

    def __init__(self, prefix: str, kind: type[_T]) -> None:
        self._prefix = prefix
        self._decoder = msgspec.json.Decoder(kind)

    def name(self, journal_id: str) -> str:
        """Return the property that holds the value of a journal."""
        return f"{self._prefix}{journal_id}"

    def read(self, properties: Mapping[str, str]) -> dict[str, _T]:
        """Return the values among a table's properties; an unreadable one raises `ValueError`."""
        return {
            key.removeprefix(self._prefix): self._decoder.decode(value)
            for key, value in properties.items()
            if key.startswith(self._prefix)
        }

    def write(self, values: Mapping[str, _T]) -> dict[str, str]:
        """Return values as properties of a table."""
        return {self.name(j): msgspec.json.encode(value).decode() for j, value in values.items()}
