"""What asks for more memory than there is ends in one line, whoever says so."""

import numpy as np
import pytest
import torch

from worldmodel.cli import main

MUCH = 2**56  # bytes, more than any processor addresses


@pytest.mark.parametrize("ask", [np.empty, torch.empty])
def test_it_is_one_line(ask, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("worldmodel.data.collect", lambda *_, **__: ask(MUCH, dtype=ask(0).dtype))
    with pytest.raises(SystemExit) as exit:
        main(["collect", "Pendulum-v1", "--out", str(tmp_path / "data")])
    said = capsys.readouterr().err
    assert exit.value.code == 1 and said.startswith("error: not enough memory: ")
    assert said.count("\n") == 1


def test_other_faults_are_no_lack_of_memory(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("worldmodel.data.collect", fail)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        main(["collect", "Pendulum-v1", "--out", str(tmp_path / "data")])
