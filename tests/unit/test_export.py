"""Recordings for other programs: rows, Parquet tables, spans."""

from __future__ import annotations

import http.server
import inspect
import json
import threading

import pytest
from click.testing import CliRunner

from covey.cli import group
from covey.dashboard.export import FIELDS, parquet, rows
from covey.dashboard.spans import Spans
from covey.errors import UsageError
from covey.recording import Batch, Head, Writer
from covey.scheduler.core import history

HEAD = Head(1_000_000.0, {"now": 100.0, "next": 0})
EVENTS = [
    [101.0, "submitted", 0x10, 3, "inc", "client"],
    [102.0, "ran", 0x10, 2, "inc", "w", 0.5, 80, 1],
    [102.5, "erred", 0x12, "inc", "w", 0.25, 0],
    [103.0, "failed", 0x12, 1, "inc", "w", "raised", "ValueError", "no", 0x12],
    [103.5, "sample", "w", {"cpu": 1.0}],
    [104.0, "from-later", 1, 2],
]


def records():
    return [HEAD, Batch(7, 0, 105.0, EVENTS)]


def test_rows_have_the_names_of_their_fields():
    found = list(rows(records()))
    assert [row["number"] for row in found] == list(range(7, 13))
    assert found[1] == {
        "number": 8,
        "time": 1_000_002.0,
        "at": 102.0,
        "event": "ran",
        "base": 0x10,
        "n": 2,
        "label": "inc",
        "worker": "w",
        "seconds": 0.5,
        "nbytes": 80,
        "slot": 1,
        "key": "inc-10",
    }
    assert found[-1]["more"] == [1, 2], "what a later covey adds is kept"


def test_every_event_of_the_scheduler_has_names():
    """The table is the one that the scheduler's history has in its docstring."""
    told = inspect.getdoc(history).partition("::")[2].strip().splitlines()
    counts = {word: len(names) for word, *names in map(str.split, told)}
    assert {word: len(names) for word, names in FIELDS.items()} == counts


def test_a_table_has_a_row_for_each_event(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "events.parquet"
    parquet(rows(records()), path)
    table = pq.read_table(path)
    assert table.num_rows == len(EVENTS)
    found = table.to_pylist()
    assert found[1]["key"] == "inc-10" and found[1]["client"] is None
    assert json.loads(found[4]["facts"]) == {"cpu": 1.0}
    with pytest.raises(UsageError, match="cannot be written"):
        parquet(rows(records()), tmp_path / "no" / "where.parquet")


@pytest.fixture
def recording(tmp_path):
    from msgspec import msgpack

    path = tmp_path / "run.covey"
    writer = Writer(path)
    writer.head(HEAD.wall, HEAD.overview)
    writer.batch(7, len(EVENTS), 0, msgpack.encode(EVENTS), 105.0)
    writer.close()
    return path


def test_the_command_writes_what_the_name_says(recording, tmp_path):
    lines = CliRunner().invoke(group, ["export", str(recording)]).output.splitlines()
    assert [json.loads(line)["event"] for line in lines] == [e[1] for e in EVENTS]
    path = tmp_path / "events.jsonl"
    CliRunner().invoke(group, ["export", str(recording), "-o", str(path)])
    assert path.read_text().splitlines() == lines
    wrong = CliRunner().invoke(group, ["export", str(recording), "-o", "events.xls"])
    assert isinstance(wrong.exception, UsageError)


@pytest.fixture
def spans():
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory = pytest.importorskip(
        "opentelemetry.sdk.trace.export.in_memory_span_exporter"
    )
    from opentelemetry.sdk.trace import TracerProvider

    kept = memory.InMemorySpanExporter()
    made = TracerProvider()
    made.add_span_processor(export.SimpleSpanProcessor(kept))
    return Spans(made.get_tracer("covey"), 1_000_000.0), kept


def test_a_submission_is_a_trace_and_its_runs_are_below(spans):
    made, kept = spans
    made.take(EVENTS)
    ran, erred, root = kept.get_finished_spans()
    assert root.name == "submit inc" and root.status.status_code.name == "ERROR"
    assert root.events[0].attributes["exception.type"] == "ValueError"
    assert ran.parent.span_id == erred.parent.span_id == root.context.span_id
    assert (ran.start_time, ran.end_time) == (1_000_101_500_000_000, 10**9 * 1_000_102)
    assert ran.attributes["covey.tasks"] == 2 and ran.attributes["covey.worker"] == "w"
    assert root.end_time == 10**9 * 1_000_103
    assert not made._open and not made._bases


def test_what_has_not_ended_is_ended_and_marked(spans):
    made, kept = spans
    made.take(EVENTS[:2] + EVENTS[:1])
    made.close(110.0)
    root = kept.get_finished_spans()[-1]
    assert root.attributes["covey.unfinished"] == 1
    assert root.end_time == 10**9 * 1_000_110


def test_the_command_sends_them_where_the_variables_say(recording, monkeypatch):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    seen = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            seen.append(
                (self.path, self.rfile.read(int(self.headers["Content-Length"])))
            )
            self.send_response(200)
            self.end_headers()

        def log_message(self, *what):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        place = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", place)
        answer = CliRunner().invoke(group, ["telemetry", "--replay", str(recording)])
        server.shutdown()
        thread.join()
    assert answer.exit_code == 0, answer.output
    assert seen[0][0] == "/v1/traces" and b"submit inc" in b"".join(b for _, b in seen)
