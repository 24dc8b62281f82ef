"""How much room a state has is chosen by the pictures."""

import json

import numpy as np
import pytest

from worldmodel.cli import main
from worldmodel.data import from_episodes
from worldmodel.models.registry import MODELS
from worldmodel.systems import PRESETS, preset


def recorded(places, out):
    """A point that is lit at one of so many places: nearly as many components."""
    rng = np.random.default_rng(0)
    frames = np.zeros((20, 51, 256), np.uint8)
    np.put_along_axis(frames, rng.integers(places, size=(20, 51, 1)), 255, axis=2)
    pictures = frames.reshape(20, 51, 16, 16, 1)
    actions = rng.uniform(-1, 1, (20, 50, 1)).astype(np.float32)
    episodes = [{"observations": o, "actions": a} for o, a in zip(pictures, actions, strict=True)]
    return from_episodes(episodes, out=out, splits={"train": 0.8, "validation": 0.1, "test": 0.1})


@pytest.mark.parametrize(("places", "latent"), [(4, 8), (200, 16)])
def test_pictures_of_many_components_get_more_room(places, latent, tmp_path):
    path, run = tmp_path / "data", tmp_path / "run"
    dataset = recorded(places, path)
    assert preset("pictures").fitted("dvbf", dataset).latent_size == latent
    assert preset("pictures").fitted("ekvae", dataset) == MODELS["ekvae"].config_type()
    own = PRESETS["pendulum"].models["dvbf"].latent_size
    assert preset("pendulum").fitted("dvbf", dataset).latent_size == own
    short = ["--updates", "1", "--batch-size", "2", "--no-tensorboard"]
    for words, size in (([], latent), (["--model.latent-size", "5"], 5)):
        main(["train", str(path), "--run", str(run / str(size)), *short, *words])
        settings = json.loads((run / str(size) / "settings.json").read_text())
        assert settings["model"]["latent_size"] == size
