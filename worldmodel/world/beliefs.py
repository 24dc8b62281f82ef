"""Beliefs over the states of environments that are watched, frame by frame."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch

from worldmodel.errors import ResetNeeded, SpecError
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.spaces import ActionSpace, ObservationSpace, map_arrays
from worldmodel.types import Belief, Observations
from worldmodel.world.actions import ActionReader
from worldmodel.world.believers import Believer, believer_of, tensors_of
from worldmodel.world.consistency import Consistency, shown_better
from worldmodel.world.dynamics import latent_box
from worldmodel.world.world import World


class Filter:
    """Beliefs over the states of ``lead`` environments, one filter step for all of them.

    Args:
        world: Its model is switched to evaluation mode.
        observations: Space of one environment's observations.
        actions: Space of one environment's actions.
        lead: (), for one environment, or (n,).

    Attributes:
        box: The latent Box that means are clipped into.
        compiled: True if steps are compiled, else the reason why not.

    Raises:
        SpecError: The spaces are not the model's, or its support is not fitted.
    """

    def __init__(
        self,
        world: World,
        observations: gym.Space,
        actions: gym.Space,
        lead: tuple[int, ...],
    ) -> None:
        self._world, self._model = world, world.model.eval()
        model = self._model
        _check_spaces(model, observations, actions)
        self.box, self._lead, self._known = latent_box(world), lead, False
        self._consistency = Consistency(world, lead[0] if lead else 1)
        self._start = np.inf if world.trust is None else float(world.trust.start[0])
        read = ActionReader(model.action_spec, lead, model.device, model.dtype)
        self._believer, self.compiled = believer_of(world, read, lead, self.box)

    def begin(self, frames: Any, mask: np.ndarray | None = None) -> None:
        """New beliefs from one frame (*lead, *obs) each, for all or those in ``mask``."""
        some = None if mask is None or mask.all() else mask
        fresh = self._initial(self._rows(frames, some))
        self._consistency.begin(some)
        if some is not None:
            self._current()
        self._believer.put(fresh, some)
        self._known = True

    def resume(self, belief: Belief) -> None:
        """Go on from a belief (n, latent) that was come to elsewhere."""
        self._believer.put(belief, None)
        self._known = True

    def advance(self, actions: Any, frames: Any) -> None:
        """Predict with the actions, correct with the frames (*lead, *obs) they led to.

        Raises:
            ResetNeeded: There is no belief yet.
            InvalidAction: The actions cannot be taken.
            DivergenceError: The filter of one environment is compiled, and its mean not finite.
        """
        found = self._current().advance(actions, frames)
        if self._consistency.known:
            lost = self._consistency.judge(found)
            if self._consistency.doubtful and lost.any():
                self._begin_again(frames, lost)

    @torch.inference_mode()
    def _begin_again(self, frames: Any, lost: np.ndarray) -> None:
        """Of those in a mask, those that a frame by itself shows better than what was believed."""
        rows = self._rows(frames, lost if self._lead else None)
        fresh = self._initial(rows)
        better = shown_better(self._world, fresh.mean, self._believer.rows(lost), rows)
        restarted = lost.copy()
        restarted[lost] = better
        self._consistency.restarted = restarted
        if better.any():
            chosen = torch.from_numpy(better).to(fresh.mean.device)
            self._believer.put(fresh[chosen], restarted)

    def _rows(self, frames: Any, mask: np.ndarray | None) -> Observations:
        """Checked frames of all, or of those in ``mask``."""
        chosen = frames if mask is None else map_arrays(lambda array: array[mask], frames)
        return tensors_of(self._model, chosen, self._lead)

    @torch.inference_mode()
    def _initial(self, rows: Observations) -> Belief:
        """Beliefs from one frame each."""
        none = torch.zeros(rows.shape[0], 0, self._model.action_spec.size, device=rows.device)
        return self._model.initial(rows.unsqueeze(1), none.to(self._model.dtype))

    def infos(self) -> dict[str, Any]:
        """What there is to say of the one belief: one by one, for arrays of one cost much more."""
        found = self._consistency
        consistent = bool(found.consistent[0])
        infos: dict[str, Any] = {"belief_scale": self.scales()[0]}
        infos["error_bound"] = self._start if consistent else np.inf
        if found.known:
            infos["innovation"] = float(found.innovation[0])
            infos |= {"consistent": consistent, "restarted": bool(found.restarted[0])}
        return infos

    def many_infos(self) -> dict[str, np.ndarray]:
        """The same of n beliefs, (n, ...); fresh arrays."""
        found = self._consistency
        bound = np.where(found.consistent, np.float32(self._start), np.float32(np.inf))
        infos = {"belief_scale": self.scales(), "error_bound": bound}
        if found.known:
            infos["innovation"] = found.innovation.copy()
            infos["consistent"] = found.consistent.copy()
            infos["restarted"] = found.restarted.copy()
        return infos

    def check(self, frame: Any) -> None:
        """Raise a ShapeError unless an observation of one environment keeps to its space."""
        self._model.observation_spec.read(frame)

    def means(self, clip: bool = True) -> np.ndarray:
        """Means (n, latent), clipped into the Box; a fresh array.

        Args:
            clip: False where states that no data showed are to be told, too.

        Raises:
            DivergenceError: A mean is not finite.
        """
        return self._current().means(clip)

    def scales(self) -> np.ndarray:
        """Standard deviations (n, latent); a fresh array."""
        return self._current().scales()

    def _current(self) -> Believer:
        if not self._known:
            raise ResetNeeded("call reset() first")
        return self._believer


def _check_spaces(model: StateSpaceModel, observations: gym.Space, actions: gym.Space) -> None:
    given = ObservationSpace.from_space(observations)
    if not model.observation_spec.agrees(given):
        raise SpecError(
            f"the environment gives {given.describe()}, "
            f"the model expects {model.observation_spec.describe()}"
        )
    taken = ActionSpace.from_space(actions)
    if taken != model.action_spec:
        raise SpecError(
            f"the environment takes {actions}, the model expects {model.action_spec.space()}"
        )
