"""Many dreams as one ``gymnasium.vector.VectorEnv``: a single tensor step for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from worldmodel.errors import DivergenceError, ResetNeeded, SpecError
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.world.actions import ActionReader
from worldmodel.world.believed import Believed, Rule, truncation
from worldmodel.world.dynamics import Dynamics, latent_box
from worldmodel.world.env import LatentEnv
from worldmodel.world.episodes import Episodes
from worldmodel.world.rendering import Camera, check_render_mode
from worldmodel.world.start import checked_options, chosen_by, states_from_options
from worldmodel.world.status import DIVERGED, REFUSED
from worldmodel.world.stepping import steps_of
from worldmodel.world.torch_dreams import TorchDreams, TorchStep, as_controls
from worldmodel.world.world import World, resolve

# Numbers of steps' noise that are drawn at a time: one step's cost nearly as much.
_DRAWN = 65536


class LatentVectorEnv(VectorEnv):
    """``num_envs`` independent dreams; each is a ``LatentEnv``, with the same spaces and rules.

    Conventions are those of ``gymnasium.vector.SyncVectorEnv``: "final_obs" and "final_info" in
    SAME_STEP mode, ``options={"reset_mask": mask}`` to reset some (in any mode), and in DISABLED
    mode a step is refused while an ended episode has not been reset. Rewards are ``float32``.
    Arrays that are returned are never written to again.

    One generator, seeded from ``np_random`` by a reset of all, serves all environments: noise is
    one draw for all of them. So environment i under seed s is not the single environment under
    seed s + i; without noise and from given states the two agree. Normal numbers of compiled steps
    come from xoshiro128++, which that generator seeds; those of tensors from torch's.

    ``torch_step`` steps the same dreams where the model is, by tensors that stay there.

    Attributes:
        autoreset_mode: As in ``metadata``; other libraries look for it here.
        compiled: True if steps are compiled, else the reason why not.

    Args:
        checkpoint: A world, or a checkpoint folder, or the name of a bundled one.
        num_envs: How many.
        max_episode_steps: Truncate after so many steps; None never does.
        autoreset_mode: A member of ``AutoresetMode`` or its value.
        render_mode: "rgb_array" or None.
        noise: Whether the dreams have the model's process noise, and end by chance.
        truncate_outside: As for ``LatentEnv``.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        FileFormatError: The checkpoint cannot be read.
        SpecError: The model's support is not fitted, or an argument is not one of those above.
    """

    def __init__(
        self,
        checkpoint: World | str | Path | None,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        noise: bool = True,
        truncate_outside: Rule = True,
    ) -> None:
        world = resolve(checkpoint)
        model = world.model
        self._noise, self._rule = noise, truncation(truncate_outside, world)
        self._believed = Believed(world.trust)
        for name, count in (("num_envs", num_envs), ("max_episode_steps", max_episode_steps)):
            if count is not None and count < 1:
                raise SpecError(f"{name} must be at least 1, got {count}")
        self.render_mode = render_mode
        self.num_envs = num_envs
        self.autoreset_mode = _mode(autoreset_mode)
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": LatentEnv.metadata["render_fps"],
            "autoreset_mode": self.autoreset_mode,
        }
        check_render_mode(render_mode, self.metadata["render_modes"])
        self._camera = Camera(world) if render_mode else None
        self._box = latent_box(world)
        self.single_observation_space = self._box
        self.single_action_space = model.action_spec.space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._limit = max_episode_steps
        self._dynamics = Dynamics(world)
        self._steps, self.compiled = steps_of(self._dynamics, self._box, True)
        self._reader = ActionReader(model.action_spec, (num_envs,), model.device, model.dtype)
        self._read = self._reader.raw if self.compiled is True else self._reader.array
        self._generator = torch.Generator(model.device)
        self._device = model.device
        self._ahead = 1 + _DRAWN // (1 + self._dynamics.draws * num_envs)
        self._drawn: list[Any] = []
        # After a first torch_step, which the states are then with.
        self._dreams: TorchDreams | None = None
        # (latent, num_envs): a step reads and writes neighbours together.
        self._states: np.ndarray | None = None
        # (memory, num_envs): of what bounds errors.
        self._memory = np.repeat(self._believed.first[:, np.newaxis], num_envs, 1)
        self._everyone = np.ones(num_envs, np.bool_)
        given = num_envs, max_episode_steps, self._rule, self._believed, self._draw_first
        self._episodes = Episodes(*given, self.compiled is True)

    @property
    def world(self) -> World:
        """What is dreamt of."""
        return self._dynamics.world

    @property
    def model(self) -> StateSpaceModel:
        """The model that dreams."""
        return self._dynamics.model

    @property
    def states(self) -> np.ndarray:
        """The latent states (num_envs, latent), unclipped; a copy.

        Raises:
            ResetNeeded: There are none yet.
        """
        if self._dreams is not None:
            return self._dreams.states.cpu().numpy()
        return self._current().T.copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start episodes, of all or of those that ``options["reset_mask"]`` picks.

        Other options are those of ``LatentEnv.reset``, for each environment or shared by all.
        A reset of some goes on with the generator as it is, unless a seed is given.

        Raises:
            SpecError: An option is unknown, or the options contradict each other.
            ShapeError: An option does not fit the model or the number of environments.
            DivergenceError: The belief after the given observations is not finite.
            ResetNeeded: A reset of some came before the first reset of all.
        """
        options = checked_options(options)
        if self._dreams is not None and (options or {}).get("reset_mask") is not None:
            raise SpecError("after torch_step all are reset together; got a reset_mask")
        self._dreams = None
        mask = chosen_by(options.pop("reset_mask", None), self.num_envs)
        if not mask.all():
            self._current()
        super().reset(seed=seed)
        if seed is not None or mask.all():
            self._generator.manual_seed(int(self.np_random.integers(2**63 - 1)))
            self._drawn = []
            self._episodes.forget()
        states = states_from_options(self.model, options, self.num_envs)
        if states is None:
            first, _ = self._episodes.first(int(mask.sum()))
        else:
            first = states.detach().cpu().numpy()[mask].T
        if mask.all():
            self._states = first.copy()
        else:
            self._current()[:, mask] = first
        current = torch.from_numpy(self._current().T).to(self._device)
        inside = self._dynamics.inside(current).cpu().numpy()
        self._episodes.begin(mask, self._memory)
        infos = {"outside_support": ~inside & mask, "_outside_support": mask}
        bounds = np.repeat(self._believed.start[:, np.newaxis], self.num_envs, 1)
        infos |= self._believed.many(np.where(mask, bounds, 0).astype(np.float32), mask.copy)
        return self._observe(self._current()), infos

    def step(
        self, actions: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of every dream.

        Raises:
            ResetNeeded: There was no reset yet, or in DISABLED mode an episode is over.
            InvalidAction: The actions have another shape or dtype, or are not finite.
            DivergenceError: The model dreamt a state or reward that is not finite.
        """
        if self._dreams is not None:
            raise ResetNeeded("torch_step has the states; call reset() before the next step()")
        states, episodes = self._current(), self._episodes
        if episodes.count and self.autoreset_mode is AutoresetMode.DISABLED:
            raise ResetNeeded(
                f"environments {np.flatnonzero(episodes.over).tolist()} are over; reset them with "
                "options={'reset_mask': mask}"
            )
        step = self._steps(states, self._read(actions), self._draw_noise(), self._memory)
        if step.status & REFUSED:
            self._reader.array(actions)
        self._states, self._memory, observations = step.states, step.memory, step.observations
        episodes.step(step)
        terminations, outside, truncations = step.flags
        if step.status & DIVERGED:
            self._check_finite(step.rewards)
        everyone = self._everyone.copy
        infos = self._believed.many(step.bounds, everyone)
        infos["outside_support"], infos["_outside_support"] = outside, everyone()
        if self.autoreset_mode is AutoresetMode.SAME_STEP and episodes.count:
            observations, infos = self._finish(observations, outside, step.bounds)
        return observations, step.rewards, terminations, truncations, infos

    def torch_step(self, actions: Any) -> TorchStep:
        """One step of every dream on the model's device, which nothing leaves, or waits for.

        It goes on from a ``reset``, and so does ``step`` after the next one. Conventions are those
        of ``step``, but that NaN or infinite actions are not refused; they, or a model that
        diverges, raise up to 256 steps later.

        Args:
            actions: A tensor on that device in Gymnasium's layout, or an array there that offers
                ``__dlpack__``, such as JAX's; what is returned offers it too.

        Raises:
            ResetNeeded: There was no reset yet.
            SpecError: The actions are of no single Box or Discrete, ``autoreset_mode`` is
                DISABLED, or ``truncate_outside`` goes by bounds.
            ShapeError: The actions have another shape or dtype.
            DeviceError: They are on another device.
            DivergenceError: The model dreamt a state or reward that is not finite.
        """
        if self._rule.limit < np.inf:
            raise SpecError("torch_step bounds no errors, by which truncate_outside goes here")
        if self._dreams is None:
            states = torch.from_numpy(self._current().T.copy()).to(self._device, self.model.dtype)
            self._dreams = TorchDreams(
                self._dynamics,
                self._box,
                states,
                self._generator,
                self.autoreset_mode,
                self._limit,
                self._noise,
                self._rule.outside,
            )
        states, space = self._dreams.states, self.model.action_spec
        return self._dreams.step(as_controls(space, actions, self.num_envs, states))

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Decoded frames, each (height, width, 3) ``uint8``, in mode "rgb_array"; else None.

        Raises:
            ResetNeeded: There are no states yet.
        """
        if self._camera is None:
            return None
        return tuple(self._camera(torch.from_numpy(self.states).to(self._device)))

    def call(self, name: str) -> tuple[Any, ...]:
        """What Gymnasium's own vector environments give: one attribute, or frame, of each.

        Raises:
            SpecError: It is another method than ``render``: dreams act together only.
        """
        if name == "render":
            return self.render() or (None,) * self.num_envs
        value = getattr(self, name)
        if callable(value):
            raise SpecError(f"dreams act together: {name!r} cannot be called of each")
        return (value,) * self.num_envs

    def _current(self) -> np.ndarray:
        if self._states is None:
            raise ResetNeeded("call reset() first")
        return self._states

    def _draw_noise(self) -> Any:
        """Random numbers (draws, num_envs) of one step, or None; as the steps take them."""
        if not self._noise:
            return None
        if not self._drawn:
            given = self._ahead, self.num_envs, self._generator
            drawn = self._dynamics.draw(*given, self._steps.normal)
            self._drawn = self._steps.apart(drawn)[::-1]
        return self._drawn.pop()

    def _draw_first(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """States (latent, n) and their observations (n, latent)."""
        drawn = self._dynamics.reset(n, self._generator)
        states = np.ascontiguousarray(drawn.cpu().numpy().T)
        return states, np.ascontiguousarray(self._observe(states))

    def _finish(
        self, final: np.ndarray, outside: np.ndarray, bounds: np.ndarray
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """SAME_STEP: keep how the ended episodes ended, and begin their next ones."""
        done = self._episodes.over.copy()
        ended = np.flatnonzero(done)
        observations = final.copy()
        self._current()[:, ended], observations[ended] = self._episodes.first(len(ended))
        self._episodes.begin(ended, self._memory)
        final_obs = np.full(self.num_envs, None, dtype=object)
        for i in ended:
            final_obs[i] = final[i].copy()
        final_info = {"outside_support": outside & done, "_outside_support": done.copy()}
        final_bounds = np.where(done, bounds, np.float32(0))
        final_info |= self._believed.many(final_bounds, done.copy)
        bounds[:, ended] = self._believed.start[:, np.newaxis]
        infos = {
            "final_obs": final_obs,
            "_final_obs": done.copy(),
            "final_info": final_info,
            "_final_info": done.copy(),
            "outside_support": outside & ~done,
            "_outside_support": self._everyone.copy(),
            **self._believed.many(bounds, self._everyone.copy),
        }
        return observations, infos

    def _observe(self, states: np.ndarray) -> np.ndarray:
        # Two ufuncs cost a fifth of np.clip on a few small states.
        clipped = np.minimum(np.maximum(states.T, self._box.low), self._box.high)
        return clipped.astype(np.float32, copy=False)

    def _check_finite(self, rewards: np.ndarray) -> None:
        finite = np.isfinite(self._current()).all(0) & np.isfinite(rewards)
        if not finite.all():
            raise DivergenceError(
                f"the model dreamt a state or reward that is not finite in environments "
                f"{np.flatnonzero(~finite).tolist()}"
            )


def _mode(value: AutoresetMode | str) -> AutoresetMode:
    try:
        return AutoresetMode(value)
    except ValueError:
        known = [mode.value for mode in AutoresetMode]
        raise SpecError(f"autoreset_mode must be one of {known}, got {value!r}") from None
