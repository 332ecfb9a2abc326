"""What a verification since an instant covers: of each journal, all from one proof on.

Clocks may have been set back, so proofs are never left out by their time alone.
"""

from typing import Final

from lake.journal_events import SET_BACK
from lake.verify.tables import Tables


def cover(tables: Tables, since: int) -> int:
    """Fill the table `starts` and the view `covered`; returns since when, which may be earlier.

    Covered are, in each journal, the proofs from the first that was sealed then or later, or that
    seals something that began then or later. If the record says that the clock was set back from
    a later time to an earlier one, all since that one is covered. Where none of a journal's proofs
    is, its start is behind the last.

    Args:
        tables: The tables.
        since: Microseconds since the epoch; 0 covers everything.
    """
    while (earlier := tables.count(_SET_BACK.format(since=since))) < since:
        since = earlier
    began = _BEGAN.format(since=since) if since else _NOTHING
    tables.run(_STARTS.format(since=since, began=began))
    tables.run(_COVERED)
    return since


_SET_BACK: Final = f"""
SELECT coalesce(min("to"), {{since:d}}) FROM (
    SELECT CAST(json_extract(detail_json, '$.from_us') AS BIGINT) AS "from",
           CAST(json_extract(detail_json, '$.to_us') AS BIGINT) AS "to"
    FROM events WHERE kind = '{SET_BACK}'
) WHERE "from" >= {{since:d}} AND "to" < {{since:d}}
"""  # noqa: S608 - a kind of our own
_BEGAN: Final = """
SELECT journal_id, min(sequence) AS sequence FROM (
    SELECT journal_id, sequence FROM exchanges WHERE epoch_us(started_at) >= {since:d}
    UNION ALL
    SELECT journal_id, sequence FROM events WHERE epoch_us(occurred_at) >= {since:d}
) GROUP BY journal_id
"""
_NOTHING: Final = "SELECT NULL AS journal_id, NULL AS sequence"
_STARTS: Final = """
CREATE TABLE starts AS
SELECT journal_id,
       coalesce(
           min(first_sequence) FILTER (
               epoch_us(sealed_at) >= {since:d} OR last_sequence >= sequence
           ),
           max(last_sequence) + 1
       ) AS first
FROM proofs LEFT JOIN ({began}) USING (journal_id) GROUP BY journal_id
"""
_COVERED: Final = """
CREATE VIEW covered AS
SELECT proofs.* FROM proofs JOIN starts USING (journal_id) WHERE first_sequence >= starts.first
"""
