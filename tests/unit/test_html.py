"""What notebooks show."""

from __future__ import annotations

from html.parser import HTMLParser

from covey.client.bars import Row, notebook_html
from covey.client.html import bar, card, folded
from covey.errors import TaskError


class Balanced(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check(text):
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []


def test_what_users_named_is_escaped():
    text = card("<b>&", [("<i>", "<script>alert(1)</script>")], bar(0.5))
    check(text)
    assert "<script>" not in text
    assert "&lt;b&gt;&amp;" in text


def test_a_bar_stays_in_its_box():
    assert "width:100.0%" in bar(7.0)
    assert "width:0.0%" in bar(-1.0)


def test_errors_show_what_is_known_of_them():
    error = TaskError("<b>no</b>")
    check(error._repr_html_())
    error.add_note("Remote <traceback>")
    text = error._repr_html_()
    check(text)
    assert "&lt;b&gt;no" in text and "Remote &lt;traceback&gt;" in text
    assert "TaskError" in text


def test_a_long_text_is_folded():
    text = folded("<t>", "line\n<i>")
    check(text)
    assert "&lt;t&gt;" in text and "<i>" not in text
    assert folded("t", "") == ""


def test_progress_is_a_card_with_a_bar_for_each_function():
    text = notebook_html([Row("<f>", 10, 5, 1), Row("g", 0, 0)], 2.0)
    check(text)
    assert "&lt;f&gt;" in text and "width:50.0%" in text and "1 failed" in text
