"""``python -m tests.matrix.environment 3.12 FOLDER``: a place for a client of 3.12."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from covey.worker.interpreters import candidates

ROOT = Path(__file__).parents[2]


def main(minor: str, folder: str) -> None:
    """Make an environment with covey and NumPy, if that Python is on this machine."""
    if f"{sys.version_info[0]}.{sys.version_info[1]}" == minor:
        return  # The tests themselves run in it.
    python = Path(folder) / "bin" / "python"
    if not python.exists():
        for program in candidates(minor):
            made = subprocess.run([program, "-m", "venv", folder], check=False)
            if made.returncode == 0:
                break
        else:
            sys.stderr.write(
                f"there is no Python {minor} on this machine; its cells are skipped\n"
            )
            return
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--editable", str(ROOT), "numpy"], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
