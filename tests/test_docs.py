"""What the documents show works: every block of Python runs, and every command line parses.

A comment before a block may say with what sizes it is run here, ``<!-- run with: updates=4 -->``,
or that it is not, ``<!-- not run: needs a display -->``.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from worldmodel.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
# The notebook of what was found shows pieces of code, not programs.
PAGES = [ROOT / "README.md", *(p for p in (ROOT / "docs").glob("*.md") if p.name != "research.md")]
BLOCK = re.compile(
    r"(?:<!-- (?P<how>[^\n]*?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL
)
SPAN = re.compile(r"`(worldmodel [^`]+)`")


def blocks(language: str) -> Iterator[tuple[str, str, str]]:
    """Page and number, remark and text of every block."""
    for page in PAGES:
        found = [m for m in BLOCK.finditer(page.read_text()) if m["language"] == language]
        for number, match in enumerate(found):
            yield f"{page.name}-{number}", match["how"] or "", match["text"]


def resized(text: str, how: str) -> str:
    """A block with the sizes that a remark asks for.

    Raises:
        ValueError: The block has no such size.
    """
    for name, value in re.findall(r"(\w+)=(\w+)", how.partition("run with:")[2]):
        text, count = re.subn(rf"\b{name}=[\d_]+", f"{name}={value}", text)
        if not count:
            raise ValueError(f"the block has no {name}")
    return text


# What no argument makes small: a denoiser's updates.
QUICK = "import worldmodel.training.dreaming as dreaming; dreaming.FITTED['updates'] = 20\n"
RUN = {name: resized(text, how) for name, how, text in blocks("python") if "not run" not in how}


@pytest.mark.parametrize("name", RUN)
def test_every_block_of_python_runs_in_a_fresh_interpreter(name, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", QUICK + RUN[name]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr


def command_lines() -> Iterator[str]:
    """Every call of the command line, in blocks and between single backticks."""
    for page in PAGES:
        text = page.read_text()
        yield from (" ".join(span.split()) for span in SPAN.findall(text))
        for match in BLOCK.finditer(text):
            joined = match["text"].replace("\\\n", " ")
            yield from (line for line in joined.splitlines() if line.startswith("worldmodel "))


def helped(words: list[str], capsys: pytest.CaptureFixture) -> list[str]:
    """Words of a command's help."""
    with pytest.raises(SystemExit) as exit:
        main([*words, "--help"])
    assert exit.value.code == 0
    return capsys.readouterr().out.replace(",", " ").replace("|", " ").split()


@pytest.mark.parametrize("line", sorted(set(command_lines())))
def test_every_command_line_parses(line, capsys):
    _, command, *words = shlex.split(line, comments=True)
    if words and f"{command} {words[0]}" in COMMANDS:
        command, *words = f"{command} {words[0]}", *words[1:]
    if command == "--version":
        return
    assert command in COMMANDS
    named = words[:1] if command == "demo" and words and not words[0].startswith("-") else []
    known = helped([*command.split(), *named], capsys)
    flags = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert flags - {"--help"} <= set(known), flags - set(known)
    if {"DATA", "RUN", "ENV"} & set(known) and words:
        assert not words[0].startswith("-") or command == "train", "what it is about comes first"


def test_the_documents_are_looked_at():
    assert len(RUN) >= 3 and len(set(command_lines())) >= 20
