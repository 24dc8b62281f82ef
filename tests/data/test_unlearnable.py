"""Pictures and actions that nothing can be learned from, and their like that are all right."""

import numpy as np
import pytest
import torch
from small import as_dataset, box, pixels, vector

import envs  # noqa: F401 (registers)
from worldmodel.data import SplitConfig, collect, findings
from worldmodel.systems import SYSTEMS
from worldmodel.types import Batch

EPISODES, STEPS, SIDE = 40, 110, 16


def drawn(position: np.ndarray, side: int = SIDE, radius: float = 2.0) -> np.ndarray:
    """A bright blob (..., side, side, 1) at a place (..., 2) in the square of half side 1."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    away = np.square(x - position[..., :1, None]) + np.square(y - position[..., 1:, None])
    return np.uint8(30 + 200 * np.exp(-away * (side / 2 / radius) ** 2))[..., None]


def pushed(push: float = 0.02, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Places (episodes, frames, 2) of a point on a spring, and the actions that push it."""
    rng = np.random.default_rng(seed)
    actions = np.repeat(rng.uniform(-1, 1, (EPISODES, STEPS // 5, 2)), 5, 1)
    place, velocity = rng.uniform(-0.8, 0.8, (2, EPISODES, 2)) * np.array([1, 0.15])[:, None, None]
    places = [place]
    for t in range(STEPS):
        velocity = velocity - 0.02 * place + push * actions[:, t]
        velocity = np.where(np.abs(place + velocity) > 0.9, -velocity, velocity)
        place = place + velocity
        places.append(place)
    return np.stack(places, 1), actions.astype(np.float32)


def told(observations: np.ndarray, actions: np.ndarray, controlled: bool = True) -> list[str]:
    """Findings in a recording."""
    seen, controls = torch.from_numpy(observations), torch.from_numpy(actions)
    size, steps = controls.shape[:2]
    rewards = torch.linspace(0, 1, size * steps).reshape(size, steps)
    never = torch.zeros(size, steps, dtype=torch.bool)
    batch = Batch(seen, controls, rewards, never, ~never)
    space = pixels(*seen.shape[2:]) if seen.ndim == 5 else vector(seen.shape[-1])
    return findings(as_dataset(space, box((-1, -1), (1, 1)), train=batch), controlled)


def with_clock(pictures: np.ndarray) -> np.ndarray:
    """Three by four pixels at the top right that are different at every step."""
    bits = np.random.default_rng(0).integers(0, 2, (pictures.shape[1], 12))
    pictures = pictures.copy()
    pictures[:, :, :3, -4:] = np.uint8(60 + 100 * bits.reshape(-1, 3, 4, 1))
    return pictures


def test_nothing_is_said_of_what_actions_push():
    places, actions = pushed()
    assert told(drawn(places), actions) == []
    assert told(places.astype(np.float32), actions) == []


def test_a_small_thing_in_a_large_picture_is_no_clock():
    places, actions = pushed(push=0.005)
    assert told(drawn(places, side=48, radius=3), actions) == []


def test_a_weak_push_is_an_effect():
    """At most a twentieth of a pixel per step and step."""
    places, actions = pushed(push=0.005)
    assert told(drawn(places), actions) == []


@pytest.mark.parametrize("turned", [False, True])
def test_a_clock_in_a_still_picture_is_named(turned):
    _, actions = pushed()
    pictures = with_clock(np.full((EPISODES, STEPS + 1, SIDE, SIDE, 1), 90, np.uint8))
    first = told(pictures.transpose(0, 1, 3, 2, 4) if turned else pictures, actions)[0]
    where = "rows 12 to 15, columns 0 to 2" if turned else "rows 0 to 2, columns 12 to 15"
    assert first.startswith(f"stream 'observation': 100% of what changes in train lies in {where}")
    assert "crop it" in first


def test_a_clock_beside_a_moving_thing_is_named_and_nothing_else():
    places, actions = pushed()
    pictures = with_clock(drawn(0.55 * places - np.array([0.35, -0.35])))
    (found,) = told(pictures, actions)
    assert "lies in rows 0 to 2, columns 12 to 15, apart from all else" in found
    assert 25 <= int(found.split(": ")[1].split("%")[0]) < 90


def test_a_clock_is_found_in_a_noisy_large_picture():
    noise = np.random.default_rng(0).integers(0, 3, (EPISODES, STEPS + 1, 64, 64, 1))
    clock = with_clock(np.zeros((EPISODES, STEPS + 1, SIDE, SIDE, 1), np.uint8))
    pictures = np.uint8(90 + noise)
    pictures[:, :, :6, -8:] = np.repeat(np.repeat(clock[:, :, :3, -4:], 2, 2), 2, 3)
    found = told(pictures, pushed()[1])
    assert "lies in rows 0 to 5, columns 56 to 63" in found[0] and len(found) <= 2


@pytest.mark.parametrize("pictures", [True, False])
@pytest.mark.parametrize("unit", [1e-30, 1, 3e38])
def test_actions_that_do_nothing_are_found(pictures, unit):
    places, _ = pushed()
    _, others = pushed(seed=1)
    seen = drawn(places) if pictures else places.astype(np.float32)
    others *= np.float32(unit)
    (found,) = told(seen, others)
    assert found.startswith("no effect of the actions was found in 3,900 frames of train: ")
    assert "--process held" in found
    assert told(seen, others, controlled=False) == []


def test_few_episodes_are_no_ground_to_accuse_the_actions():
    places, _ = pushed()
    _, others = pushed(seed=1)
    assert told(drawn(places[:20]), others[:20]) == []


def test_actions_that_show_in_one_of_two_streams_have_an_effect():
    places, actions = pushed()
    others, _ = pushed(seed=1)
    both = np.concatenate([places, others], -1).astype(np.float32)
    assert told(both, actions) == []


def test_things_that_move_by_more_than_their_size_are_found():
    _, actions = pushed()
    phase = np.random.default_rng(0).uniform(0, 6, (EPISODES, 1))
    angle = phase + 2.4 * np.arange(STEPS + 1)
    pictures = drawn(0.8 * np.stack([np.cos(angle), np.sin(angle)], -1), radius=1.5)
    found = told(pictures, actions, controlled=False)
    assert len(found) == 1 and "things move by more than their size" in found[0]
    slower = phase + 0.2 * np.arange(STEPS + 1)
    pictures = drawn(0.8 * np.stack([np.cos(slower), np.sin(slower)], -1), radius=1.5)
    assert told(pictures, actions, controlled=False) == []


def test_pictures_that_are_repeated_are_counted_with_the_mend():
    places, actions = pushed()
    shown = drawn(places)[:, np.arange(STEPS + 1) // 4 * 4]
    (found,) = told(shown, actions)
    assert found.startswith("stream 'observation': 75% of the pictures in train equal the one")
    assert "--frame-skip 4" in found
    every_other = drawn(places)[:, np.arange(STEPS + 1) // 2 * 2]
    assert not any("equal the one before" in found for found in told(every_other, actions))


def test_padding_counts_as_nothing():
    places, actions = pushed()
    pictures = drawn(places)
    pictures[:, STEPS // 2 + 1 :] = 0
    batch = Batch(
        torch.from_numpy(pictures),
        torch.from_numpy(actions),
        torch.rand(EPISODES, STEPS),
        torch.zeros(EPISODES, STEPS, dtype=torch.bool),
        (torch.arange(STEPS) < STEPS // 2).expand(EPISODES, STEPS),
    )
    assert findings(as_dataset(pixels(SIDE, SIDE), box((-1, -1), (1, 1)), train=batch)) == []


@pytest.mark.parametrize("name", ["Pendulum", "BouncingBall", "TwoBouncingBalls"])
def test_the_systems_that_ship_are_all_right(name):
    env_id = f"worldmodel/{name}-v0"
    dataset = collect(env_id, splits={"train": SplitConfig(320, 14)}, num_envs=320)
    found = findings(dataset, SYSTEMS[env_id].controlled)
    assert [finding for finding in found if "every reward" not in finding] == []
