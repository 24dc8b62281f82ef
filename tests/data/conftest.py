from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from worldmodel.data import Dataset, Held, SplitConfig, collect


class Clock(gym.Env):
    """Observes (last action, steps since reset, a random number); the length is random too.

    Episodes of even length are terminated, those of odd length truncated. Arrival k pays k.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own convention
    observation_space = gym.spaces.Box(-100, 100, (3,), np.float32)
    action_space = gym.spaces.Box(-2, 2, (1,), np.float32)

    def __init__(self, longest: int = 11) -> None:
        self.longest = longest
        self.closed = False
        self.over = True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.length = (options or {}).get("length") or int(self.np_random.integers(2, self.longest))
        self.time, self.last, self.over = 0, 0.0, False
        return self._observe()

    def step(self, action: np.ndarray):
        assert not self.over, "stepped beyond the end"
        assert action.shape == (1,) and action.dtype == np.float32
        self.time, self.last = self.time + 1, float(action[0])
        self.over = self.time == self.length
        even = self.length % 2 == 0
        observation, info = self._observe()
        return observation, float(self.time), self.over and even, self.over and not even, info

    def close(self) -> None:
        self.closed = True

    def _observe(self):
        observation = np.array([self.last, self.time, self.np_random.random()], np.float32)
        return observation, {"state": np.array([self.time, self.length], np.float64)}


class NativeClock(VectorEnv):
    """Batched counter whose infos are plain arrays without masks; environment i lasts i + 2."""

    def __init__(self, num_envs: int, mode: AutoresetMode) -> None:
        self.metadata = {"autoreset_mode": mode}
        self.num_envs = num_envs
        self.single_observation_space = gym.spaces.Box(-100, 100, (2,), np.float32)
        self.single_action_space = gym.spaces.Box(-2, 2, (1,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.seeds: list[int] = []
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        mask = (options or {}).pop("reset_mask", np.ones(self.num_envs, bool))
        if mask.all():
            assert isinstance(seed, int)
            self.seeds.append(seed)
            self.time, self.last = np.zeros(self.num_envs), np.zeros(self.num_envs)
            self.over = np.zeros(self.num_envs, bool)
        else:
            self._restart(mask)
        return self._observe(), {"state": self.time[:, None].copy()}

    def _restart(self, mask: np.ndarray) -> None:
        self.time[mask], self.last[mask], self.over[mask] = 0, 0, False

    def _observe(self) -> np.ndarray:
        return np.stack([self.last, self.time], 1).astype(np.float32)

    def step(self, actions: np.ndarray):
        mode, stale, infos = self.metadata["autoreset_mode"], self.over.copy(), {}
        if mode is AutoresetMode.DISABLED:
            assert not stale.any()
        self.steps += 1
        self.time, self.last = self.time + 1, actions[:, 0].astype(np.float64)
        self._restart(stale)
        self.over = self.time == np.arange(self.num_envs) + 2
        over = self.over.copy()
        if mode is AutoresetMode.SAME_STEP and over.any():
            infos["final_obs"] = self._observe()
            infos["final_info"] = {"state": self.time[:, None].copy()}
            self._restart(over)
        infos["state"] = self.time[:, None].copy()
        return self._observe(), np.ones(self.num_envs), over, np.zeros_like(over), infos


@pytest.fixture
def clock() -> type[Clock]:
    return Clock


@pytest.fixture
def native_clock() -> type[NativeClock]:
    return NativeClock


@pytest.fixture
def clock_id():
    gym.register("test/Clock-v0", entry_point=Clock, disable_env_checker=True)
    yield "test/Clock-v0"
    del gym.registry["test/Clock-v0"]


@pytest.fixture
def dataset(clock_id: str) -> Dataset:
    splits = {
        "train": SplitConfig(5, 6),
        "validation": SplitConfig(2, 6),
        "test": SplitConfig(3, 9),
    }
    return collect(clock_id, {"longest": 8}, Held(2), splits, seed=4, num_envs=2)
