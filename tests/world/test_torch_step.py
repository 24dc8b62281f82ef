"""Steps by tensors that stay where the model is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_gpu import fake_gpu
from gymnasium.vector import AutoresetMode
from linear_model import BOX
from small import discrete

from worldmodel.errors import (
    DeviceError,
    DivergenceError,
    ResetNeeded,
    ShapeError,
    SpecError,
)
from worldmodel.world.torch_dreams import as_controls
from worldmodel.world.vector_env import LatentVectorEnv

STARTS = np.float32([[0.2, 0.1], [1.45, -0.2], [-0.4, 0.6], [-1.9, 0.4]])
MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]


def alike(world, mode, **kwargs):
    """Two vector environments that agree: no noise, and one first state."""
    settings = {"max_episode_steps": 6, "autoreset_mode": mode, "noise": False} | kwargs
    return [LatentVectorEnv(world, 4, **settings) for _ in range(2)]


@pytest.mark.parametrize("truncate_outside", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_it_is_step_with_tensors_through_resets(linear, mode, truncate_outside):
    arrays, tensors = alike(linear(alike=True), mode, truncate_outside=truncate_outside)
    for env in (arrays, tensors):
        env.reset(seed=0, options={"state": STARTS})
    rng, ends = np.random.default_rng(0), 0
    for _ in range(25):
        actions = rng.uniform(-3, 3, arrays.action_space.shape).astype(np.float32)
        expected = arrays.step(actions)
        got = tensors.torch_step(torch.from_numpy(actions))
        for ours, theirs in zip(got[:4], expected[:4], strict=True):
            np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-5)
        infos = expected[4]
        np.testing.assert_array_equal(got.infos["outside_support"], infos["outside_support"])
        done = expected[2] | expected[3]
        ends += done.sum()
        if "final_obs" in infos:
            np.testing.assert_array_equal(got.infos["_final_obs"], infos["_final_obs"])
            final = np.stack(list(infos["final_obs"][done]))
            np.testing.assert_allclose(got.infos["final_obs"][done].numpy(), final, atol=1e-5)
        np.testing.assert_allclose(tensors.states, arrays.states, atol=1e-5)
    assert ends > 8


def test_a_gpu_is_never_waited_for_nor_left(linear):
    env = LatentVectorEnv(linear(), 4, max_episode_steps=6, autoreset_mode="SameStep")
    env.reset(seed=0)
    env.torch_step(torch.zeros(4, env.model.action_spec.size))
    dreams = env._dreams
    assert dreams is not None
    with fake_gpu(waits=False) as move:
        move(env.model), move(env.world.support)
        for name, value in vars(dreams).items():
            setattr(dreams, name, move(value))
        env._dynamics._where["device"] = env.model.device
        actions = torch.zeros(4, env.model.action_spec.size, device="fake")
        for _ in range(3):
            step = env.torch_step(actions)
        for value in (*step[:4], *step.infos.values()):
            assert value.device.type == "fake"
        with pytest.raises(DeviceError, match="dreams are on fake:0, the actions on cpu"):
            env.torch_step(actions.cpu())


def test_noise_and_first_states_come_from_the_seed(world):
    def run(seed):
        env = LatentVectorEnv(world, 5, max_episode_steps=3)
        env.reset(seed=seed)
        actions = torch.zeros(5, env.model.action_spec.size)
        return torch.stack([env.torch_step(actions).observations for _ in range(8)])

    first = run(0)
    assert torch.equal(first, run(0)) and not torch.equal(first, run(1))
    assert len(first.flatten(0, 1).unique(dim=0)) > 30


def test_arrays_of_other_libraries_come_and_go_by_dlpack(world):
    env = LatentVectorEnv(world, 3)
    env.reset(seed=0)
    step = env.torch_step(np.zeros((3, env.model.action_spec.size), np.float32))
    seen = np.from_dlpack(step.observations)
    np.testing.assert_array_equal(seen, step.observations.numpy())


def test_discrete_actions_are_counted_from_their_first():
    space, like = discrete(3), torch.zeros(1)
    controls = as_controls(space, torch.tensor([2, 0]), 2, like)
    assert controls.tolist() == [[0, 0, 1], [1, 0, 0]]
    with pytest.raises(ShapeError, match=r"\(2,\) integers, got \(2,\) torch.float32"):
        as_controls(space, torch.zeros(2), 2, like)


@pytest.mark.parametrize("actions", [torch.zeros(4, 7), [0.0, 0.0]])
def test_unusable_actions_are_refused(world, actions):
    env = LatentVectorEnv(world, 4)
    env.reset(seed=0)
    with pytest.raises(ShapeError, match="actions must"):
        env.torch_step(actions)


def test_what_it_cannot_do_is_refused(world):
    actions = torch.zeros(2, BOX.size)
    env = LatentVectorEnv(world, 2)
    with pytest.raises(ResetNeeded):
        env.torch_step(actions)
    env.reset(seed=0)
    env.torch_step(actions)
    with pytest.raises(ResetNeeded, match="torch_step has the states"):
        env.step(actions.numpy())
    env.reset(seed=0)
    env.step(actions.numpy())
    disabled = LatentVectorEnv(world, 2, autoreset_mode="Disabled")
    disabled.reset(seed=0)
    with pytest.raises(SpecError, match="DISABLED"):
        disabled.torch_step(actions)


def test_a_model_that_diverges_raises_late(world):
    env = LatentVectorEnv(world, 2)
    env.reset(seed=0)
    for _ in range(256):
        env.torch_step(torch.full((2, BOX.size), torch.nan))
    with pytest.raises(DivergenceError, match="by step 256"):
        env.torch_step(torch.zeros(2, BOX.size))
