"""Pictures of what the first data did not show: components are added, and nothing else moves."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from small import generator, pixels, tiny_config

from worldmodel import data
from worldmodel.models.codec import Codec, CodecConfig
from worldmodel.models.dvbf import DVBF
from worldmodel.training.config import TrainConfig
from worldmodel.training.growing import GrowingTrainer

SPACE = pixels(12, 10, 3)


def spots(n, low, high, seed=0) -> torch.Tensor:
    """A soft spot between two columns of a picture, (n, 12, 10, 3)."""
    g = generator(seed)
    row, column = 12 * torch.rand(n, 1, 1, generator=g), torch.rand(n, 1, 1, generator=g)
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(10.0), indexing="ij")
    spot = torch.exp(-((y - row) ** 2 + (x - low - (high - low) * column) ** 2) / 3)
    return (30 + spot.unsqueeze(-1) * torch.tensor([200.0, 90.0, 20.0])).to(torch.uint8)


@pytest.fixture
def codec():
    codec = Codec(SPACE, CodecConfig())
    codec.calibrate(spots(300, 0, 4), spare=20)
    return codec


def share_missed(codec, seen):
    said, missed = codec.scale(seen).square().sum(1), codec.missed(seen)
    return (missed.sum() / (said + missed).sum()).item()


def test_what_was_not_shown_is_said_once_it_is(codec):
    new = spots(300, 5, 9, seed=1)
    assert share_missed(codec, new) > 0.2
    codec.widen(new)
    assert share_missed(codec, new) < 0.003
    assert share_missed(codec, spots(300, 5, 9, seed=2)) < 0.006


def test_what_was_said_before_stays_said_by_the_same_numbers(codec):
    old = spots(300, 0, 4)
    before = codec.scale(old)
    kept = (before != 0).any(0)
    codec.widen(spots(300, 5, 9, seed=1))
    assert torch.equal(codec.scale(old)[:, kept], before[:, kept])
    basis = codec.parts[0].components.basis
    used = basis[:, basis.square().sum(0) > 0]
    assert kept.sum() < used.shape[1] <= kept.sum() + 20
    torch.testing.assert_close(used.T @ used, torch.eye(used.shape[1]), atol=1e-4, rtol=0)


def test_more_of_the_same_takes_no_component(codec):
    before = codec.parts[0].components.basis.clone()
    codec.widen(spots(300, 0, 4))
    assert torch.equal(codec.parts[0].components.basis, before)


def test_where_none_is_left_nothing_is_lost(codec):
    part, old, new = codec.parts[0], spots(50, 0, 4), spots(300, 5, 9, seed=1)
    for seed in range(30):
        codec.widen((255 * torch.rand(40, 12, 10, 3, generator=generator(seed))).to(torch.uint8))
    assert (part.components.basis.square().sum(0) > 0).all(), "noise takes all there are"
    before = codec.scale(old)
    codec.widen(new)
    assert torch.equal(codec.scale(old), before)


def test_dreams_may_show_what_came_later(codec):
    """What is drawn is held to the range of what was seen, which grows."""
    new = spots(300, 5, 9, seed=1)
    codec.widen(new)
    scaled = codec.scale(new)
    torch.testing.assert_close(codec.plausible(scaled), scaled)


def dataset_of(columns):
    """Episodes of spots between given columns, two to learn from and one to validate with."""
    rng = np.random.default_rng(0)
    episodes = [
        {
            "observations": spots(21, low, high, seed=i).numpy(),
            "actions": rng.uniform(-1, 1, (20, 2)).astype(np.float32),
        }
        for i, (low, high) in enumerate(columns)
    ]
    splits = ["train", "train", "validation"] * (len(columns) // 3)
    return data.from_episodes(episodes, action_space=Box(-1, 1, (2,)), splits=splits)


def test_a_run_goes_on_bit_for_bit_with_the_components_it_has(tmp_path):
    first = dataset_of([(0, 4)] * 3)

    def trainer(dataset, folder):
        settings = tiny_config(codec={"depth": 2})
        model = DVBF(settings, first.observation_spec, first.action_spec, 0)
        config = TrainConfig(updates=4, batch_size=2, window=5, tensorboard=False)
        return GrowingTrainer(model, dataset, config, folder, {})

    whole, stopped = (trainer(first, tmp_path / name) for name in ("whole", "stopped"))
    for each in (whole, stopped):
        each.train(4)
    stopped.write({})
    grown = dataset_of([(0, 4)] * 3 + [(5, 9)] * 3)
    again = trainer(grown, tmp_path / "stopped")
    assert again.model.codec.size == whole.model.codec.size
    arrived = grown.train.padded(np.arange(2, 4))
    missed = share_missed(whole.model.codec, spots(50, 5, 9))
    for each in (whole, again):
        each.grow(grown, arrived)
        each.train(3)
    assert share_missed(whole.model.codec, spots(50, 5, 9)) < missed
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
