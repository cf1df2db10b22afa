"""What notebooks show."""

from __future__ import annotations

from html.parser import HTMLParser

from covey.client.html import bar, card


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
