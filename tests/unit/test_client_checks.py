"""What users give is checked before it is put into a message."""

from __future__ import annotations

import pytest

from covey.client.checks import check_count, check_names, check_text
from covey.client.options import names_of, options_of
from covey.errors import UsageError
from covey.serde.functions import label


@pytest.mark.parametrize("key", [3, ("a", 1), b"key", None])
def test_what_is_no_text_is_refused_by_its_type(key):
    with pytest.raises(UsageError, match=f"key= takes a text.*{type(key).__name__}"):
        check_text(key, "key=")


def test_a_text_that_is_too_long_is_not_shown_whole():
    with pytest.raises(UsageError, match="20,000,000") as raised:
        check_text("x" * 20_000_000, "key=")
    assert len(str(raised.value)) < 200


def test_half_a_character_is_refused():
    with pytest.raises(UsageError, match=r"\\ud800"):
        check_text("a\ud800", "key=")
    assert check_text("aé\U0001f600", "key=") == "aé\U0001f600"


@pytest.mark.parametrize("number", [-1, "x", 1.0, True, 1 << 63])
def test_a_number_of_an_event_is_a_whole_one(number):
    with pytest.raises(UsageError, match="since= takes a whole number"):
        check_count(number, "since=")


def test_names_are_one_text_or_several():
    assert check_names("one", "workers=") == ("one",)
    assert check_names(iter(["one", "two"]), "workers=") == ("one", "two")
    for wrong in (3, [3], ["\ud800"]):
        with pytest.raises(UsageError, match="workers="):
            check_names(wrong, "workers=")
        with pytest.raises(UsageError, match="workers="):
            names_of(wrong)
        with pytest.raises(UsageError, match="workers="):
            options_of(0, 0, None, None, wrong, False)


@pytest.mark.parametrize("name", [3, "\ud800"])
def test_names_of_resources_are_texts(name):
    with pytest.raises(UsageError, match="resources="):
        options_of(0, 0, None, {name: 1}, None, False)


class Named(type):
    """Classes whose name is whatever they like."""

    @property
    def __name__(cls):
        return cls.called


@pytest.mark.parametrize("called", [3, None, "half \ud800"])
def test_every_label_can_be_sent(called):
    class Odd(metaclass=Named):
        def __call__(self):
            pass

    Odd.called = called
    for function in (Odd(), Odd):
        assert isinstance(label(function), str)
        assert label(function).encode()


@pytest.mark.parametrize("timeout", [[1], {}, 0, -1, float("nan"), b"1"])
def test_a_timeout_is_seconds(timeout):
    with pytest.raises(UsageError, match="timeout= takes seconds"):
        options_of(0, 0, timeout, None, None, False)


@pytest.mark.parametrize("resources", ["GPU", ["GPU"], 3])
def test_resources_are_amounts(resources):
    with pytest.raises(UsageError, match="resources= takes amounts"):
        options_of(0, 0, None, resources, None, False)
