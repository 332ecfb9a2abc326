"""The one feed of changes per worker: what it loads, when, and how old it says it is."""

from typing import Any

import sqlalchemy as sa

from gateway.changes import ChangeFeed, note_change
from gateway.state import CHANGES


class Loaded:
    """Counts what is loaded and taken."""

    def __init__(self) -> None:
        self.loads = 0
        self.taken: list[int] = []

    def load(self) -> int:
        self.loads += 1
        return self.loads


def feed_of(engine: sa.Engine) -> tuple[ChangeFeed, Loaded]:
    loaded = Loaded()
    return ChangeFeed(engine, {"approvals": (loaded.load, loaded.taken.append)}), loaded


def change(engine: sa.Engine, kind: str = "approvals") -> None:
    with engine.begin() as connection:
        note_change(connection, kind)


async def test_what_did_not_change_is_not_loaded_again(engine: sa.Engine) -> None:
    feed, loaded = feed_of(engine)
    for _ in range(3):
        await feed.poll()
    assert loaded.taken == [1]
    change(engine)
    await feed.poll()
    await feed.poll()
    assert loaded.taken == [1, 2]


async def test_a_change_that_is_not_committed_is_not_seen_and_then_not_missed(
    engine: sa.Engine,
) -> None:
    feed, loaded = feed_of(engine)
    await feed.poll()
    with engine.connect() as connection:
        note_change(connection, "approvals")
        await feed.poll()
        assert loaded.taken == [1]
        connection.commit()
    await feed.poll()
    assert loaded.taken == [1, 2]


async def test_its_age_grows_from_the_last_good_look_on(engine: sa.Engine) -> None:
    feed, loaded = feed_of(engine)
    never: Any = feed.age_s
    await feed.poll()
    young = feed.age_s
    with engine.begin() as connection:
        CHANGES.drop(connection)
    await feed.poll()
    assert never == 1e9 > feed.age_s >= young >= 0
    assert loaded.taken == [1]
