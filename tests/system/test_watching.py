"""What tasks print, and recordings, with real processes."""

from __future__ import annotations

import concurrent.futures
import io
import sys
import threading
import time

import pytest

import covey
import covey.errors
from covey import config
from covey.recording import Batch, Told, read

pytestmark = pytest.mark.system


def noisy(number):
    print("hello", number)  # noqa: T201
    if number == 3:
        print("not this one", file=sys.stderr)  # noqa: T201
        raise ValueError("three")
    return number


def test_prints_are_kept_by_task_and_a_failure_shows_its_last_lines(client):
    futures = client.map(noisy, range(5))
    covey.wait(futures)
    ((key, stream, text),) = client.logs(futures[2])
    assert (key, stream, text) == (futures[2].key, "stdout", "hello 2\n")
    notes = "\n".join(futures[3].exception().__notes__)
    assert "The last lines that it printed:\nhello 3\nnot this one" in notes
    assert client.logs([]) == []


def test_a_recording_has_what_happened(client, tmp_path):
    path = tmp_path / "run.covey"
    with covey.record(path, client):
        futures = client.map(noisy, range(5))
        covey.wait(futures)
    head, *rest = read(path)
    assert head.overview["slots"] == 2
    batches = [record for record in rest if isinstance(record, Batch)]
    assert not any(batch.dropped for batch in batches)
    told = {record.topic: record for record in rest if isinstance(record, Told)}
    assert set(told) == {"task", "graph", "memory"}
    assert told["task"].key == futures[3].key
    assert b"three" in told["task"].answer["payload"]
    assert [node[0] for node in told["graph"].answer["nodes"]]
    events = [event for batch in batches for event in batch.events]
    done = sum(event[3] for event in events if event[1] == "ran")
    assert done == 4
    assert [e[7:9] for e in events if e[1] == "failed"] == [["ValueError", "three"]]
    assert client.explain(futures[0].key).startswith(f"{futures[0].key}: it is done")


def test_what_a_notebook_shows(client):
    futures = client.map(noisy, range(3))
    covey.wait(futures)
    assert "3 futures of noisy" in futures._repr_html_()
    assert f"Future {futures[0].key}" in futures[0]._repr_html_()
    assert "finished" in futures[0]._repr_html_()
    assert "with 2 slots" in client._repr_html_()
    failed = client.submit(noisy, 3)
    covey.wait(failed)
    shown = failed._repr_html_()
    assert "ValueError" in shown and "Traceback" in shown and "not this one" in shown
    assert "LocalCluster" in client.cluster._repr_html_()


def test_the_graph_behind_a_future_is_drawn(client, tmp_path):
    first = client.submit(abs, -1)
    second = client.submit(pow, first, 2)
    other = client.submit(len, "x")
    covey.wait([second, other])
    path = tmp_path / "graph.svg"
    drawing = covey.visualize(second, filename=path, client=client)
    assert path.read_text() == drawing.svg
    assert first.key in drawing.svg and second.key in drawing.svg
    assert other.key not in drawing.svg
    assert other.key in covey.visualize(client=client).svg


def test_a_client_that_asks_sees_what_its_tasks_print(client, capsys):
    target = client.cluster
    with (
        covey.Client(target, prints=True, set_as_default=False) as asking,
        covey.Client(target, set_as_default=False) as other,
    ):
        mine = asking.map(noisy, range(3))
        theirs = other.map(noisy, range(10, 12))
        covey.wait([*mine, *theirs])
        failing = asking.submit(noisy, 3)
        covey.wait(failing)
    shown, errors = capsys.readouterr()
    for number, future in enumerate(mine):
        assert f"{future.key}  hello {number}\n" in shown
    assert "hello 10" not in shown
    assert f"{failing.key}  not this one\n" in errors


def test_a_client_shows_the_progress_of_all_that_it_waits_for(client, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    gate = threading.Event()
    with (
        config.override({"client.progress": "always"}),
        covey.Client(client.cluster, progress=True, set_as_default=False) as asking,
    ):
        monkeypatch.setattr(asking._shown[0], "_look", noting(asking._shown[0], gate))
        sleepers = asking.map(time.sleep, [0.2] * 10)
        assert gate.wait(30), "no bar was drawn"
        asking.gather(sleepers)
    assert "/ 10" in stream.getvalue()
    assert stream.getvalue().endswith("\n")


def noting(standing, gate):
    """Return what looks as *standing* does, and opens *gate*."""
    look = standing._look

    def noticed():
        gate.set()
        return look()

    return noticed


def test_a_persisted_collection_is_waited_for_and_drawn(client):
    da = pytest.importorskip("dask.array")
    table = client.persist(da.ones((8, 8), chunks=4) + 1)
    covey.wait(table, timeout=60)
    assert covey.progress(table, notebook=False).done == 4
    drawn = covey.visualize(table, client=client).svg
    assert drawn.count("<g>") >= 4 and "not submitted" not in drawn


def test_who_waits_for_news_of_a_client_that_is_closed_hears_of_it(client):
    asking = covey.Client(client.cluster, set_as_default=False)
    number, _, _ = asking.events_after(0)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        far = pool.submit(asking.events_after, number + 1_000_000)
        while not asking._engine._questions.open():
            client.scheduler_info()
        asking.close()
        with pytest.raises(covey.errors.Closed, match="before the answer came"):
            far.result(30)
