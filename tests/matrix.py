"""The tests with the oldest and with the newest versions that pyproject.toml allows.

uv resolves both; each gets a virtual environment of its own in ``build/matrix``, beside the list of
its versions. Which rows, which versions are held, and where else to look for packages are flags;
what is left goes to pytest: ``--rows oldest --hold torch==2.13.0 tests/spaces``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "build" / "matrix"
ROWS = {"oldest": "lowest-direct", "newest": "highest"}
# Warnings of what is older or newer than what is tested daily are not ours.
PYTEST = ["-m", "pytest", "-o", "addopts=-q --strict-markers", "-W", "default"]


def run(*words: str | Path) -> None:
    """A program that must succeed."""
    print("$", *words, flush=True)
    subprocess.run(words, check=True, cwd=ROOT)


def uv() -> Path:
    """The resolver, in an environment of its own."""
    tool = PLACE / "uv"
    if not (tool / "bin" / "uv").exists():
        venv.create(tool, with_pip=True)
        run(tool / "bin" / "python", "-m", "pip", "install", "--quiet", "uv")
    return tool / "bin" / "uv"


def installed(row: str, held: list[str], sources: list[str]) -> Path:
    """Python of a fresh environment with the versions of a row.

    Args:
        row: One of ``ROWS``.
        held: Versions that are taken whatever is asked for, as ``torch==2.13.0``.
        sources: Folders or pages with more wheels.
    """
    tool, versions, place = uv(), PLACE / f"{row}.txt", PLACE / row
    overrides = PLACE / "held.txt"
    overrides.write_text("\n".join(held))
    found = [word for source in sources for word in ("--find-links", source)]
    asked = ["--extra", "dev", "--resolution", ROWS[row], "--override", str(overrides), *found]
    run(tool, "pip", "compile", "pyproject.toml", *asked, "--quiet", "--output-file", str(versions))
    run(tool, "venv", "--quiet", "--clear", "--python", sys.executable, str(place))
    python = place / "bin" / "python"
    run(tool, "pip", "install", "--quiet", "--python", python, *found, "-r", str(versions))
    run(tool, "pip", "install", "--quiet", "--python", python, "--no-deps", "-e", ".")
    return python


def main() -> None:
    """See this module."""
    parser = argparse.ArgumentParser(description=__doc__)
    # Each is given as often as needed: what takes several would take the tests behind it, too.
    parser.add_argument("--rows", action="append", choices=ROWS)
    parser.add_argument("--hold", action="append", default=[], metavar="NAME==VERSION")
    parser.add_argument("--find-links", action="append", default=[], metavar="FOLDER")
    asked, tests = parser.parse_known_args()
    PLACE.mkdir(parents=True, exist_ok=True)
    for row in asked.rows or ROWS:
        python = installed(row, asked.hold, asked.find_links)
        run(python, *PYTEST, *tests)


if __name__ == "__main__":
    main()
