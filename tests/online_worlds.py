"""Environments that are learned in milliseconds, that misbehave, and a run to be killed."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import gymnasium as gym
import numpy as np
import torch
from small import tiny_config

from worldmodel.models.dvbf import DVBF
from worldmodel.online.config import OnlineConfig
from worldmodel.online.watching import Watcher


class Cart(gym.Env):
    """A point that is pushed, paid for being near 0; it ends where it is far away."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.normal(0, 0.3, 2)
        return self.state.astype(np.float32), {"state": self.state.astype(np.float32)}

    def step(self, action):
        place, speed = self.state
        speed = 0.9 * speed + 0.2 * float(action[0])
        self.state = np.array([place + 0.2 * speed, speed])
        shown = self.state.astype(np.float32)
        return shown, -abs(float(place)), bool(abs(place) > 1.5), False, {"state": shown}


class Bad(Cart):
    """Goes wrong in one of its episodes, counted over all that were ever made.

    Args:
        how: What goes wrong.
        first: Episode from which on it does.
        last: Episode up to which it does.
    """

    episodes = 0

    def __init__(self, how: str, first: int, last: int = 10**9) -> None:
        self.how, self.span = how, (first, last)

    @property
    def wrong(self) -> bool:
        return self.span[0] <= Bad.episodes <= self.span[1]

    def reset(self, *, seed=None, options=None):
        Bad.episodes += 1
        self.taken = 0
        if self.how == "changes" and self.wrong:
            self.observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
            return np.zeros(3, np.float32), {"state": np.zeros(2, np.float32)}
        return super().reset(seed=seed)

    def step(self, action):
        self.taken += 1
        shown, reward, *rest = super().step(action)
        if self.wrong and self.taken == 4:
            if self.how == "dies":
                raise RuntimeError("the motor is gone")
            if self.how == "hangs":
                time.sleep(30)
            if self.how == "pays nan":
                reward = np.nan
            if self.how == "shows nan":
                shown = np.full(2, np.nan, np.float32)
        return shown, reward, *rest


gym.register("test/Cart-v0", Cart, max_episode_steps=12)
# Whose limit its spec does not tell, such as dm_control's.
gym.register("test/Timed-v0", lambda: gym.wrappers.TimeLimit(Cart(), 7))
gym.register("test/Bad-v0", Bad, max_episode_steps=12)

CONFIG = OnlineConfig(
    seed_steps=40,
    round_steps=20,
    updates=3,
    agent_updates=2,
    replayed=4,
    held_out=3,
    evaluate_every=2,
    evaluate_episodes=2,
    film_every=0,
    timeout=20.0,
)
CONFIG = replace(
    CONFIG,
    train=replace(CONFIG.train, updates=6, batch_size=4, window=4),
    agent=replace(CONFIG.agent, updates=3, batch_size=8, horizon=3, hidden=8),
)


def build(observations, actions):
    return DVBF(tiny_config(latent_size=2), observations, actions)


class Slow(Watcher):
    """Says what is being done, and takes its time over it."""

    def phase(self, doing):
        print(doing, flush=True)
        time.sleep(0.15)


if __name__ == "__main__":
    from worldmodel.online.learn import learn

    torch.set_num_threads(1)
    learn("test/Cart-v0", sys.argv[1], 110, CONFIG, build, watcher=Slow())
