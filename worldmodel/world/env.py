"""One dream as a ``gymnasium.Env``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from worldmodel.errors import DivergenceError, ResetNeeded
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.world.actions import ActionReader
from worldmodel.world.believed import Believed, Rule, truncation
from worldmodel.world.compiled import DRAWS
from worldmodel.world.dynamics import Dynamics, latent_box
from worldmodel.world.rendering import Camera, Window, check_render_mode
from worldmodel.world.start import states_from_options
from worldmodel.world.status import DIVERGED, OUTSIDE, REFUSED, TERMINATED
from worldmodel.world.stepping import step_of
from worldmodel.world.world import World, resolve

# First states drawn ahead at a time: a draw of one costs nearly as much.
_RESERVE = 64
_METADATA = {"render_modes": ["rgb_array", "human"], "render_fps": 10}


class LatentEnv(gym.Env):
    """The dream of a trained model; the observation is the latent state.

    The observation space is the finite Box that bounds the support of the training data, and the
    action space is that of the recorded environment, with its units and control interval. A
    finite action outside a Box is clipped to it; other unusable ones are refused.

    An episode terminates with the probability that the model holds, which is drawn like the
    noise; without ``noise``, where ending is likelier than not. It is truncated on leaving the
    support, with the reward that ``Dynamics`` describes, or where ``truncate_outside``
    says. Where the data had no rewards (``model.knows_reward``) every reward is 0. Time limits
    are ``gymnasium.make``'s. ``info`` holds "outside_support"; outside, the
    observation is clipped into its Box while the state goes on unclipped. It also holds
    "error_bound", below which lies, in nine dreams of ten, the mean squared error of the frame that
    the state shows as a fraction of the stream's variance (the largest of several streams, whose
    own are in "error_bounds"), and "reward_bound", of the reward's absolute error. They count from
    the state at reset, which is held to be that of a filter, and are infinite where a world was not
    calibrated.

    At reset the first state is one that a filter came to on the training data, or is where
    ``options`` say (``start.states_from_options``): {"state": z} or {"observations": frames,
    "actions": actions}. All that is random comes from a generator that ``np_random`` seeds: at a
    reset with a seed, and at the first one.

    Attributes:
        compiled: True if steps are compiled, else the reason why not.

    Args:
        checkpoint: A world, which is used as it is, its model switched to evaluation mode; or a
            checkpoint folder, or the name of a bundled one. A string in ``gymnasium.make`` lets the
            spec be written as JSON.
        render_mode: "rgb_array" (the decoded frame, enlarged), "human" (a window) or None.
        noise: Whether the dream has the model's process noise, and ends by chance.
        truncate_outside: Whether leaving the support ends the episode; or a number that the bound
            of the error must not exceed, or "bound" for 0.1.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        FileFormatError: The checkpoint cannot be read.
        SpecError: The support is not fitted, or ``render_mode`` or ``truncate_outside`` is not one
            of those above, or goes by bounds that there are not.
        MissingExtraError: ``render_mode`` is "human" and pygame is not installed.
    """

    metadata: dict[str, Any] = _METADATA

    def __init__(
        self,
        checkpoint: World | str | Path | None,
        render_mode: str | None = None,
        noise: bool = True,
        truncate_outside: Rule = True,
    ) -> None:
        world = resolve(checkpoint)
        model = world.model
        check_render_mode(render_mode, _METADATA["render_modes"])
        self._camera = Camera(world) if render_mode else None
        self.observation_space = self._box = latent_box(world)
        self.action_space = model.action_spec.space()
        self.render_mode = render_mode
        self._window = Window(self.metadata["render_fps"]) if render_mode == "human" else None
        self._dynamics = Dynamics(world)
        self._step, self.compiled = step_of(self._dynamics, self.observation_space, True)
        self._believed, self._rule = Believed(world.trust), truncation(truncate_outside, world)
        self._reader = ActionReader(model.action_spec, (), model.device, model.dtype)
        self._read = self._reader.raw if self.compiled is True else self._reader.array
        self._generator = torch.Generator(model.device)
        self._seeded_by: np.random.Generator | None = None
        self._noise = noise and self._dynamics.draws > 0
        self._reserve: list[np.ndarray] = []
        self._ahead = 1
        # Of the noise drawn ahead: the next draw, or -1 if a dream has none.
        self._draw = DRAWS if self._noise else -1
        self._started, self._over = False, True

    @property
    def world(self) -> World:
        """What is dreamt of."""
        return self._dynamics.world

    @property
    def model(self) -> StateSpaceModel:
        """The model that dreams."""
        return self._dynamics.model

    @property
    def state(self) -> np.ndarray:
        """The latent state (latent,), unclipped; a copy.

        Raises:
            ResetNeeded: There is none yet.
        """
        return self._current().copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; see the class for ``options``.

        Raises:
            SpecError: An option is unknown, or the options contradict each other.
            ShapeError: An option does not fit the model.
            DivergenceError: The belief after the given observations is not finite.
        """
        super().reset(seed=seed)
        if self.np_random is not self._seeded_by:
            self._seed()
        states = states_from_options(self.model, options, 1)
        if states is None:
            state, outside = self._first_state(), False
        else:
            state, outside = states[0].cpu().numpy(), not bool(self._dynamics.inside(states))
        self._step.state[:], self._step.memory[:] = state, self._believed.first
        self._started, self._over = True, False
        self._show()
        observation = np.minimum(np.maximum(state, self._box.low), self._box.high)
        info = {"outside_support": outside, **self._believed.one(self._believed.start)}
        return observation.astype(np.float32, copy=False), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step of the dream.

        Raises:
            ResetNeeded: There was no reset yet, or the episode is over.
            InvalidAction: The action has another shape or dtype, or is not finite.
            DivergenceError: The model dreamt a state or reward that is not finite.
        """
        if self._over:
            self._current()
            raise ResetNeeded("the episode is over; call reset() before the next step()")
        step, draw = self._step, self._draw
        given = self._read(action)
        if draw == DRAWS:
            draw = self._draw = self._draw_noise()
        reward, status = step.run(given, draw)
        if status & (REFUSED | DIVERGED):
            self._reader.array(action)
            state = step.following.tolist()
            raise DivergenceError(f"the model dreamt state {state} and reward {reward}")
        if draw >= 0:
            self._draw = draw + 1
        outside, terminated = status & OUTSIDE != 0, status & TERMINATED != 0
        info = self._believed.one(step.bounds)
        info["outside_support"] = outside
        truncated = (outside and self._rule.outside) or info["error_bound"] > self._rule.limit
        self._over = terminated or truncated
        if self._window is not None:
            self._show()
        observation = step.observation.copy()
        return observation, reward, terminated, truncated, info

    def render(self) -> np.ndarray | None:
        """The decoded frame (height, width, 3) ``uint8`` in mode "rgb_array", else None.

        Raises:
            ResetNeeded: There is no state yet.
        """
        if self.render_mode != "rgb_array" or self._camera is None:
            return None
        return self._camera(self._tensor())[0]

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()

    def _current(self) -> np.ndarray:
        if not self._started:
            raise ResetNeeded("call reset() first")
        return self._step.state

    def _seed(self) -> None:
        """Begin all draws anew, by a generator that ``np_random`` seeds."""
        self._seeded_by = self.np_random
        self._generator.manual_seed(int(self.np_random.integers(2**63 - 1)))
        # Who seeds every reset wants one state alone.
        self._reserve, self._ahead = [], 1
        self._draw = DRAWS if self._noise else -1

    def _first_state(self) -> np.ndarray:
        if not self._reserve:
            drawn = self._dynamics.reset(self._ahead, self._generator)
            self._reserve, self._ahead = list(drawn.cpu().numpy()), _RESERVE
        return self._reserve.pop()

    def _draw_noise(self) -> int:
        """Draw noise ahead; the first draw of it."""
        drawn = self._dynamics.draw(DRAWS, 1, self._generator)
        self._step.noise[:] = drawn[:, :, 0].cpu().numpy()
        return 0

    def _show(self) -> None:
        if self._window is not None and self._camera is not None:
            self._window.show(self._camera(self._tensor())[0])

    def _tensor(self) -> Tensor:
        state = torch.from_numpy(self._current().copy())
        return state.to(self.model.device, self.model.dtype).unsqueeze(0)
