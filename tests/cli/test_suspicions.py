"""What is suspicious in a dataset is told before a model is trained on it."""

import pytest
import torch
from small import BOX, as_dataset, pixels, random_batch, with_fields

from worldmodel import data
from worldmodel.cli import main
from worldmodel.cli.suspicions import note_findings

TINY = ["--model.codec.hidden", "8", "--model.recurrent", "4", "--model.head-hidden", "4"]
TINY += ["--updates", "2", "--batch-size", "4", "--validate-every", "2", "--denoise", "0"]


def test_training_begins_with_what_is_suspicious(tmp_path, capsys):
    batch = random_batch(pixels(8, 8), size=12, steps=14)
    seen = batch.observations[:, torch.arange(15) // 4 * 4]
    splits = {
        name: with_fields(batch, observations=seen, states=None) for name in ("train", "validation")
    }
    dataset = as_dataset(pixels(8, 8), BOX, **splits)
    path = str(data.save(dataset, tmp_path / "data"))
    main(["train", path, "--run", str(tmp_path / "run"), "--no-tensorboard", *TINY])
    told = " ".join(capsys.readouterr().out.split())
    assert "note: stream 'observation': " in told and "equal the one before" in told


def test_two_balls_are_not_asked_to_obey(capsys, recorded):
    note_findings(recorded)
    assert "no effect" not in capsys.readouterr().out


@pytest.fixture
def recorded() -> data.Dataset:
    splits = {"train": data.SplitConfig(320, 14)}
    return data.collect("worldmodel/TwoBouncingBalls-v0", splits=splits, num_envs=320)
