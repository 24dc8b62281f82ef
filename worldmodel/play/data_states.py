"""Latent states of data: the cloud that a dream moves through, and where it can start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Shaped

from worldmodel.data import Source, Uniform, record
from worldmodel.evaluation.identification import Targets, state_targets
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.plots.latent_plots import colourings
from worldmodel.types import Batch, Belief, to_numpy
from worldmodel.world.filter import VectorFilterObservation
from worldmodel.world.world import World

# Frames after which a filter that started from one picture knows velocities too.
SETTLED = 5


@dataclass(frozen=True)
class DataStates:
    """n states; those of recorded frames know the frames, and the truth if the recording told it.

    Attributes:
        latents: What the filter believed, its mean.
        scales: Standard deviation of that belief; zero where it is not known.
        frames: The recorded observations by stream, in the order of the recording; None if there
            are none.
        truths: Ground truth at each of them; None if there is none.
        variables: What they can be told apart by, (n,) each, by name.
    """

    latents: Float[np.ndarray, "n latent"]
    scales: Float[np.ndarray, "n latent"]
    frames: Mapping[str, Shaped[np.ndarray, "n ..."]] | None = None
    truths: Float[np.ndarray, "n truth"] | None = None
    variables: Mapping[str, Float[np.ndarray, " n"]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.latents)

    def belief(self, index: int, model: StateSpaceModel) -> Belief:
        """The belief at one of them, (1, latent)."""
        rows = (torch.from_numpy(a[index : index + 1].copy()) for a in (self.latents, self.scales))
        return Belief(*(row.to(model.device, model.dtype) for row in rows))

    @classmethod
    def of_support(cls, world: World) -> DataStates:
        """Those that every checkpoint carries, without frames."""
        latents = world.support.states.cpu().numpy()
        return cls(latents, np.zeros_like(latents))

    @classmethod
    def recorded(
        cls,
        model: StateSpaceModel,
        batch: Batch,
        targets: Targets = state_targets,
        most: int = 1500,
    ) -> DataStates:
        """Those of recorded episodes, filtered, from the frame on at which the filter has settled.

        Args:
            model: Of the same observations and actions.
            batch: Episodes, of which as many are used as give ``most`` states.
            targets: Names what the ground truth holds.
            most: How many at most.

        Raises:
            ShapeError: The episodes do not fit the model.
        """
        first = min(SETTLED, batch.steps)
        batch = batch[: -(-most // (batch.steps + 1 - first))].to(model.device)
        beliefs = model.filter_beliefs(batch.observations, batch.actions, seen=batch.seen)
        kept = batch.frame_mask.clone()
        kept[:, :first] = False
        rows = [beliefs.mean, beliefs.scale]
        latents, scales = (row[kept][:most].cpu().numpy() for row in rows)
        seen = to_numpy(batch.observations[kept][:most])
        frames = seen if isinstance(seen, dict) else {model.observation_spec.names[0]: seen}
        variables, truths = {}, None
        if batch.states is not None:
            truths = batch.states[kept][:most].cpu().numpy()
            variables = colourings(targets(truths))
        if batch.rewards is not None:
            variables["reward"] = batch.rewards[kept[:, 1:]][:most].cpu().numpy()
        return cls(latents, scales, frames, truths, variables)

    @classmethod
    def babbled(
        cls,
        world: World,
        source: Source,
        targets: Targets = state_targets,
        seed: int = 0,
        episodes: int = 64,
        steps: int = 24,
    ) -> DataStates:
        """Those of episodes that are recorded now, under random actions.

        Args:
            world: Of the source's observations and actions.
            source: Makes the real environment.
            targets: Names what the ground truth holds.
            seed: Of the recording.
            episodes: How many.
            steps: Of each.

        Raises:
            SpecError: The environment does not fit the world.
        """
        env = source.make_vec(episodes)
        try:
            VectorFilterObservation(env, world)  # refuses what does not fit, before the long part
            batch = record(env, episodes, steps, Uniform(), seed, progress=True)
        finally:
            env.close()
        return cls.recorded(world.model, batch, targets)
