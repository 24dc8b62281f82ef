"""What a dataset costs: windows per second of several formats, memory, and writers that are killed.

Windows are of 30 steps of 64 x 64 x 3 uint8 frames, 32 at a time, drawn at random from 1 GB; each
format is read in a process of its own, first with its files not in the page cache ("cold"), then
again. ``make benchmark-data`` needs the extra ``benchmark-data``.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from data_formats import compare, measure
from data_memory import memory, share
from data_recorded import peak
from data_writers import collecting, killed, naive
from seeds import write_block

from worldmodel.cli import main as worldmodel_main
from worldmodel.files import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", nargs=3, metavar=("KIND", "PATH", "FRAMES"))
    parser.add_argument("--share", nargs=3, metavar=("PATH", "RUN", "UPDATES"))
    parser.add_argument("--naive", type=int, metavar="EPISODES")
    parser.add_argument("--command", nargs=argparse.REMAINDER)
    parser.add_argument("--out", type=Path, default=Path("runs/data"))
    parser.add_argument("--episodes", type=int, default=500, help="of 200 frames, 2.5 MB each")
    parts = ["formats", "memory", "killed", "collecting", "tables"]
    parser.add_argument("--only", choices=parts, help="tables: of what was measured before")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.measure:
        kind, path, count = given.measure
        print(json.dumps(measure(kind, Path(path), int(count))))
        return
    if given.share:
        path, run, updates = given.share
        print(json.dumps(share(Path(path), Path(run), int(updates))))
        return
    if given.naive:
        naive(given.naive)
        return
    if given.command:
        begin = time.perf_counter()
        worldmodel_main(given.command)
        print(json.dumps({"peak, MB": peak(), "s": time.perf_counter() - begin}))
        return
    results = given.out / "data.json"
    found = json.loads(results.read_text()) if results.is_file() else {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        if given.only in (None, "formats"):
            found["formats"] = compare(folder, given.episodes)
        if given.only in (None, "killed"):
            found["killed"] = killed(folder, 100)
        if given.only in (None, "collecting"):
            found["collecting"] = collecting(folder, 500)
        if given.only in (None, "memory"):
            found["memory"] = {f"{n:,} episodes": memory(folder, n, 10) for n in (800, 8000)}
    write_json(results, found)
    write_block("data", f"`make benchmark-data`; torch {torch.__version__}.\n\n{tables(found)}")


def tables(found: dict[str, dict]) -> str:
    """Markdown of what was measured."""
    texts = []
    if "formats" in found:
        rows = [[kind, *_numbers(each.values())] for kind, each in found["formats"].items()]
        texts.append(_table(["format", *next(iter(found["formats"].values()))], rows))
    if "memory" in found:
        rows = [[size, *_numbers(each.values())] for size, each in found["memory"].items()]
        texts.append(_table(["", *next(iter(found["memory"].values()))], rows))
    if "collecting" in found:
        rows = [[way, *_numbers(each.values())] for way, each in found["collecting"].items()]
        head = ["collect CartPole-v1 --pixels", *next(iter(found["collecting"].values()))]
        texts.append(_table(head, rows))
    if "killed" in found:
        told = ", ".join(f"{name}: {value}" for name, value in found["killed"].items())
        texts.append(f"Writers killed at random moments: {told}.")
    return "\n\n".join(texts)


def _numbers(values: Iterable[float]) -> list[str]:
    return [f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}" for value in values]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    main()
