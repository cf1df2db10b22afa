"""The built page: where it is, and what to do when it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from covey.errors import UsageError

STATIC: Final = Path(__file__).parent / "static"


def page() -> Path:
    """Return the path of the page.

    Raises:
        UsageError: it was not built.
    """
    path = STATIC / "index.html"
    if not path.is_file():
        raise UsageError(
            f"the dashboard's page is missing at {path}. In a checkout, `make web` builds "
            f"it (that needs Node 20 or newer); an installed covey brings it along"
        )
    return path


def report(frame: dict[str, Any], title: str) -> str:
    """Return one HTML file with the page and all its data, to be opened offline.

    Args:
        frame: what the page is sent when it is opened, and maybe ``answers``, by
            address, to what it would ask.
        title: of the document.
    """
    html = page().read_text(encoding="utf-8")
    script = (STATIC / "app.js").read_text(encoding="utf-8")
    style = (STATIC / "app.css").read_text(encoding="utf-8")
    data = msgspec.json.encode(frame).decode()
    # In a script element only the end of a script is special.
    data = data.replace("<", "\\u003c")
    script = script.replace("</script", "<\\/script")
    html = html.replace("<title>covey</title>", f"<title>{_text(title)}</title>")
    html = _without_links(html)
    head = f"<style>{style}</style></head>"
    body = (
        f'<script type="application/json" id="recording">{data}</script>'
        f'<script type="module">{script}</script></body>'
    )
    return html.replace("</head>", head).replace("</body>", body)


def _without_links(html: str) -> str:
    """Drop the lines that load style and script from elsewhere."""
    lines = html.splitlines()
    return "\n".join(
        line for line in lines if "app.js" not in line and "app.css" not in line
    )


def _text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
