"""Numbers for Prometheus, as it reads them."""

from __future__ import annotations

import bisect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.dashboard.access import Gate
from covey.dashboard.durations import Durations
from covey.dashboard.metrics import BUCKETS, buckets, text
from covey.dashboard.model import Model
from covey.recording import Batch
from covey.secret import Secret

NAME = 'a"b\\c\n'


def model():
    made = Model()
    facts = {
        "cpu": 1.5,
        "memory": {"heap": 7, "shared": 8, "spilled": 9, "paused": True},
        "moved": {
            "sent": 10,
            "received": 11,
            "links": {f"to {number}": number for number in range(100)},
        },
    }
    events = [
        (1.0, "worker-joined", "w", 2, "host", {}, 100),
        (1.0, "submitted", 1, 5, NAME, "client"),
        (2.0, "ran", 1, 4, NAME, "w", 2.0, 0, 0),
        (2.0, "lost", 1, 1, NAME),
        (3.0, "failed", 5, 1, NAME, "w", "raised", "ValueError", "no", 5),
        (3.0, "sample", "w", facts),
        (3.0, "passed-on", "laptop", "w", 1000),
        (4.0, "passed-on", "laptop", "w", 500),
        (4.0, "passed-on", "other", "w", 7),
    ]
    made.take(Batch(0, 2, 4.0, events))
    return made


@pytest.fixture
def read():
    """Return every sample: name and labels with the value."""
    parser = pytest.importorskip("prometheus_client.parser")

    def samples(made, accept=""):
        written = text(made, accept)[0].decode()
        return {
            (s.name, *sorted(s.labels.values())): s.value
            for family in parser.text_string_to_metric_families(written)
            for s in family.samples
        }

    return samples


def test_prometheus_reads_what_was_counted(read):
    found = read(model())
    assert found["covey_workers",] == 1
    assert found["covey_tasks_done_total",] == 4, "what is lost was done all the same"
    assert found["covey_tasks_lost_total",] == 1
    assert found["covey_events_missed_total",] == 2
    assert found["covey_function_failed_total", NAME] == 1
    assert found["covey_function_seconds_count", NAME] == 4
    assert found["covey_function_seconds_bucket", "1", NAME] == 4
    assert found["covey_function_seconds_bucket", "0.1", NAME] == 0
    assert found["covey_worker_memory_bytes", "spilled", "w"] == 9
    assert found["covey_worker_data_bytes_total", "received", "w"] == 11
    assert found["covey_worker_paused", "w"] == 1
    # Each link is a series, so only the busiest are told of.
    links = {key: n for key, n in found.items() if "link" in key[0]}
    assert sorted(links.values()) == list(range(84, 100))
    assert found["covey_passage_bytes_total", "laptop", "w"] == 1500
    assert found["covey_passage_bytes_total", "other", "w"] == 7
    assert links["covey_worker_link_bytes_total", "to 99", "w"] == 99


def test_of_nothing_there_are_numbers_too(read):
    assert read(Model())["covey_tasks_done_total",] == 0


def test_the_newer_format_is_spoken_to_who_asks_for_it():
    pytest.importorskip("prometheus_client")
    written, kind = text(model(), "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert written.endswith(b"# EOF\n")
    assert text(model())[1].startswith("text/plain")


@given(st.lists(st.floats(1e-6, 900.0), max_size=50))
def test_a_histogram_only_grows_and_is_right_within_a_box(values):
    durations = Durations()
    for value in values:
        durations.add(value)
    found = [n for _, n in buckets(durations)]
    assert found == sorted(found) and found[-1] == len(values)
    exact = sorted(values)
    for end, n in zip(BUCKETS, found, strict=False):
        assert bisect.bisect(exact, end / 1.3) <= n <= bisect.bisect(exact, end * 1.3)


def test_what_lets_prometheus_in_lets_nobody_do_more():
    gate, other = Gate(Secret.fresh()), Gate(Secret.fresh())
    assert gate.may_measure(f"Bearer {gate.bearer()}")
    for wrong in ("", "Bearer", "Bearer ", f"Bearer {other.bearer()}", "Bearer \u20ac"):
        assert not gate.may_measure(wrong)
    assert gate.right_of(gate.bearer()) is None and gate.admit(gate.bearer()) is None
