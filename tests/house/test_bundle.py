"""The dashboard's page in the repository is built from the sources beside it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import covey

DASHBOARD = Path(covey.__file__).parent / "dashboard"
BUNDLE_BYTES_MAX = 300_000


def test_the_page_was_built_from_these_sources():
    web = DASHBOARD / "web"
    files = ["index.html", "package.json", "package-lock.json", "vite.config.js"]
    files += [str(p.relative_to(web)) for p in (web / "src").rglob("*") if p.is_file()]
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + (web / name).read_bytes() + b"\0")
    built = (DASHBOARD / "static" / "sources.sha256").read_text().strip()
    assert built == digest.hexdigest(), "run `make web`, and commit dashboard/static"


def test_the_page_is_small_and_asks_nobody_else():
    files = list((DASHBOARD / "static").iterdir())
    assert sum(path.stat().st_size for path in files) < BUNDLE_BYTES_MAX
    html = (DASHBOARD / "static" / "index.html").read_text()
    assert "https:" not in html
    assert 'src="./app.js"' in html
