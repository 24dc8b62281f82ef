"""The notebook as its reader runs it, from top to bottom."""

import re
from ast import literal_eval
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_committed_without_outputs(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells and all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert NOTEBOOK.stat().st_size < 20_000


def test_it_runs_and_shows_what_it_promises(notebook, tmp_path):
    client = NotebookClient(notebook, timeout=None, resources={"metadata": {"path": tmp_path}})
    client.execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    said = "".join(out.text for out in outputs if out.output_type == "stream")
    shown = [out.data for out in outputs if out.output_type == "execute_result"]
    pictures = [data["text/html"] for data in shown if "text/html" in data]
    assert len(pictures) == 5 and sum("<img" in html for html in pictures) == 4
    assert int(re.search(r"upright at the end of (\d+)%", said)[1]) >= 80
    (r2,) = (literal_eval(d["text/plain"]) for d in shown if d["text/plain"].startswith("{"))
    assert r2["sin"] > 0.9 and r2["cos"] > 0.9
    assert not list(tmp_path.iterdir()), "it leaves nothing behind where it runs"
