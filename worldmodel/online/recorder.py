"""From groups of episodes to a dataset on disk, of which nothing that was complete is lost.

Every group says in the dataset which one it is, so that who goes on after being killed plays the
others alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from gymnasium.vector import VectorEnv

from worldmodel.data import Dataset, DatasetWriter, Provenance, installed_versions
from worldmodel.data.environments import episode_limit, observed
from worldmodel.data.folders import is_dataset
from worldmodel.errors import FileFormatError, SourceError, SpecError
from worldmodel.online.gathering import Actor, Group, Play
from worldmodel.online.interrupts import Interrupts
from worldmodel.online.reality import Reality, require_late_reset
from worldmodel.spaces import ActionSpace
from worldmodel.types import Batch

# Groups in a row of which no episode came to its end, after which nothing more is expected.
_ATTEMPTS = 3
_SECONDS = 10.0  # after which what waits is published; less than after which the writer does so


@dataclass(frozen=True)
class Ask:
    """A number of groups that belong together.

    Attributes:
        kind: What they are for.
        number: Of the round.
        envs: Environments of a group.
        enough: Of groups, steps and complete episodes that there are, whether that is all.
        split: Of a group, where it goes in the dataset.
        actor: Of the environments and a seed, who acts.
    """

    kind: str
    number: int
    envs: int
    enough: Callable[[int, int, int], bool]
    split: Callable[[int], str]
    actor: Callable[[VectorEnv, np.random.SeedSequence], Actor]

    @property
    def name(self) -> str:
        """What its episodes have for their origin, followed by the group."""
        return f"{self.kind} {self.number}"


@dataclass(frozen=True)
class Gathered:
    """What the dataset has of an ask.

    Attributes:
        groups: How many.
        returns: Of the episodes that came to their end.
        lengths: Steps of every episode.
        batches: The episodes, by split.
    """

    groups: int
    returns: list[float]
    lengths: list[int]
    batches: list[Batch]

    @property
    def mean_return(self) -> float | None:
        """Of the episodes that came to their end, if one did."""
        return float(np.mean(self.returns)) if self.returns else None


class Recorder:
    """Plays groups and writes them.

    Args:
        reality: What is acted in.
        folder: Of the dataset; a new one, or one that is added to.
        envs: Environments of a usual group.
        steps: Of an episode at most; None for the environment's own limit, or 1000.
        timeout: Seconds that an answer may take.
        seed: Of everything random.
        interrupts: Held back while a group is written.
        note: Is told what went wrong.

    Raises:
        SpecError: The spaces cannot be modelled, or the environment resets too early.
    """

    def __init__(
        self,
        reality: Reality,
        folder: Path,
        envs: int,
        steps: int | None,
        timeout: float,
        seed: int,
        interrupts: Interrupts,
        note: Callable[[str], None],
    ) -> None:
        self._reality, self.folder, self._note = reality, folder, note
        self._timeout, self._seed, self._interrupts = timeout, seed, interrupts
        self._open: dict[int, VectorEnv] = {}
        self._latest: Dataset | None = None
        self._failed, self._published = 0, 0.0
        env = self._open[envs] = reality.open(envs)
        require_late_reset(env)
        self.observation_spec = observed(env.single_observation_space)
        self.action_spec = ActionSpace.from_space(env.single_action_space)
        source = reality.source
        limit = episode_limit(env) if source is None else source.episode_steps(env)
        self.envs, self.limit = env.num_envs, steps or limit
        self.steps = self.limit or 1000
        self.fps = 10.0 if source is None else source.frames_per_second(env)

    def close(self) -> None:
        """Be done with all environments."""
        for n in list(self._open):
            self._give_up(n)

    def dataset(self) -> Dataset:
        """As it is on disk by now; nobody else writes there.

        Raises:
            FileFormatError: There are no episodes, or something is corrupt.
        """
        self._latest = self._latest or Dataset.read(self.folder)
        return self._latest

    def gather(self, ask: Ask) -> Gathered:
        """Play what the dataset does not have of an ask yet.

        Raises:
            SourceError: No episode came to its end in three groups in a row. What there was of
                them is kept.
            SpecError: The environments have other spaces than before.
        """
        done, steps, episodes = self._done(ask)
        self._published = time.monotonic()
        specs = self.observation_spec, self.action_spec
        with DatasetWriter(self.folder, *specs, self._provenance()) as writer:
            try:
                while not ask.enough(done, steps, episodes):
                    group = self._play(ask, done, writer)
                    done += bool(group.episodes)
                    steps, episodes = steps + group.steps, episodes + len(group.returns)
                    self._failed = 0 if group.returns else self._failed + 1
                    self._complain(ask, group, writer)
                    if self._failed == _ATTEMPTS:
                        raise SourceError(
                            f"no episode came to its end in {_ATTEMPTS} groups in a row; the last: "
                            f"{group.wrong[-1] if group.wrong else 'no step was taken'}. What was "
                            f"gathered is in {self.folder}; the same command goes on there"
                        )
            finally:
                # An error must not cost what was complete before it.
                with self._interrupts.hold():
                    writer.publish()
                self._latest = None
        return recorded(self.dataset(), ask.name)

    def _done(self, ask: Ask) -> tuple[int, int, int]:
        """Groups, steps and complete episodes that there are."""
        if not is_dataset(self.folder):
            return 0, 0, 0
        try:
            there = recorded(self.dataset(), ask.name)
        except FileFormatError:
            if any(self.folder.glob("parts*/[0-9]*")):
                raise
            return 0, 0, 0  # killed before the first episode
        return there.groups, sum(there.lengths), len(there.returns)

    def _play(self, ask: Ask, number: int, writer: DatasetWriter) -> Group:
        env = self._environments(ask.envs)
        kind = sum(ask.kind.encode())
        sequence = np.random.SeedSequence((self._seed, kind, ask.number, number))
        of_env, of_actor = sequence.spawn(2)
        play = Play(env, ask.actor(env, of_actor), self.steps, self._timeout)
        try:
            play.run(int(of_env.generate_state(1)[0] >> 1))
        except KeyboardInterrupt:
            if not self._reality.repeatable:
                self._write(ask, number, play.group(), play.actor.name, writer)
            raise
        group = play.group()
        self._write(ask, number, group, play.actor.name, writer)
        if group.lost:
            self._give_up(ask.envs)
        return group

    def _write(
        self, ask: Ask, number: int, group: Group, actor: str, writer: DatasetWriter
    ) -> None:
        told = {
            "actor": actor,
            "origin": f"{ask.name}, group {number}",
            "recorded": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with self._interrupts.hold():
            # In time, or the writer's own clock would publish some of a group's episodes alone.
            if time.monotonic() - self._published > _SECONDS:
                self._publish(writer)
            for episode in group.episodes:
                writer.write(episode, ask.split(number), **told)
            if not self._reality.repeatable:
                self._publish(writer)

    def _publish(self, writer: DatasetWriter) -> None:
        writer.publish()
        self._published = time.monotonic()

    def _complain(self, ask: Ask, group: Group, writer: DatasetWriter) -> None:
        for sentence in group.wrong:
            said = f"{ask.name}: {sentence}; {group.steps} steps of its group were kept"
            self._note(said)
            writer.note(said)

    def _environments(self, n: int) -> VectorEnv:
        if n not in self._open:
            self._open[n] = self._reality.open(n)
        env = self._open[n]
        now = (
            observed(env.single_observation_space),
            ActionSpace.from_space(env.single_action_space),
        )
        for what, known, found in zip(
            ("observations", "actions"), (self.observation_spec, self.action_spec), now, strict=True
        ):
            if known != found:
                raise SpecError(
                    f"the {what} of the environment were {known.space()} and are now "
                    f"{found.space()}; what was gathered is in {self.folder}"
                )
        return env

    def _give_up(self, n: int) -> None:
        env = self._open.pop(n)
        try:
            self._reality.close(env)
        except Exception as error:
            # It is broken, or it would not be given up.
            self._note(f"closing the environment failed: {error!r}")

    def _provenance(self) -> Provenance:
        source = self._reality.source
        where = {}
        if source is not None:
            where = {
                "env_id": source.env_id,
                "env_kwargs": source.env_kwargs,
                "wrapping": asdict(source.wrapping),
            }
        return Provenance(
            **where,
            process={"name": "online"},
            seed=self._seed,
            num_envs=self.envs,
            versions=installed_versions(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def recorded(dataset: Dataset, name: str) -> Gathered:
    """What a dataset has of an ask of this name."""
    groups: set[str] = set()
    returns: list[float] = []
    lengths: list[int] = []
    batches: list[Batch] = []
    for split in dataset.splits:
        episodes, rows, first = dataset.split(split), [], 0
        for part in episodes.parts:
            for i in range(len(part.lengths)):
                origin = part.told_of(i).get("origin", "")
                if origin.startswith(f"{name}, "):
                    groups.add(origin)
                    rows.append(first + i)
                    arrays = part.rows(i)
                    lengths.append(int(part.lengths[i]))
                    if arrays["terminated"][-1] or arrays["truncated"][-1]:
                        returns.append(float(arrays["rewards"].sum(dtype=np.float64)))
            first += len(part.lengths)
        if rows:
            batches.append(episodes.padded(np.array(rows)))
    return Gathered(len(groups), returns, lengths, batches)
