"""What tasks print, and recordings, with real processes."""

from __future__ import annotations

import sys

import pytest

import covey
from covey.recording import Batch, read

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
    head, *batches = read(path)
    assert head.overview["slots"] == 2
    assert all(isinstance(batch, Batch) and not batch.dropped for batch in batches)
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
