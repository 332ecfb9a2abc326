"""Where the tables' current metadata lies; the last known place while the catalog is away."""

import logging
from collections.abc import Callable
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from lake.catalog import Lake

LET_ALONE_S: Final = 5.0
"""How long a catalog that did not answer is not asked again: a try may cost seconds."""

logger = logging.getLogger(__name__)


class Locations:
    """Safe to use from several threads."""

    def __init__(self, lake: Lake, now_s: Callable[[], float]) -> None:
        self._lake = lake
        self._now_s = now_s
        self._known: dict[str, str] = {}
        self._failed_s: float | None = None

    @property
    def is_stale(self) -> bool:
        """Whether the catalog is away: what was committed since is not seen."""
        return self._failed_s is not None

    def of(self, table: str) -> str:
        """Return where a table's metadata lies; raises what the catalog did if that is unknown."""
        known, failed_s = self._known.get(table), self._failed_s
        if known and failed_s is not None and self._now_s() - failed_s < LET_ALONE_S:
            return known
        try:
            self._known[table] = self._lake.metadata_location(table)
        except SQLAlchemyError as e:
            if known is None:
                raise
            logger.warning("catalog_unreachable error=%s", type(e).__name__)
            self._failed_s = self._now_s()
            return known
        self._failed_s = None
        return self._known[table]
