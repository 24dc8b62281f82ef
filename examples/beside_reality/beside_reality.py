"""SAC that acts in reality and mostly learns from dreams: model-based policy optimisation.

    python examples/beside_reality/beside_reality.py --out runs/beside --steps 3000

The agent is Stable-Baselines3's SAC on the environment's own observations, unchanged but for its
replay buffer: most of every batch is dreamt, in short branches that begin at what the filter
believed along real episodes. So it needs no filter to act, and may be used without the model.

Source: Janner et al. 2019, "When to Trust Your Model: Model-Based Policy Optimization". Differs:
the model is a state-space model and dreams in its latent space; branches have one length.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from agents.starts import recorded_beliefs, sample_states
from worldmodel.data import Dataset, DatasetWriter
from worldmodel.files import write_json
from worldmodel.online.config import online_for, usual_model
from worldmodel.plots.learning import PROGRESS, learning_curve, read_progress
from worldmodel.training.growing import GrowingTrainer
from worldmodel.types import Belief
from worldmodel.world.dynamics import Dynamics, SupportRule
from worldmodel.world.world import World


@dataclass(frozen=True)
class Settings:
    """How much is dreamt, and how much is learned from it.

    Attributes:
        dreamt: Fraction of every batch that is dreamt; 0 is plain SAC.
        updates_per_step: Of SAC, per real step.
        seed_steps: Real steps before the model is fitted first.
        refit_every: Real steps between refits; then the branches are dreamt anew.
        first_fit: Updates of the model at first.
        refit: Updates of the model later.
        dreams: Branches that run at once.
        branch: Steps of each.
        rounds: How often so many are dreamt after a refit.
        replayed: Latest real episodes whose beliefs branches begin at.
        learning_rate: Of SAC.
        discount: Of SAC.
        evaluate_every: Real steps between evaluations.
        evaluate_episodes: Of each.
    """

    dreamt: float = 0.9
    updates_per_step: int = 4
    seed_steps: int = 600
    refit_every: int = 200
    first_fit: int = 500
    refit: int = 60
    dreams: int = 128
    branch: int = 4
    rounds: int = 8
    replayed: int = 24
    learning_rate: float = 1e-3
    discount: float = 0.98
    evaluate_every: int = 400
    evaluate_episodes: int = 10


class Keeping(gym.Wrapper):
    """Keeps whole episodes, as a dataset takes them, until they are fetched."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.whole: list[dict[str, Any]] = []

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """As the environment's."""
        seen, info = self.env.reset(**kwargs)
        self._seen, self._taken, self._paid = [seen], [], []
        return seen, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment's."""
        seen, reward, terminated, truncated, info = self.env.step(action)
        self._seen.append(seen)
        self._taken.append(action)
        self._paid.append(float(reward))
        if terminated or truncated:
            self.whole.append(
                {
                    "observations": np.stack(self._seen),
                    "actions": np.stack(self._taken),
                    "rewards": np.array(self._paid, np.float32),
                    "terminated": terminated,
                }
            )
        return seen, reward, terminated, truncated, info

    def fetch(self) -> list[dict[str, Any]]:
        """What was kept since the last time."""
        whole, self.whole = self.whole, []
        return whole


class Mixed(ReplayBuffer):
    """Real transitions, of which every batch has a part; the rest is dreamt.

    Attributes:
        dreamt: Another buffer, or None as long as nothing was dreamt.
        fraction: Of a batch that comes from there.
    """

    dreamt: ReplayBuffer | None = None
    fraction = 0.0

    def sample(self, batch_size: int, env: Any = None) -> ReplayBufferSamples:
        """See the base class."""
        count = round(self.fraction * batch_size) if self.dreamt is not None else 0
        if not count or self.dreamt is None:
            return super().sample(batch_size, env)
        parts = [self.dreamt.sample(count)]
        if count < batch_size:
            parts.append(super().sample(batch_size - count, env))
        columns = zip(*(part[:5] for part in parts), strict=True)
        return ReplayBufferSamples(*(torch.cat(column) for column in columns))


class Dreaming(BaseCallback):
    """Refits the model to what was recorded, and fills the buffer of dreams.

    Args:
        env: What keeps the episodes.
        judged: Another environment, to evaluate in.
        run: Folder.
        settings: How.
        seed: Of the model and of the dreams.
    """

    def __init__(
        self, env: Keeping, judged: gym.Env, run: Path, settings: Settings, seed: int
    ) -> None:
        super().__init__()
        self._env, self._judged, self._run, self._settings = env, judged, run, settings
        self._generator = torch.Generator().manual_seed(seed)
        self._seed, self._groups, self.rows = seed, 0, []
        self._trainer: GrowingTrainer | None = None

    def _on_step(self) -> bool:
        steps, s = self.num_timesteps, self._settings
        if s.dreamt and steps >= s.seed_steps and steps % s.refit_every == 0:
            self._refit()
        if steps % s.evaluate_every == 0:
            mean, _ = evaluate_policy(self.model, self._judged, s.evaluate_episodes, warn=False)
            self.rows.append({"real_steps": steps, "clean_return": float(np.mean(mean))})
            with (self._run / PROGRESS).open("a") as file:
                file.write(json.dumps(self.rows[-1]) + "\n")
        return True

    def _refit(self) -> None:
        s = self._settings
        dataset = self._recorded()
        if dataset is None:
            return
        if self._trainer is None:
            train = online_for(dataset.observation_spec, dataset.action_spec).train
            train = replace(train, updates=s.first_fit, seed=self._seed)
            model = usual_model(self._seed)(dataset.observation_spec, dataset.action_spec)
            self._trainer = GrowingTrainer(model, dataset, train, self._run, {})
            self._trainer.train(s.first_fit)
        else:
            arrived = dataset.train.padded(np.arange(len(dataset.train)))
            self._trainer.grow(dataset, arrived)
            self._trainer.train(s.refit)
        world = self._trainer.world()
        latest = np.arange(max(0, len(dataset.train) - s.replayed), len(dataset.train))
        self._fill(world, recorded_beliefs(world, dataset.train.padded(latest)))

    def _recorded(self) -> Dataset | None:
        """All whole episodes so far, every tenth to validate with; None if there are too few."""
        folder, spaces = self._run / "data", (self._env.observation_space, self._env.action_space)
        with DatasetWriter(folder, *spaces) as writer:
            for episode in self._env.fetch():
                writer.write(episode, "validation" if self._groups % 10 == 1 else "train")
                self._groups += 1
        return Dataset.read(folder) if self._groups >= 2 else None

    @torch.no_grad()
    def _fill(self, world: World, starts: Belief) -> None:
        """Branches of the policy as it is, in place of those of an older model."""
        s, agent = self._settings, self.model
        assert isinstance(agent, SAC), "it is the callback of SAC"
        buffer, dynamics = agent.replay_buffer, Dynamics(world, SupportRule(radius=torch.inf))
        assert isinstance(buffer, Mixed), "it was built so"
        dreamt = ReplayBuffer(
            s.dreams * s.branch * s.rounds,
            agent.observation_space,
            agent.action_space,
            n_envs=s.dreams,
        )
        for _ in range(s.rounds):
            states = sample_states(starts, s.dreams, self._generator)
            for _ in range(s.branch):
                seen = world.decode(states)
                actions, _ = agent.predict(seen, deterministic=False)
                noise = torch.randn(s.dreams, world.model.noise_size, generator=self._generator)
                controls = torch.from_numpy(world.model.action_spec.encode(actions, (s.dreams,)))
                step = dynamics.step(states, controls, noise)
                ended = step.terminated
                dreamt.add(
                    seen,
                    world.decode(step.next_state),
                    agent.policy.scale_action(actions),
                    step.reward.numpy(),
                    ended.numpy(),
                    [{}] * s.dreams,
                )
                fresh = sample_states(starts, s.dreams, self._generator)
                states = torch.where(ended.unsqueeze(1), fresh, step.next_state)
        buffer.dreamt, buffer.fraction = dreamt, s.dreamt


def learn(
    env_id: str, run: Path, steps: int, settings: Settings, seed: int
) -> list[dict[str, float]]:
    """Learn in reality and in dreams; the evaluations, which are also in ``progress.jsonl``."""
    run.mkdir(parents=True)
    env, judged = Keeping(gym.make(env_id)), gym.make(env_id)
    judged.reset(seed=seed + 1)
    agent = SAC(
        "MlpPolicy",
        env,
        learning_rate=settings.learning_rate,
        gamma=settings.discount,
        learning_starts=min(settings.seed_steps, steps),
        gradient_steps=settings.updates_per_step,
        replay_buffer_class=Mixed,
        policy_kwargs={"net_arch": [128, 128]},
        seed=seed,
        device="cpu",
    )
    watching = Dreaming(env, judged, run, settings, seed)
    agent.learn(steps, callback=watching)
    agent.save(run / "sac.zip")
    return watching.rows


def main(
    env_id: str = "Pendulum-v1",
    out: Path = Path("runs/beside_reality"),
    steps: int = 3000,
    seeds: tuple[int, ...] = (0,),
    settings: Settings = Settings(),
) -> None:
    """Learn with dreams and without, and draw both curves.

    Args:
        env_id: A Gymnasium environment of a vector and a Box of actions.
        out: A new folder.
        steps: Real steps.
        seeds: Of everything.
        settings: How.
    """
    torch.set_num_threads(1)
    for name, fraction in (("dreams", settings.dreamt), ("plain", 0.0)):
        for seed in seeds:
            run = out / f"{name}-{seed}"
            learn(env_id, run, steps, replace(settings, dreamt=fraction), seed)
        curves = {f"{name}, seed {seed}": read_progress(out / f"{name}-{seed}") for seed in seeds}
        learning_curve(curves, out / f"{name}.png")
        last = {curve: rows[-1] for curve, rows in curves.items()}
        write_json(out / f"{name}.json", last)
        print(json.dumps(last, indent=1))


if __name__ == "__main__":
    tyro.cli(main)
