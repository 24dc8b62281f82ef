"""Rounds of acting, appending, refitting, improving; killed at any moment, they go on.

Whatever acts in a round depends on the state after the round before alone, and on the seed; so that
what is played again after an interruption is what it was. The state is one file, written when a
round ends.

Source: Sutton 1991, "Dyna, an integrated architecture for learning, planning, and reacting"; the
policy by Hafner et al. 2020, see ``agents.actor_critic``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from agents.intrinsic import seeking, silent
from agents.rollout import Agent
from agents.starts import recorded_beliefs
from worldmodel.data import Dataset, Held, Source
from worldmodel.errors import require_at_least
from worldmodel.files import clear_folder, locked, whole_folder
from worldmodel.models.learned import LearnedModel
from worldmodel.online.config import OnlineConfig, online_for, usual_model
from worldmodel.online.gathering import Babbling, Filtering
from worldmodel.online.interrupts import Interrupts
from worldmodel.online.judging import surprise, told, trust
from worldmodel.online.methods import method_of
from worldmodel.online.reality import Reality, as_reality
from worldmodel.online.recorder import Ask, Gathered, Recorder
from worldmodel.online.watching import Watcher, draw_film
from worldmodel.spaces import ActionSpace, ObservationSpace
from worldmodel.training.growing import GrowingTrainer, read_beside
from worldmodel.training.settings import write_settings
from worldmodel.types import Belief
from worldmodel.world.ends import Ends
from worldmodel.world.members import Members
from worldmodel.world.support import Support
from worldmodel.world.world import World

DATA, BEST = "data", "best"
_FORECAST = ("forecast", "forecast_low", "forecast_high")


@dataclass(frozen=True)
class Counts:
    """How far a run is.

    Attributes:
        round: Rounds that are complete; that of the seed is the first.
        groups: Of training and validation, in all of them.
        real_steps: Likewise.
        evaluation_steps: Beside them.
        evaluations: How many.
        seconds: In all.
    """

    round: int = 0
    groups: int = 0
    real_steps: int = 0
    evaluation_steps: int = 0
    evaluations: int = 0
    seconds: float = 0.0


def learn(
    reality: Reality | Source | VectorEnv | str,
    run: str | Path,
    steps: int,
    config: OnlineConfig | None = None,
    build: Callable[[ObservationSpace, ActionSpace], LearnedModel] | None = None,
    preset: str | None = None,
    watcher: Watcher | None = None,
) -> World:
    """Learn a model and its agent while acting; killed and started again, it goes on.

    Args:
        reality: A Gymnasium id, a ``Source``, a vector environment, or a ``Rig``.
        run: Folder: ``data/`` grows, ``checkpoint/`` and ``policy.safetensors`` are those of the
            last round, ``progress.jsonl`` has a line for each; ``best/`` is a run folder of the
            round whose clean return was the highest.
        steps: Real steps to take in all; more may be asked for later.
        config: How; by default what suits what is observed.
        build: Of the spaces, a fresh model; by default a DVBF of the generic preset.
        preset: Name of what the model's settings began as, for ``settings.json``.
        watcher: Is told how it goes.

    Returns:
        The world of the last round. The agent is in the run folder.

    Raises:
        ConfigError: ``steps`` is less than 1.
        SpecError: The spaces cannot be modelled or change, or the folder holds another run.
        SourceError: The environment fails again and again.
        DivergenceError: Training gives what is not finite; the round before stays.
        FolderInUse: Another process learns in this folder.
    """
    require_at_least(1, steps=steps)
    run, watcher = Path(run), watcher or Watcher()
    run.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(locked(run))
        clear_folder(run)
        interrupts = stack.enter_context(Interrupts())
        known = as_reality(reality, bool(config and config.parallel))
        size = (config.num_envs, config.episode_steps) if config else (1, None)
        seconds, seed = (config.timeout, config.seed) if config else (60.0, 0)
        recorder = Recorder(known, run / DATA, *size, seconds, seed, interrupts, watcher.note)
        stack.callback(recorder.close)
        config = config or online_for(recorder.observation_spec, recorder.action_spec)
        model = (build or usual_model(config.seed))(recorder.observation_spec, recorder.action_spec)
        online = Online(known, recorder, model, config, run, preset, interrupts, watcher)
        stack.callback(watcher.close)
        while online.world is None or online.counts.real_steps < steps:
            online.round(steps)
        return online.world


class Online:
    """A run, round by round.

    Args:
        reality: What is acted in.
        recorder: Of it.
        model: Fresh.
        config: How.
        run: Folder.
        preset: As of ``learn``.
        interrupts: Held back while a round's results are written.
        watcher: Is told how it goes.

    Attributes:
        counts: How far it is.
        world: Of the last round; None before the first.
    """

    def __init__(
        self,
        reality: Reality,
        recorder: Recorder,
        model: LearnedModel,
        config: OnlineConfig,
        run: Path,
        preset: str | None,
        interrupts: Interrupts,
        watcher: Watcher,
    ) -> None:
        self._reality, self._recorder, self._model = reality, recorder, model
        self._config, self._run, self._preset = config, run, preset
        self._interrupts, self._watcher = interrupts, watcher
        self.counts, self._rows = Counts(), []
        self.world: World | None = None
        self._trainer: GrowingTrainer | None = None
        self._method = method_of(config, recorder.action_spec)
        if (beside := read_beside(run)) is not None:
            self._resume(beside)
        watcher.begin(run, self._rows, config.train.tensorboard)
        self._since = time.monotonic()

    def round(self, steps: int) -> None:
        """One round, of a run that is to take so many real steps.

        Raises:
            SourceError: The environment fails again and again.
            DivergenceError: Training gives what is not finite.
        """
        c, counts = self._config, self.counts
        row: dict[str, Any] = {"round": counts.round, "noise": None}
        self._watcher.phase("acting")
        gathered = self._act()
        row["return"] = gathered.mean_return
        real_steps = counts.real_steps + sum(gathered.lengths)
        row |= (
            surprise(self.world, gathered.batches)
            if self.world
            else dict(observation_error=None, reward_error=None)
        )
        row["noise"] = c.noise_after(counts.real_steps) if self.world else None
        dataset = self._refit(gathered)
        self._watcher.phase("improving the agent")
        row |= self._improve(dataset, real_steps)
        done = real_steps >= steps
        due = bool(c.evaluate_every) and counts.round % c.evaluate_every == 0
        row |= self._forecast(dataset) if done or due else dict.fromkeys(_FORECAST)
        clean = self._evaluate() if done or due else None
        self.counts = Counts(
            counts.round + 1,
            counts.groups + gathered.groups,
            real_steps,
            counts.evaluation_steps + (sum(clean.lengths) if clean else 0),
            counts.evaluations + (clean is not None),
            counts.seconds + time.monotonic() - self._since,
        )
        self._since = time.monotonic()
        row["clean_return"] = clean.mean_return if clean else None
        row |= {
            "real_steps": real_steps,
            "evaluation_steps": self.counts.evaluation_steps,
            "seconds": round(self.counts.seconds, 3),
            **self._reality.told(),
        }
        self._write(row)
        if clean and c.film_every and self.counts.evaluations % c.film_every == 0:
            self._watcher.phase("drawing a film")
            draw_film(self._fitted, clean.batches, self._run, real_steps, self._recorder.fps)

    def _act(self) -> Gathered:
        """Random at first, then the policy with noise."""
        c, counts, recorder = self._config, self.counts, self._recorder
        seeding = self.world is None

        def actor(env: VectorEnv, sequence: np.random.SeedSequence) -> Babbling | Filtering:
            if self.world is None:
                shape, rng = (env.num_envs, recorder.steps), np.random.default_rng(sequence)
                return Babbling(Held(c.held), recorder.action_spec, shape, rng)
            generator = torch.Generator(self.world.model.device)
            generator.manual_seed(int(sequence.generate_state(1)[0]))
            noise = c.noise_after(counts.real_steps), c.noise_correlation
            exploring = self._method.exploring(self.world, noise, generator)
            return Filtering(self.world, exploring, env)

        def enough(groups: int, steps: int, episodes: int) -> bool:
            least = c.seed_steps if seeding else c.round_steps
            return steps >= least and groups >= 1 + seeding

        def split(group: int) -> str:
            return "validation" if (counts.groups + group) % c.held_out == 1 else "train"

        return recorder.gather(Ask("round", counts.round, recorder.envs, enough, split, actor))

    def _refit(self, gathered: Gathered) -> Dataset:
        c, dataset = self._config, self._recorder.dataset()
        if self._trainer is None:
            self._trainer = self._trained(dataset)
            updates = c.train.updates
        else:
            for batch in gathered.batches:
                self._trainer.grow(dataset, batch)
            updates = c.updates

        def watch(done: int) -> None:
            self._watcher.phase(f"fitting the model, {done:,} of {updates:,} updates")

        self._trainer.train(updates, watch)
        self._watcher.phase("fitting what dreams need")
        self.world = self._trainer.world()
        return dataset

    def _trained(self, dataset: Dataset) -> GrowingTrainer:
        c = self._config
        train, lasting = replace(c.train, seed=c.seed), {"online": c.lasting()}
        return GrowingTrainer(self._model, dataset, train, self._run, lasting)

    def _improve(self, dataset: Dataset, real_steps: int) -> dict[str, Any]:
        """Train the agent on; the weight of what it seeks beside the task, and its trust."""
        world, number = self._fitted, self.counts.round
        c, known = self._config, dataset.train.sample()
        weight = c.intrinsic_after(real_steps, silent(known))
        goal = seeking(c.intrinsic, world, known, weight, c.seed + number)
        starts = self._starts(dataset)
        self._method.improve(world, starts, goal, number)
        trusted = trust(world, self._agent, starts, self._generator("trust"))
        return {"intrinsic": weight, "trust": trusted}

    def _generator(self, purpose: str) -> torch.Generator:
        """Of this round, for one purpose."""
        entropy = (self._config.seed, sum(purpose.encode()), self.counts.round)
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        return torch.Generator(self._fitted.model.device).manual_seed(seed)

    def _forecast(self, dataset: Dataset) -> dict[str, float]:
        """What the dream says that the evaluation will come to."""
        past = [
            (row["forecast"], row["clean_return"])
            for row in self._rows
            if row["forecast"] is not None and row["clean_return"] is not None
        ]
        asked = self._config.evaluate_episodes, self._recorder.limit
        said = told(self._fitted, self._agent, dataset, asked, past, self._generator("forecast"))
        return dict(zip(_FORECAST, (said.mean, said.low, said.high), strict=True))

    def _starts(self, dataset: Dataset) -> Belief:
        train = dataset.train
        latest = np.arange(max(0, len(train) - self._config.replayed), len(train))
        return recorded_beliefs(self._fitted, train.padded(latest))

    def _evaluate(self) -> Gathered:
        self._watcher.phase("evaluating")
        n = self._config.evaluate_episodes

        def actor(env: VectorEnv, sequence: np.random.SeedSequence) -> Filtering:
            return Filtering(self._fitted, self._agent, env)

        def enough(groups: int, steps: int, episodes: int) -> bool:
            return episodes >= n

        ask = Ask("evaluation", self.counts.round, n, enough, lambda group: "test", actor)
        return self._recorder.gather(ask)

    @property
    def _fitted(self) -> World:
        assert self.world is not None, "the model is fitted first"
        return self.world

    @property
    def _agent(self) -> Agent:
        assert self._method.agent is not None, "it is trained first"
        return self._method.agent

    def _write(self, row: dict[str, Any]) -> None:
        """Everything of a round: its state first, so that what else there is follows from it."""
        trainer, world, counts = self._trainer, self._fitted, self.counts
        assert trainer is not None, "the round has trained it"
        self._rows.append(row)
        beside = {
            "counts": vars(counts),
            "rows": self._rows,
            "learner": self._method.tensors(),
            "support": world.support.state_dict(),
            "ends": asdict(world.ends),
            "dream_noise": world.dream_noise,
            "members": world.members.state_dict() if world.members else {},
        }
        with self._interrupts.hold():
            trainer.write(beside)
            self._publish(world)
            self._watcher.row(row)

    def _publish(self, world: World) -> None:
        """The last round's world and agent, and beside them the best there were."""
        self._save(world, self._run)
        clean = self._rows[-1]["clean_return"]
        past = (row["clean_return"] for row in self._rows[:-1])
        if clean is not None and all(clean >= other for other in past if other is not None):
            with whole_folder(self._run / BEST) as fresh:
                self._save(world, fresh)

    def _save(self, world: World, run: Path) -> None:
        settings = self._model, self._config.train, self._recorder.dataset(), self._preset
        write_settings(run, *settings, self._run / DATA)
        self._method.save(run)
        metrics = {"updates": self._updates, "real_steps": self.counts.real_steps}
        world.save(run / "checkpoint", metrics)

    @property
    def _updates(self) -> int:
        return self._trainer.update if self._trainer else 0

    def _resume(self, beside: dict[str, Any]) -> None:
        """Go on after the last complete round; what the dataset has of the next is taken up."""
        self.counts, self._rows = Counts(**beside["counts"]), beside["rows"]
        self._trainer = self._trained(self._recorder.dataset())
        model = self._model.eval()
        support = Support(model.latent_size)
        support.load_state_dict(beside["support"])
        members = None
        if state := beside.get("members"):
            members = Members(model, self._config.train.dreaming.members)
            members.load_state_dict(state)
        ends, source = Ends(**beside.get("ends", {})), self._reality.source
        noise = beside.get("dream_noise", 1.0)
        kept = {"dream_noise": noise, "source": source, "ends": ends, "members": members}
        self.world = World(model, support, **kept)
        self._method.restore(beside["learner"], self.world)
        self._publish(self.world)  # who was killed may not have come to it
