"""The dashboard's model: sums, bounds, frames that miss nothing, suspects."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.dashboard import model
from covey.dashboard.durations import Durations
from covey.dashboard.model import Model
from covey.dashboard.suspects import suspects
from covey.dashboard.trace import trace
from covey.recording import Batch, Head

OVERVIEW = {
    "cluster": "c",
    "now": 100.0,
    "next": 7,
    "workers": [],
    "functions": {},
    "running": {},
    "ready": 0,
    "known": 0,
    "slots": 0,
    "clients": [],
    "impossible": [],
    "counters": {},
}
MEMORY = {"heap": 100, "shared": 50, "spilled": 0, "total": 150, "limit": 1000}


def joined(name="alice", at=100.0):
    return [at, "worker-joined", name, 2, "here", {}, 1000]


def ran(base, n=1, at=101.0, seconds=0.5, label="inc", worker="alice", slot=0):
    return [at, "ran", base, n, label, worker, seconds, 8 * n, slot]


def submitted(n, label="inc"):
    return [100.0, "submitted", 1, n, label, "client"]


def failed(base, message="no", label="inc", origin=-1):
    return [
        101.0,
        "failed",
        base,
        1,
        label,
        "alice",
        "raised",
        "ValueError",
        message,
        origin,
    ]


def fed(*events, first=7, now=102.0, overview=OVERVIEW):
    made = Model()
    made.begin(Head(1e9, overview))
    made.take(Batch(first, 0, now, list(events)))
    return made


def test_counts_durations_and_places():
    made = fed(joined(), submitted(10), ran(1, 4, seconds=2.0), ran(5, 1), failed(6))
    line = made.functions["inc"].fields()
    assert (line["submitted"], line["done"], line["failed"]) == (10, 5, 1)
    assert line["pending"] == 4
    assert line["mean"] == pytest.approx(0.5)
    assert line["p95"] == pytest.approx(0.5, rel=0.1)
    assert made.workers["alice"].done == 5
    totals = made.totals()
    assert (totals["done"], totals["failed"], totals["workers"]) == (5, 1, 1)
    assert made.wall == pytest.approx(1e9 + 2.0)


def test_rectangles_of_a_lane_never_overlap():
    made = fed(ran(1, at=101.0), ran(2, at=101.1), ran(3, at=101.2, slot=1))
    rects = made.rects.since(0).events
    assert rects[0][3] <= rects[1][2]
    assert rects[2][2] == pytest.approx(100.7)


def test_failures_are_grouped_by_cause_and_inherited_ones_left_out():
    made = fed(
        *(failed(base, f"line {base}\nmore") for base in range(30)),
        failed(50, "no column x"),
        failed(51, "line 1", origin=3),
    )
    counts = {key[2]: line.count for key, line in made.errors.items()}
    assert counts == {"line #": 30, "no column x": 1}
    assert len(made.errors["inc", "ValueError", "line #"].tasks) == 20
    assert made.functions["inc"].failed == 32


def test_a_worker_that_left_is_shown_as_lost():
    made = fed(joined(), joined("bob"), [101.0, "worker-left", "alice", 2])
    assert made.totals()["lost"] == 1
    assert made.workers["alice"].fields()["left"] == 101.0
    assert "worker alice left" in suspects(made)[0]["text"]


def test_who_joins_late_gets_the_counts_of_before():
    functions = {"inc": {"submitted": 9, "done": 6, "failed": 1, "seconds": 0.25}}
    made = fed(ran(1), overview={**OVERVIEW, "functions": functions})
    line = made.functions["inc"].fields()
    assert (line["submitted"], line["done"], line["failed"]) == (9, 7, 1)
    assert line["mean"] == pytest.approx((6 * 0.25 + 0.5) / 7)


def test_what_was_dropped_is_counted_and_told():
    made = fed(joined())
    made.take(Batch(500, 492, 103.0, [ran(1)]))
    assert made.dropped == 492
    assert made.next_event == 501
    assert any("492 events" in finding["text"] for finding in suspects(made))


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(model, "FUNCTIONS_MAX", 10)
    monkeypatch.setattr(model, "ERRORS_MAX", 10)
    monkeypatch.setattr(model, "TASKS_MAX", 10)
    made = fed(
        *(ran(base, label=f"f{base}") for base in range(100)),
        *(failed(base, "why " + "x" * base) for base in range(100)),
        *(
            event
            for n in range(model.GONE_MAX + 50)
            for event in (joined(f"w{n}"), [101.0, "worker-left", f"w{n}", 2])
        ),
    )
    assert len(made.functions) == 11
    assert made.functions["(others)"].done == 90
    assert len(made.errors) == 10
    assert len(made.ran) == 10
    assert len(made.workers) <= model.GONE_MAX + 1


def apply(page, frame):
    """Take a frame in as the page does."""
    if frame["fresh"]:
        page.clear()
    for table in ("functions", "workers", "errors"):
        for line in frame[table]:
            name = (
                line.get("label")
                if table == "functions"
                else json.dumps(line.get("id", line.get("name")))
            )
            page[table, name] = line
    for ring in ("rects", "logs", "points", "history"):
        page.setdefault(ring, []).extend(frame[ring])
    page["totals"] = frame["totals"]


EVENTS = st.one_of(
    st.builds(ran, st.integers(0, 50), st.integers(1, 5), label=st.sampled_from("fgh")),
    st.builds(submitted, st.integers(1, 9), label=st.sampled_from("fgh")),
    st.builds(failed, st.integers(0, 9), st.sampled_from(["a", "b"])),
    st.builds(joined, st.sampled_from(["alice", "bob"])),
    st.just([101.0, "worker-left", "bob", 2]),
    st.just([101.0, "printed", 5, "f", "alice", "stdout", "hello\n", 0]),
    st.just([101.0, "moved", 5, 1, "alice", "bob", 100, 0.1]),
    st.just(
        [101.0, "sample", "alice", {"memory": MEMORY, "running": [(0, 9, "f", 0.5)]}]
    ),
    st.just([101.0, "scheduler", {"ready": 3, "lag_seconds": 0.01, "cpu": 0.1}]),
)


@given(st.lists(st.lists(EVENTS, max_size=6), max_size=6), st.sets(st.integers(0, 5)))
def test_a_page_that_skips_frames_sees_the_same_in_the_end(batches, looks):
    made = Model()
    made.begin(Head(1e9, OVERVIEW))
    page, cursor, number = {}, "", 7
    for index, events in enumerate(batches):
        made.take(Batch(number, 0, 101.0 + index, events))
        number += len(events)
        if index in looks:
            frame = made.frame(cursor)
            cursor = frame["cursor"]
            apply(page, json.loads(json.dumps(frame)))
    apply(page, json.loads(json.dumps(made.frame(cursor))))
    whole = {}
    apply(whole, json.loads(json.dumps(made.frame(""))))
    assert page == whole


def test_marks_of_another_process_begin_anew():
    made = fed(ran(1))
    for cursor in (
        "",
        "nonsense",
        "1.2.3",
        "999999.1.1.1.1",
        "-1.0.0.0.0",
        "1.1.1.1.x",
    ):
        frame = made.frame(cursor)
        assert frame["fresh"]
        assert len(frame["rects"]) == 1


def test_search_finds_by_name_worker_and_place_in_a_stretch():
    made = fed(ran(0x10, 16), ran(0x30, label="dec"), joined())
    assert [row["key"] for row in made.search("dec")] == ["dec-30"]
    assert [row["key"] for row in made.search("inc-1f")] == ["inc-10"]
    assert made.search("inc-20") == []
    assert len(made.search("alice")) == 2


def test_impossible_tasks_come_first_with_the_reason():
    impossible = [{"n": 12, "key": "f-1", "asks": "GPU=1", "offers": "alice (none)"}]
    made = fed(joined(), overview={**OVERVIEW, "impossible": impossible, "ready": 12})
    finding = suspects(made)[0]
    assert "12 tasks cannot run for want of GPU=1" in finding["text"]
    assert finding["link"] == "#/tasks/f-1"


def test_idle_workers_and_many_failures():
    made = fed(
        joined("idle"),
        joined("busy"),
        ran(1, at=129.0, worker="busy"),
        *(failed(base) for base in range(5)),
        [129.0, "scheduler", {"ready": 40, "lag_seconds": 0.0}],
        now=130.0,
    )
    texts = " | ".join(finding["text"] for finding in suspects(made))
    assert "worker idle has run nothing for 30 s, with 40 tasks waiting" in texts
    assert "worker busy" not in texts
    assert "5 of 6 tasks of inc failed (83%)" in texts


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_quantiles_are_right_within_a_tenth(values, share):
    durations = Durations()
    for value in values:
        durations.add(value)
    exact = sorted(values)[max(0, -(-int(share * len(values) * 1e6) // 1000000) - 1)]
    assert durations.quantile(share) <= max(values)
    assert durations.mean == pytest.approx(sum(values) / len(values))
    at_most = sum(value <= durations.quantile(share) * 1.1 for value in values)
    assert at_most >= int(share * len(values)) or exact


def test_a_trace_has_a_track_for_each_slot_and_no_overlap():
    made = fed(
        ran(1, at=101.0),
        ran(2, at=101.2),
        ran(3, slot=1),
        [101.0, "moved", 5, 1, "bob", "alice", 100, 0.5],
        [101.1, "moved", 6, 1, "bob", "alice", 100, 0.5],
    )
    events = [e for e in trace(made)["traceEvents"] if e["ph"] == "X"]
    tracks = {}
    for event in events:
        tracks.setdefault((event["pid"], event["tid"]), []).append(event)
    assert len(tracks) == 4
    for found in tracks.values():
        ends = 0.0
        for event in sorted(found, key=lambda e: e["ts"]):
            assert event["ts"] >= ends - 0.2
            ends = event["ts"] + event["dur"]
