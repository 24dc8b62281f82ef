"""An agent that tries other things than it would do: noise on numbers, now and then other choices.

Source: correlated noise explores systems with inertia, as in Lillicrap et al. 2016, "Continuous
control with deep reinforcement learning". Differs: its deviation is given, however correlated it
is, and what is no number is drawn from the policy, and replaced by chance.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from agents.policy import Policy
from agents.rollout import Acting, Agent
from worldmodel.spaces import ActionSpace


class Exploring:
    """Acts by an agent with noise; the noise goes on from call to call.

    Args:
        agent: Whose likeliest numbers are disturbed; choices of a ``Policy`` are drawn.
        actions: The environment's.
        bounds: (act,) each, least and greatest controls; finite also where an action has no bound.
        deviation: Of numbers' noise, in half ranges; a choice is replaced that often.
        correlation: Of the noise from one call to the next, in [0, 1).
        generator: Source of all draws.
    """

    def __init__(
        self,
        agent: Agent,
        actions: ActionSpace,
        bounds: tuple[torch.Tensor, torch.Tensor],
        deviation: float,
        correlation: float,
        generator: torch.Generator,
    ) -> None:
        self._agent, self._actions, self._generator = agent, actions, generator
        self._low, self._high = bounds
        self._act = Acting(agent)
        self._deviation, self._correlation = deviation, correlation
        self._numbers = torch.tensor(actions.continuous, device=self._low.device)
        self._noise: torch.Tensor | None = None

    @torch.no_grad()
    def __call__(self, states: Float[np.ndarray, "n latent"]) -> Any:
        """Actions of the environments, in Gymnasium's layout."""
        controls = self._chosen(states)
        half = (self._high / 2 - self._low / 2) * self._deviation
        disturbed = torch.where(self._numbers, controls + half * self._next(controls), controls)
        disturbed = torch.minimum(torch.maximum(disturbed, self._low), self._high)
        return self._actions.decode(self._replaced(disturbed).cpu().numpy())

    def _chosen(self, states: np.ndarray) -> torch.Tensor:
        """Controls (n, act) without noise on numbers."""
        seen = torch.as_tensor(states, dtype=self._low.dtype, device=self._low.device)
        if not isinstance(self._agent, Policy):
            controls = self._actions.encode(self._act(states), (len(states),))
            return torch.from_numpy(controls).to(seen)
        drawn = self._agent.noise(len(seen), self._generator)
        if drawn is not None:
            drawn = drawn.masked_fill(self._numbers, 0.0)
        return self._agent(seen, drawn)

    def _next(self, like: torch.Tensor) -> torch.Tensor:
        """Noise of unit variance."""
        fresh = torch.randn(like.shape, generator=self._generator, device=like.device)
        if self._noise is None:
            self._noise = fresh
        else:
            kept = self._correlation
            self._noise = kept * self._noise + math.sqrt(1 - kept**2) * fresh
        return self._noise

    def _replaced(self, controls: torch.Tensor) -> torch.Tensor:
        """Some of what is no number by what is as likely as anything."""
        if self._numbers.all():
            return controls
        shape = (len(controls), 1)
        some = torch.rand(shape, generator=self._generator, device=controls.device)
        any_ = torch.rand(controls.shape, generator=self._generator, device=controls.device)
        return torch.where((some < self._deviation) & ~self._numbers, any_, controls)
