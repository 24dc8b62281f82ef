"""Ends of dreams are drawn with the probability that the model holds, by every kind of step."""

import json
import warnings

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from linear_model import LinearModel, fit_support
from small import generator, random_batch, tiny_model

import worldmodel
from worldmodel.world.dynamics import Dynamics, latent_box
from worldmodel.world.ends import Ends
from worldmodel.world.env import LatentEnv
from worldmodel.world.stepping import TensorSteps, steps_of
from worldmodel.world.vector_env import LatentVectorEnv
from worldmodel.world.world import World

CHANCES = [0.03, 0.5, 0.9]


def hazardous(chance: float) -> World:
    """A compiled world whose every step ends with one probability."""
    model = tiny_model()
    model.requires_grad_(False)
    model.calibrate(random_batch())
    model.termination_head.seen.fill_(True)
    model.termination_head.logit[-1].weight.zero_()
    model.termination_head.logit[-1].bias.fill_(float(np.log(chance / (1 - chance))))
    world = World(model)
    states = torch.randn(500, model.latent_size, generator=generator())
    world.support.fit(states, states[:100])
    return world


def expected(chance: float, n: int) -> float:
    """Five standard deviations of a mean of n draws."""
    return 5 * np.sqrt(chance * (1 - chance) / n)


@pytest.mark.parametrize("chance", CHANCES)
def test_a_step_ends_as_often_as_the_model_holds(chance):
    world, n = hazardous(chance), 20_000
    env = LatentVectorEnv(world, n, truncate_outside=False)
    env.reset(seed=0)
    assert env.compiled is True
    ended = env.step(np.zeros((n, 2), np.float32))[2]
    assert ended.mean() == pytest.approx(chance, abs=expected(chance, n))
    dynamics = Dynamics(world)
    steps = TensorSteps(dynamics, latent_box(world))
    drawn = dynamics.draw(1, n, generator(1))[0]
    arrays = steps(np.zeros((3, n), np.float32), np.zeros((n, 2), np.float32), drawn)
    assert arrays.terminated.mean() == pytest.approx(chance, abs=expected(chance, n))


@pytest.mark.parametrize("chance", CHANCES)
def test_a_single_dream_lasts_as_long_as_the_chance_says(chance):
    env, lengths = LatentEnv(hazardous(chance), truncate_outside=False), []
    env.reset(seed=0)
    for _ in range(400):
        env.reset()
        lengths.append(1)
        while not env.step(np.zeros(2, np.float32))[2]:
            lengths[-1] += 1
    # Geometric: mean 1 / p, standard deviation sqrt(1 - p) / p.
    spread = np.sqrt((1 - chance) / len(lengths)) / chance
    assert np.mean(lengths) == pytest.approx(1 / chance, abs=5 * spread)


@pytest.mark.parametrize("chance", CHANCES)
def test_without_noise_the_likelier_happens(chance):
    env = LatentVectorEnv(hazardous(chance), 50, noise=False, truncate_outside=False)
    env.reset(seed=0)
    assert (env.step(np.zeros((50, 2), np.float32))[2] == (chance > 0.5)).all()


def test_the_same_seed_ends_at_the_same_steps():
    def ends(seed):
        env = LatentVectorEnv(hazardous(0.1), 20, truncate_outside=False)
        env.reset(seed=seed)
        return np.stack([env.step(np.zeros((20, 2), np.float32))[2] for _ in range(30)])

    np.testing.assert_array_equal(ends(3), ends(3))
    assert (ends(3) != ends(4)).any()


@pytest.mark.parametrize("make", [lambda: hazardous(0.5), lambda: fit_support(LinearModel(), 0.5)])
def test_drawn_ends_pass_gymnasiums_checker(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*For Box action spaces")
        check_env(LatentEnv(make()), skip_render_check=True)


def test_what_never_ended_draws_nothing_for_an_end():
    world = hazardous(0.5)
    world.model.termination_head.seen.fill_(False)
    dynamics = Dynamics(world)
    assert dynamics.draws == world.model.noise_size
    noise = dynamics.draw(4, 3, generator())
    torch.testing.assert_close(noise, torch.randn(4, 3, 3, generator=generator()))


def test_what_corrects_ends_is_compiled_saved_and_read(tmp_path):
    world, n = hazardous(0.5), 20_000
    world.ends = Ends(2.0, -1.0)
    copy = worldmodel.load(world.save(tmp_path / "world"))
    assert copy.ends == world.ends
    env = LatentVectorEnv(copy, n, truncate_outside=False)
    env.reset(seed=0)
    assert env.compiled is True
    ended, chance = env.step(np.zeros((n, 2), np.float32))[2], 1 / (1 + np.exp(1))
    assert ended.mean() == pytest.approx(chance, abs=expected(chance, n))
    state, action = torch.zeros(1, 3), torch.zeros(1, 2)
    assert Dynamics(copy).step(state, action, None).logit.item() == pytest.approx(-1, abs=1e-5)


def test_a_checkpoint_from_before_ends_were_corrected_is_read(tmp_path):
    folder = hazardous(0.5).save(tmp_path / "world")
    config = json.loads((folder / "config.json").read_text())
    del config["ends"]
    (folder / "config.json").write_text(json.dumps(config))
    assert worldmodel.load(folder).ends == Ends()


def paying(chance: float, reward: float) -> World:
    """What ends an episode pays so much more."""
    world = hazardous(chance)
    world.ends = Ends(reward=reward)
    world.model.reward_head.min.fill_(-1000)
    world.model.reward_head.max.fill_(1000)
    return world


def test_what_the_last_step_pays_is_paid_at_the_last_step():
    plain, world, n = paying(0.3, 0.0), paying(0.3, 100.0), 1000
    state = torch.zeros(n, 3)
    for dynamics in (Dynamics(world), Dynamics(plain)):
        steps = steps_of(dynamics, latent_box(world))[0], TensorSteps(dynamics, latent_box(world))
        drawn = dynamics.draw(1, n, generator(1))[0]
        compiled = steps[0](
            state.T.contiguous().numpy(), np.zeros((n, 2), np.float32), drawn.numpy()
        )
        tensors = steps[1](state.T.contiguous().numpy(), np.zeros((n, 2), np.float32), drawn)
        np.testing.assert_array_equal(compiled.terminated, tensors.terminated)
        np.testing.assert_allclose(compiled.rewards, tensors.rewards, rtol=1e-4, atol=1e-4)
        if dynamics.world is world:
            paid, ended = compiled.rewards, compiled.terminated
    assert 0.2 < ended.mean() < 0.4
    np.testing.assert_allclose(paid - compiled.rewards, 100.0 * ended, atol=1e-3)


def test_an_end_that_is_left_open_pays_its_mean():
    plain, world = Dynamics(paying(0.3, 0.0)), Dynamics(paying(0.3, 100.0))
    state, action, noise = torch.zeros(1, 3), torch.zeros(1, 2), torch.zeros(1, 3)
    more = world.step(state, action, noise).reward - plain.step(state, action, noise).reward
    assert more.item() == pytest.approx(30.0, abs=1e-3)
    still = world.step(state, action, None).reward - plain.step(state, action, None).reward
    assert still.item() == 0
