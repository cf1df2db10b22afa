"""How things show themselves in a notebook: plain HTML, no style sheet, no dependency."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

_CARD = (
    "border:1px solid #8884;border-left:4px solid #0f8f7a;border-radius:6px;"
    "padding:8px 12px;display:inline-block;min-width:22em;font-family:system-ui,sans-serif"
)
_CELL = "text-align:left;padding:1px 14px 1px 0;border:0"


def card(title: str, rows: Iterable[tuple[str, Any]], note: str = "") -> str:
    """Return a small card: a title, names with values, and a note below."""
    lines = "".join(
        f"<tr><td style='{_CELL};opacity:.65'>{escape(name)}</td>"
        f"<td style='{_CELL}'>{escape(str(value))}</td></tr>"
        for name, value in rows
    )
    return (
        f"<div style='{_CARD}'><b>{escape(title)}</b>"
        f"<table style='border-collapse:collapse;margin:4px 0 0'>{lines}</table>"
        f"{note}</div>"
    )


def folded(title: str, text: str) -> str:
    """Return a long text behind a title that opens it; nothing if there is none."""
    if not text:
        return ""
    return (
        f"<details style='margin-top:4px'><summary>{escape(title)}</summary>"
        f"<pre style='white-space:pre-wrap'>{escape(text)}</pre></details>"
    )


def bar(share: float, color: str = "#0f8f7a") -> str:
    """Return a bar that is filled to *share*."""
    width = round(100 * min(1.0, max(0.0, share)), 1)
    return (
        "<div style='background:#8883;border-radius:4px;height:8px;margin:6px 0 2px'>"
        f"<div style='background:{color};width:{width}%;height:8px;border-radius:4px'>"
        "</div></div>"
    )
