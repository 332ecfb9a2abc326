"""Compares the tables with what a witness was told of them."""

from collections.abc import Iterable

import msgspec

from lake.verify.report import Report
from lake.verify.tables import Tables
from lake.witness import Testimony


def check_witness(tables: Tables, lines: Iterable[bytes], report: Report) -> None:
    """Check that every root that the witness has is in the table `proofs`."""
    decoder = msgspec.json.Decoder(Testimony)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            seen = decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            report.find("corrupt", f"witness, line {number}", "it can't be read")
            continue
        report.coverage.witnessed += 1
        found = tables.run(
            "SELECT count(*) FROM proofs WHERE journal_id = ? AND last_sequence = ? AND root = ?",
            [seen.journal_id, seen.last_sequence, seen.root],
        ).fetchone()
        if found is None or not found[0]:
            report.find(
                "truncated",
                f"journal {seen.journal_id}",
                f"the witness saw its records sealed up to {seen.last_sequence}, "
                "and that proof is not there",
            )
