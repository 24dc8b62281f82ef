from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
import zoo
from small import (
    BOX,
    PIXELS,
    as_dataset,
    batches,
    box,
    random_batch,
    random_dataset,
    vector,
    with_fields,
)

from worldmodel.data import Provenance, SplitConfig, Zero, collect, findings, load, save
from worldmodel.errors import SpecError
from worldmodel.spaces import ActionSpace, ObservationSpace

CAMERAS = ObservationSpace.from_space(zoo.OBSERVATIONS["cameras"][0])


@pytest.mark.parametrize("name", zoo.NAMES)
def test_nothing_is_found_where_everything_varies(name):
    """But for the third number of "nested", and what a robot is told to reach."""
    splits = {"train": SplitConfig(20, 15), "test": SplitConfig(8, 20)}
    found = findings(collect(zoo.env_id(name), splits=splits, num_envs=10))
    constant = {
        "see-nested": "'poses.0' has the constant component 2",
        "everything": "'poses.0' has the constant component 2",
        "see-goal": "'desired_goal' never changes",
    }
    assert len(found) == (name in constant)
    if found:
        assert constant[name] in found[0] and "in train and test: " in found[0]


def of_observations(space, **streams) -> list[str]:
    """Findings where some streams of a random dataset are replaced."""
    train, test = random_batch(space, seed=1), random_batch(space, seed=2)
    seen = train.observations.clone()
    for name, values in streams.items():
        seen[name] = values.expand(seen[name].shape)
    return findings(as_dataset(space, BOX, train=with_fields(train, observations=seen), test=test))


def test_a_dark_camera_is_named():
    (told,) = of_observations(CAMERAS, wrist=torch.zeros(1, dtype=torch.uint8))
    assert told.startswith("stream 'wrist' never changes in train: ")


def test_black_pictures_are_counted():
    batch = random_batch(PIXELS, size=4, steps=4)
    seen = batch.observations.clone()
    seen[0, 1:3], seen[2, 0] = 0, 77
    (told,) = findings(as_dataset(PIXELS, BOX, train=with_fields(batch, observations=seen)))
    assert told.startswith("stream 'observation': 3 of 20 pictures are of one colour, 2 of them")


def test_padding_is_neither_constant_nor_black():
    batch = random_batch(PIXELS, size=4, steps=4)
    seen, mask = batch.observations.clone(), batch.mask.clone()
    seen[:, 3:], mask[:, 2:] = 0, False
    padded = with_fields(batch, observations=seen, mask=mask)
    assert findings(as_dataset(PIXELS, BOX, train=padded)) == []


@pytest.mark.parametrize(
    ("dtype", "offset", "step", "constant"),
    [
        (np.float32, 0, 1e-9, False),
        (np.float64, 5e6, 0.5, False),
        (np.float64, 1.8e9, 1e-3, False),  # milliseconds of a clock
        (np.float32, 1.0, 1e-7, True),  # what is left of a constant after rounding
        (np.float64, 1.0, 1e-7, False),
        (np.float32, 0, 0, True),
    ],
)
def test_constant_means_as_far_as_the_dtype_resolves(dtype, offset, step, constant):
    space = ObservationSpace.from_space(gym.spaces.Box(-np.inf, np.inf, (2,), dtype))
    batch = random_batch(space)
    seen = batch.observations.clone()
    seen[..., 1] = torch.from_numpy(
        (offset + step * np.random.default_rng(0).integers(-1, 2, seen.shape[:-1])).astype(dtype)
    )
    found = findings(as_dataset(space, BOX, train=with_fields(batch, observations=seen)))
    assert len(found) == constant
    if constant:
        assert "'observation' has the constant component 1 in train" in found[0]


def test_many_constant_components_are_counted():
    batch = random_batch(vector(20))
    seen = batch.observations.clone()
    seen[..., 4:] = 1.0
    (told,) = findings(as_dataset(vector(20), BOX, train=with_fields(batch, observations=seen)))
    assert "16 constant components (4 to 19) in train" in told


def test_equal_rewards_are_named_with_their_splits():
    dataset = random_dataset()
    flat = {
        name: with_fields(
            batch,
            rewards=torch.full_like(batch.rewards, -1.5),
            terminated=torch.zeros_like(batch.terminated),
        )
        for name, batch in batches(dataset).items()
    }
    (told,) = findings(as_dataset(dataset.observation_spec, BOX, **flat))
    assert told.startswith("every reward is -1.5 in train and validation: ")
    assert "nothing to aim at" in told
    ending = {
        name: with_fields(batch, terminated=torch.ones_like(batch.terminated))
        for name, batch in flat.items()
    }
    (told,) = findings(as_dataset(dataset.observation_spec, BOX, **ending))
    assert "all that an agent can aim at is when an episode ends" in told
    # One reward alone is not suspicious.
    single = with_fields(random_batch(size=1, steps=1), rewards=torch.ones(1, 1))
    seen = random_batch(size=1, steps=1).observations
    assert not any("reward" in told for told in findings(as_dataset(vector(3), BOX, train=single)))
    assert seen.shape[1] == 2


def test_actions_that_never_vary_are_named():
    told = findings(collect("Pendulum-v1", process=Zero(), splits={"train": SplitConfig(3, 9)}))
    assert any(t.startswith("action 'action' never changes in train: ") for t in told)
    space = ActionSpace.from_space(zoo.ACTIONS["nested"])
    batch = random_batch(actions=space)
    controls = batch.actions.clone()
    controls[..., 1] = 0.25
    controls[..., 4:6] = torch.tensor([0.0, 1.0])
    still = with_fields(batch, actions=controls)
    told = findings(as_dataset(vector(3), space, train=still))
    assert len(told) == 2
    assert told[0].startswith("action 'arm.0' has the constant component 1 in train: ")
    assert told[1].startswith("action 'arm.1' has the constant component 0 in train: ")


def test_what_never_changes_at_all_is_saved_all_the_same(tmp_path):
    batch = random_batch(PIXELS)
    still = with_fields(batch, observations=torch.zeros_like(batch.observations))
    dataset = as_dataset(
        PIXELS, box(-2.0, 2.0), train=replace(still, actions=batch.actions[..., :1])
    )
    loaded = load(save(dataset, tmp_path / "still"))
    assert loaded.provenance == dataset.provenance
    (told,) = findings(loaded)
    assert told.startswith("stream 'observation' never changes in train: ")
    with pytest.raises(SpecError):
        loaded.split("test")


def test_what_varies_in_training_may_stand_still_in_a_short_test():
    """Neither components, indices, rewards nor actions are named then; black pictures are."""
    space = ObservationSpace.from_space(zoo.OBSERVATIONS["nested"][0])
    train, test = random_batch(space, seed=1), random_batch(space, size=1, steps=3, seed=2)
    still = test.observations.clone()
    for name, values in still.items():
        still[name] = values[:, :1].expand(values.shape)
    test = with_fields(
        test,
        observations=still,
        rewards=torch.ones_like(test.rewards),
        actions=torch.zeros_like(test.actions),
    )
    assert findings(as_dataset(space, BOX, test=test, train=train)) == []
    still["picture"] = torch.zeros_like(still["picture"])
    dark = with_fields(test, observations=still)
    (told,) = findings(as_dataset(space, BOX, test=dark, train=train))
    frames = 4 + train.observations["picture"].shape[:2].numel()
    assert told.startswith(f"stream 'picture': 4 of {frames} pictures are of one colour, 4 of them")
    assert "in test: " in told


def test_a_few_of_many_components_may_stand_still():
    """The dark corners of a grey float picture that counts as a vector, for example."""
    space = ObservationSpace.from_space(gym.spaces.Box(-1, 1, (256,), np.float32))
    batch = random_batch(space)
    seen = batch.observations.clone()
    seen[..., :24] = 0
    assert findings(as_dataset(space, BOX, train=with_fields(batch, observations=seen))) == []


@pytest.mark.parametrize("steps, found", [(1, 1), (2, 0)])
def test_test_episodes_too_short_to_judge_anything_are_named(steps, found):
    train, test = random_batch(seed=1), random_batch(steps=4, seed=2)
    mask = torch.arange(4).expand(5, 4) < steps
    dataset = as_dataset(vector(3), BOX, train=train, test=with_fields(test, mask=mask))
    told = [one for one in findings(dataset) if "no test episode has 2 steps" in one]
    assert len(told) == found and all("(collect --test-steps)" in one for one in told)
    recording = replace(dataset, provenance=Provenance())
    told = [one for one in findings(recording) if "no test episode has 2 steps" in one]
    assert len(told) == found and not any("--" in one for one in told)
