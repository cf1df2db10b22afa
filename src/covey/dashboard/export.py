"""The events of a recording for other programs: JSON lines, or a Parquet table.

Each event is a row with the names of its fields.  Rows of all kinds have ``number``,
``time`` (seconds of the Unix epoch), ``at`` (the scheduler's own clock) and ``event``; those
that are about tasks have ``key`` as well, of the first of ``n`` tasks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from covey.errors import UsageError
from covey.recording import Batch, Head, Record

#: The fields of each kind of event, after the time and the word, as the scheduler's
#: ``history`` describes them.
FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "submitted": ("base", "n", "label", "client"),
    "ran": ("base", "n", "label", "worker", "seconds", "nbytes", "slot"),
    "erred": ("base", "label", "worker", "seconds", "slot"),
    "failed": ("base", "n", "label", "worker", "kind", "type", "message", "origin"),
    "retried": ("base", "n", "label", "worker", "why"),
    "lost": ("base", "n", "label"),
    "found": ("base", "n", "label", "worker"),
    "changed": ("base", "n", "label"),
    "moved": ("base", "n", "source", "target", "nbytes", "seconds"),
    "passed-on": ("asker", "worker", "nbytes"),
    "printed": ("base", "label", "worker", "stream", "text", "left_out"),
    "worker-joined": ("worker", "slots", "host", "resources", "memory_limit_bytes"),
    "worker-left": ("worker", "slots"),
    "paused": ("worker",),
    "unpaused": ("worker",),
    "spilled": ("worker", "nbytes"),
    "recovered": ("peers",),
    "sample": ("worker", "facts"),
    "scheduler": ("facts",),
}

#: The columns of a table, and how Arrow calls their types.
_COLUMNS: Final[Mapping[str, str]] = {
    "number": "int64",
    "time": "float64",
    "at": "float64",
    "event": "string",
    "key": "string",
    **dict.fromkeys(("base", "n", "nbytes", "slot", "origin", "left_out"), "int64"),
    **dict.fromkeys(("slots", "memory_limit_bytes", "peers"), "int64"),
    "seconds": "float64",
    **dict.fromkeys(
        ("label", "worker", "client", "source", "target", "asker"), "string"
    ),
    **dict.fromkeys(("kind", "type", "message", "why", "stream", "text"), "string"),
    # What has an inside of its own is written as JSON.
    **dict.fromkeys(("host", "resources", "facts", "more"), "string"),
}

#: Rows of one group of a Parquet file.
_ROWS_IN_GROUP: Final = 50_000


def rows(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Yield the events of a recording, each with the names of its fields."""
    # What the time of day was when the clock of the scheduler stood at zero.
    epoch = 0.0
    for record in records:
        if isinstance(record, Head):
            epoch = record.wall - record.overview["now"]
        if not isinstance(record, Batch):
            continue  # No event: a look at how things stood.
        for number, (at, word, *facts) in enumerate(record.events, record.first):
            row = {"number": number, "time": epoch + at, "at": at, "event": word}
            # What a later covey adds is kept, without a name.
            names = FIELDS.get(word, ())
            row.update(zip(names, facts, strict=False))
            if len(facts) > len(names):
                row["more"] = facts[len(names) :]
            if "base" in row and "label" in row:
                row["key"] = f"{row['label']}-{row['base']:x}"
            yield row


def parquet(found: Iterable[dict[str, Any]], path: Path) -> None:
    """Write rows as a table that has all columns; what a row has not is null.

    Raises:
        UsageError: pyarrow is not installed, or the file cannot be written.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError(
            "Parquet needs pyarrow: pip install pyarrow (covey[dask] has it); JSON lines "
            "need nothing: -o FILE.jsonl"
        ) from None
    schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in _COLUMNS.items()])
    every = iter(found)
    try:
        with pq.ParquetWriter(path, schema) as writer:
            while group := list(islice(every, _ROWS_IN_GROUP)):
                plain = [{k: _flat(v) for k, v in row.items()} for row in group]
                writer.write_table(pa.Table.from_pylist(plain, schema))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error}") from error


def _flat(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value
