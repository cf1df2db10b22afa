"""Sizes and durations: what is read, what is written, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.errors import UsageError
from covey.units import (
    counted,
    format_bytes,
    format_seconds,
    parse_bytes,
    parse_seconds,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1024", 1024),
        ("4GiB", 4 << 30),
        ("4 gib", 4 << 30),
        ("4Gi", 4 << 30),
        ("500 MB", 500 * 10**6),
        ("500M", 500 * 10**6),
        ("1.5 kB", 1500),
        (".5MiB", 1 << 19),
        ("2e3", 2000),
        ("1e3 kB", 10**6),
        ("  7 B ", 7),
        (17, 17),
        (17.6, 18),
        ("9007199254740993", 2**53 + 1),
    ],
)
def test_sizes_are_read(text, expected):
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0.0),
        ("5m", 300.0),
        ("300ms", 0.3),
        ("20 µs", 20e-6),
        ("20us", 20e-6),
        ("5 ns", 5e-9),
        ("1h 30min", 5400.0),
        ("1h30m", 5400.0),
        ("2 days", 172800.0),
        ("2.5", 2.5),
        ("1e3", 1000.0),
        (3, 3.0),
    ],
)
def test_durations_are_read(text, expected):
    assert parse_seconds(text) == pytest.approx(expected)
    assert isinstance(parse_seconds(text), float)


BAD = ["", " ", "four", "-1", "4 Gbit", "GiB", "1,5", "nan", "inf", "1 2", "9" * 5000]
BAD_NUMBERS = [-1, float("nan"), float("inf"), True, None, [1]]


@pytest.mark.parametrize("text", [*BAD, *BAD_NUMBERS, "1h"])
def test_what_is_no_size_is_named(text):
    with pytest.raises(UsageError, match="not a size: ") as caught:
        parse_bytes(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", [*BAD, *BAD_NUMBERS, "4GiB", "1h30", "30 1h"])
def test_what_is_no_duration_is_named(text):
    with pytest.raises(UsageError, match="not a duration: ") as caught:
        parse_seconds(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1023.9 * 1024, "1 MiB"),
        (12.34 * 2**20, "12.3 MiB"),
        (123.4 * 2**30, "123 GiB"),
        (1 << 50, "1 PiB"),
    ],
)
def test_sizes_are_written_in_three_digits(count, expected):
    assert format_bytes(count) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (340e-6, "340 µs"),
        (2.5e-9, "2.5 ns"),
        (0.0125, "12.5 ms"),
        (3.25, "3.25 s"),
        (59.97, "1m 00s"),
        (245, "4m 05s"),
        (3599.6, "1h 00m"),
        (7800, "2h 10m"),
        (86400 * 1.5, "1d 12h"),
        (-3, "-3 s"),
    ],
)
def test_durations_are_written_for_people(seconds, expected):
    assert format_seconds(seconds) == expected


@given(st.integers(0, 1 << 62))
def test_a_written_size_reads_back_closely(count):
    assert parse_bytes(format_bytes(count)) == pytest.approx(count, rel=0.006, abs=0.5)


@given(st.floats(1e-9, 1e7))
def test_a_written_duration_reads_back_closely(seconds):
    assert parse_seconds(format_seconds(seconds)) == pytest.approx(seconds, rel=0.02)


@given(st.text())
def test_any_text_is_read_or_refused_clearly(text):
    for parse in (parse_bytes, parse_seconds):
        try:
            assert parse(text) >= 0
        except UsageError as error:
            assert repr(text) in str(error)


def test_one_of_something_is_not_several():
    assert counted(0, "task") == "no tasks"
    assert counted(1, "task") == "1 task"
    assert counted(1200, "worker") == "1,200 workers"
