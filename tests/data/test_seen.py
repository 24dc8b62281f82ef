"""Gaps: which frames were seen, from what a person has to what a model is given."""

import numpy as np
import pytest
import torch
from small import BOX, VECTOR, as_dataset, pixels, random_batch, tiny_model, with_fields

from worldmodel.data import findings, from_episodes, load
from worldmodel.data.importing.regrid import regrid
from worldmodel.errors import FileFormatError, ShapeError
from worldmodel.training.config import TrainConfig
from worldmodel.training.trainer import Trainer

LENGTHS = (9, 12, 7, 10, 8)


def made(share=0.6, junk=np.nan, **changes):
    """Episodes in which some frames are missing, and junk stands in their place."""
    rng, episodes = np.random.default_rng(4), []
    for length in LENGTHS:
        seen = rng.uniform(size=length + 1) < share
        seen[0] = True
        values = rng.normal(size=(length + 1, 3)).astype(np.float32)
        values[~seen] = junk
        actions = rng.uniform(-1, 1, (length, 2)).astype(np.float32)
        episodes.append({"observations": values, "actions": actions, "seen": seen, **changes})
    return episodes


@pytest.fixture(params=["memory", "disk"])
def dataset(request, tmp_path):
    out = None if request.param == "memory" else tmp_path / "data"
    return from_episodes(made(), out=out, splits=["train"] * 3 + ["validation", "test"])


def test_the_last_frame_that_was_seen_stands_where_none_was(dataset):
    for found, given in zip(dataset.train, made()[:3], strict=True):
        np.testing.assert_array_equal(found.seen, given["seen"])
        held = given["observations"][0]
        for t, seen in enumerate(given["seen"]):
            held = given["observations"][t] if seen else held
            np.testing.assert_array_equal(found.observations[t], held)


def test_batches_and_windows_say_what_was_seen(dataset):
    batch, given = dataset.train.padded(), made()[:3]
    for row, episode in enumerate(given):
        length = len(episode["actions"])
        assert batch.seen[row, : length + 1].tolist() == episode["seen"].tolist()
        assert batch.frame_mask[row].sum() == episode["seen"].sum()
        assert batch.span[row].sum() == length + 1
    assert torch.equal(dataset.train.frame_mask, batch.frame_mask)
    assert torch.equal(dataset.train.span, batch.span)
    cut = dataset.train.windows(np.array([1, 0]), np.array([3, 2]), 4)
    assert torch.equal(cut.seen[0], batch.seen[1, 3:8])
    assert torch.equal(cut.seen, torch.stack([batch.seen[1, 3:8], batch.seen[0, 2:7]]))
    assert torch.equal(batch.window(2, 3).seen, batch.seen[:, 2:6])


def test_of_what_was_seen_throughout_there_is_no_mask():
    dataset = from_episodes(made(share=1.0))
    assert not dataset.train.has_gaps and dataset.train.padded().seen is None
    assert all(episode.seen is None for episode in dataset.train)


def test_junk_leaves_no_trace():
    marks = [from_episodes(made(junk=junk)).provenance.fingerprint for junk in (np.nan, 7.0)]
    assert marks[0] == marks[1]


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        (np.ones(5), r"episode 0 has seen \(5,\); expected \(10,\)"),
        (np.arange(10) > 0, "episode 0: seen is False at time 0; expected"),
        (np.full(10, 0.5), "episode 0: seen must be booleans"),
    ],
)
def test_masks_that_do_not_fit_are_refused(seen, message):
    with pytest.raises(ShapeError, match=message):
        from_episodes([made()[0] | {"seen": seen}])


def train(dataset, folder):
    model = tiny_model(dataset.observation_spec, dataset.action_spec)
    config = TrainConfig(updates=12, batch_size=6, window=5, validate_every=6, tensorboard=False)
    Trainer(model, dataset, config, folder).fit(progress=False)
    return model.state_dict()


def test_seen_throughout_training_ends_bit_for_bit_as_without_the_mask(tmp_path):
    splits = ["train"] * 3 + ["validation", "test"]
    masked = from_episodes(made(share=1.0), splits=splits)
    plain = [{k: v for k, v in episode.items() if k != "seen"} for episode in made(share=1.0)]
    weights = [
        train(dataset, tmp_path / name)
        for name, dataset in (("a", masked), ("b", from_episodes(plain, splits=splits)))
    ]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_what_stands_in_gaps_is_not_trained_on(tmp_path):
    """Junk in a batch itself, where nothing has put the last frame in its place."""
    rng = torch.Generator().manual_seed(0)
    batch = random_batch(size=9, steps=8)
    seen = torch.rand(9, 9, generator=rng) < 0.7
    seen[:, 0] = True
    junk = batch.observations.clone()
    junk[~seen] = 1e4
    weights = []
    for name, observations in (("a", batch.observations), ("b", junk)):
        gapped = with_fields(batch, observations=observations, seen=seen)
        dataset = as_dataset(VECTOR, BOX, train=gapped, validation=gapped)
        weights.append(train(dataset, tmp_path / name))
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert all(value.isfinite().all() for value in weights[0].values())


def test_frames_that_stand_in_are_not_taken_for_repeated_ones():
    """Pictures that move all the time; where three of four were missed, one stands in for all."""
    frames = torch.from_numpy(
        np.random.default_rng(0).integers(0, 255, (100, 13, 8, 8, 1), np.uint8)
    )
    batch = with_fields(random_batch(pixels(8, 8), size=100, steps=12), observations=frames)
    held = frames.clone()
    held[10:] = frames[10:, 4 * (np.arange(13) // 4)]
    seen = torch.ones(100, 13, dtype=torch.bool)
    seen[10:] = torch.arange(13) % 4 == 0

    def told(**changes):
        found = findings(as_dataset(pixels(8, 8), BOX, train=with_fields(batch, **changes)))
        return [sentence for sentence in found if "equal the one before" in sentence]

    assert told(observations=held) and not told(observations=held, seen=seen)


def test_a_grid_begins_where_something_is_near_it():
    times = np.arange(10) / 10
    seen = np.arange(10) >= 3
    arrays = {"camera": np.arange(10.0)[:, None], "actions": np.arange(10.0), "seen": seen}
    out = regrid(arrays, dict.fromkeys(arrays, times), 10.0, "an episode")
    assert out["seen"].all() and out["camera"][0, 0] == 3 and out["actions"][0] == 3
    assert len(out["camera"]) == len(out["actions"]) + 1
    arrays["seen"] = np.zeros(10, np.bool_)
    with pytest.raises(FileFormatError, match="an episode: no point of a grid of 10 Hz"):
        regrid(arrays, dict.fromkeys(arrays, times), 10.0, "an episode")


def test_gaps_stay_on_disk(tmp_path):
    from_episodes(made(), out=tmp_path / "data")
    again = load(tmp_path / "data")
    again.verify()
    assert again.train.has_gaps
