"""The tests with the oldest and with the newest versions that pyproject.toml allows.

uv resolves both; each gets a virtual environment of its own in ``build/matrix``, beside the list of
its versions: the oldest with the first Python, the newest with each. uv looks for these, and
fetches what is not there.

Flags choose a part: which rows and Pythons, which versions are held or left out, where else to look
for packages, and whether to take the environments of last time. What is left goes to pytest:
``--rows oldest --python 3.12 --again --hold torch==2.13.0 tests/spaces``.
"""

from __future__ import annotations

import argparse
import subprocess
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "build" / "matrix"
ROWS = {"oldest": "lowest-direct", "newest": "highest"}
PYTHONS = ["3.11", "3.12", "3.13"]
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


def installed(row: str, version: str, asked: argparse.Namespace) -> Path:
    """Python of an environment with the versions of a row.

    Args:
        row: One of ``ROWS``.
        version: Of Python, or where one is.
        asked: ``hold``, versions that are taken whatever is asked for, as ``torch==2.13.0``;
            ``without``, packages that are left out whoever needs them; ``find_links``, folders or
            pages with more wheels; ``again``, whether an environment of last time will do.
    """
    tool = uv()
    name = f"{row}-{version}" if version in PYTHONS else f"{row}-{Path(version).name}"
    versions, place, python = PLACE / f"{name}.txt", PLACE / name, PLACE / name / "bin" / "python"
    if asked.again and python.exists():
        return python
    held = PLACE / "held.txt"
    left_out = [f"{package}; python_version < '3'" for package in asked.without]
    held.write_text("\n".join(asked.hold + left_out))
    found = [word for source in asked.find_links for word in ("--find-links", source)]
    run(tool, "venv", "--quiet", "--clear", "--python", version, str(place))
    words = ["--extra", "dev", "--resolution", ROWS[row], "--override", str(held), *found]
    words += ["--python", str(python), "--quiet", "--output-file", str(versions)]
    run(tool, "pip", "compile", "pyproject.toml", *words)
    run(tool, "pip", "install", "--quiet", "--python", python, *found, "-r", str(versions))
    run(tool, "pip", "install", "--quiet", "--python", python, "--no-deps", "-e", ".")
    return python


def main() -> None:
    """See this module."""
    parser = argparse.ArgumentParser(description=__doc__)
    # Each is given as often as needed: what takes several would take the tests behind it, too.
    parser.add_argument("--rows", action="append", choices=ROWS)
    parser.add_argument("--python", action="append", metavar="VERSION", help=", ".join(PYTHONS))
    parser.add_argument("--hold", action="append", default=[], metavar="NAME==VERSION")
    parser.add_argument("--without", action="append", default=[], metavar="NAME")
    parser.add_argument("--find-links", action="append", default=[], metavar="FOLDER")
    parser.add_argument("--again", action="store_true")
    asked, tests = parser.parse_known_args()
    PLACE.mkdir(parents=True, exist_ok=True)
    for row in asked.rows or ROWS:
        usual = PYTHONS[:1] if row == "oldest" else PYTHONS
        for version in asked.python or usual:
            run(installed(row, version, asked), *PYTEST, *tests)


if __name__ == "__main__":
    main()
