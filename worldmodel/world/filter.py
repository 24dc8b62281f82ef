"""The real environment seen through the filter: the same observation space as the dream's.

That is what lets an agent that learned in the dream act in reality unchanged. The filter starts
from the one frame that reset gives, and corrects its belief with every further one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from torch import Tensor

from worldmodel.data.environments import check_each
from worldmodel.errors import DivergenceError, ResetNeeded, SpecError
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.spaces import ActionSpace, ObservationSpace, map_arrays, put_row
from worldmodel.types import Belief, Observations, to_tensors
from worldmodel.world.actions import ActionReader
from worldmodel.world.compiled import CompiledFilter, compile_filter
from worldmodel.world.consistency import Consistency
from worldmodel.world.dynamics import latent_box
from worldmodel.world.start import checked_options, chosen_by
from worldmodel.world.status import DIVERGED, REFUSED
from worldmodel.world.world import World, resolve


class FilterObservation(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """Observation: the mean of the belief over the latent state, clipped into the dream's Box.

    ``info["belief_scale"]`` is the belief's standard deviation, (latent,). "error_bound" is as of a
    dream that begins here: what the frame that the mean shows errs by at most, in nine of ten
    cases. Of a world that was calibrated, "innovation" is the squared error of the frame that was
    predicted from the last belief, as a fraction of the variance; "consistent" says whether that
    can be. Where it cannot be twice in a row, the belief is begun anew from the frame, if that
    shows the frame better, and "restarted" says so. Until the next frame agrees with it the error's
    bound is then infinite.

    Attributes:
        compiled: True if filter steps are compiled, else the reason why not.

    Args:
        env: The real environment.
        world: A world (used as it is, its model switched to evaluation mode), a checkpoint folder
            or a bundled name.

    Raises:
        SpecError: The environment's spaces are not the model's, or its support is not fitted.
        FileNotFoundError: There is no such checkpoint.
        FileFormatError: The checkpoint cannot be read.
    """

    def __init__(self, env: gym.Env, world: World | str | Path) -> None:
        # By its name, where it has one, the spec can be written as JSON.
        named = world.folder or world if isinstance(world, World) else str(world)
        gym.utils.RecordConstructorArgs.__init__(self, _disable_deepcopy=True, world=named)
        super().__init__(env)
        self._filter = Filter(resolve(world), env.observation_space, env.action_space, ())
        self.observation_space, self.compiled = self._filter.box, self._filter.compiled

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset the environment and begin a belief from its first frame."""
        checked_options(options)
        frame, info = self.env.reset(seed=seed, options=options)
        self._filter.begin(frame)
        return self._filter.means()[0], {**info, **self._filter.infos()}

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """Step the environment and correct the belief with the frame it gave."""
        frame, reward, terminated, truncated, info = self.env.step(action)
        self._filter.advance(action, frame)
        info = {**info, **self._filter.infos()}
        return self._filter.means()[0], reward, terminated, truncated, info


class VectorFilterObservation(VectorWrapper):
    """``FilterObservation`` over a vector environment, in any of its autoreset modes.

    One filter step serves all environments; those of Gymnasium's synchronous one are each wrapped
    to check what they show, which it would convert to the declared dtype. Beliefs begin anew
    exactly where an episode does: on the step after its end (NEXT_STEP), on the step that ends it
    (SAME_STEP, whose "final_obs" and "final_info" are filtered too), or where ``reset_mask`` says
    (DISABLED).

    ``info["belief_scale"]`` is (num_envs, latent), all else of ``info`` (num_envs,).

    Attributes:
        autoreset_mode: As in ``metadata``; other libraries look for it here.
        compiled: True if filter steps are compiled, else the reason why not.

    Args:
        env: The real vector environment.
        world: As for ``FilterObservation``.

    Raises:
        SpecError: As for ``FilterObservation``, or the environment declares no autoreset mode.
        FileNotFoundError: There is no such checkpoint.
        FileFormatError: The checkpoint cannot be read.
    """

    def __init__(self, env: VectorEnv, world: World | str | Path) -> None:
        super().__init__(env)
        mode = env.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise SpecError(f"{env} must declare metadata['autoreset_mode'], got {mode!r}")
        self.autoreset_mode = mode
        self._filter = Filter(
            resolve(world), env.single_observation_space, env.single_action_space, (env.num_envs,)
        )
        check_each(env)
        self.compiled = self._filter.compiled
        self.single_observation_space = self._filter.box
        self.observation_space = batch_space(self._filter.box, env.num_envs)
        self._done = np.zeros(env.num_envs, np.bool_)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset the environments and begin beliefs, of all or of those in ``reset_mask``."""
        # Taken before the environment is reset, since some remove it from the options.
        mask = chosen_by(checked_options(options).get("reset_mask"), self.num_envs)
        frames, infos = self.env.reset(seed=seed, options=options)
        self._filter.begin(frames, mask)
        self._done = self._done & ~mask
        return self._filter.means(), self._with_scales(infos, mask)

    def step(
        self, actions: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step the environments and correct all beliefs at once."""
        frames, rewards, terminations, truncations, infos = self.env.step(actions)
        done, began = terminations | truncations, self._done
        arrived = frames
        if self.autoreset_mode is AutoresetMode.SAME_STEP and done.any():
            arrived = map_arrays(np.array, frames)
            for row in np.flatnonzero(done).tolist():
                put_row(arrived, row, self._last_frame(infos, row))
            began = done
        self._filter.advance(actions, arrived)
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            if done.any():
                infos = self._with_final(infos, done)
                self._filter.begin(frames, done)
        else:
            if self.autoreset_mode is AutoresetMode.NEXT_STEP and began.any():
                self._filter.begin(frames, began)
            self._done = done.copy()
        infos = self._with_scales(infos, np.ones(self.num_envs, np.bool_))
        return self._filter.means(), rewards, terminations, truncations, infos

    def call(self, name: str) -> tuple[Any, ...]:
        """As the environment's own ``call``."""
        inner: Any = self.env
        return inner.call(name)

    def _last_frame(self, infos: dict[str, Any], row: int) -> Any:
        if "final_obs" not in infos:
            raise SpecError(f"{self.env} resets in the same step, but gave no infos['final_obs']")
        frame = infos["final_obs"][row]
        self._filter.check(frame)
        return frame

    def _with_scales(self, infos: dict[str, Any], mask: np.ndarray) -> dict[str, Any]:
        known = self._filter.many_infos()
        return {**infos, **known, **{f"_{name}": mask.copy() for name in known}}

    def _with_final(self, infos: dict[str, Any], done: np.ndarray) -> dict[str, Any]:
        means, final = self._filter.means(), np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(done):
            final[i] = means[i].copy()
        final_info = self._with_scales(infos.get("final_info", {}), done.copy())
        return {
            **infos,
            "final_obs": final,
            "final_info": final_info,
            "_final_info": infos.get("_final_info", done.copy()),
        }


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
        self._model = model = world.model.eval()
        _check_spaces(model, observations, actions)
        self.box = latent_box(world)
        self._read = ActionReader(model.action_spec, lead, model.device, model.dtype)
        self._lead = lead
        self._consistency = Consistency(world, lead[0] if lead else 1)
        self._start = np.inf if world.trust is None else float(world.trust.start[0])
        self._belief: Belief | None = None
        self._step: CompiledFilter | None = None
        self.compiled: bool | str = "filters of many environments step tensors"
        if lead == ():
            program = compile_filter(model, self.box)
            self.compiled = program if isinstance(program, str) else True
            if not isinstance(program, str):
                self._step = CompiledFilter(program, model.observation_spec.size)

    @torch.inference_mode()
    def begin(self, frames: Any, mask: np.ndarray | None = None) -> None:
        """New beliefs from one frame (*lead, *obs) each, for all or those in ``mask``."""
        some = None if mask is None or mask.all() else mask
        rows = self._tensors(frames if some is None else map_arrays(lambda a: a[some], frames))
        none = torch.zeros(rows.shape[0], 0, self._model.action_spec.size, device=rows.device)
        fresh = self._model.initial(rows.unsqueeze(1), none.to(self._model.dtype))
        self._consistency.begin(some)
        self.resume(fresh if some is None else self._current().with_rows(some, fresh))

    def resume(self, belief: Belief) -> None:
        """Go on from a belief (n, latent) that was come to elsewhere."""
        self._belief, step = belief, self._step
        if step is not None:
            mean, scale = belief.mean[0].cpu().numpy(), belief.scale[0].cpu().numpy()
            step.mean[:], step.scale[:] = mean, scale
            step.observation[:] = np.clip(mean, self.box.low, self.box.high)

    def advance(self, actions: Any, frames: Any) -> None:
        """Predict with the actions, correct with the frames (*lead, *obs) they led to.

        Raises:
            ResetNeeded: There is no belief yet.
            InvalidAction: The actions cannot be taken.
            DivergenceError: The filter is compiled, and its mean is not finite.
        """
        belief, step = self._current(), self._step
        if step is None:
            with torch.inference_mode():
                rows = self._tensors(frames)
                controls = self._read(actions).reshape(rows.shape[0], -1)
                self._belief = self._model.update(belief, controls, rows)
            self._watch(belief.mean, controls, rows, self._belief)
            return
        before = step.mean.copy() if self._consistency.known else None
        step.action[:] = self._read.raw(actions)
        self._place(frames, step.frame)
        status = step()
        if status == REFUSED:
            self._read(actions)
        if status == DIVERGED:
            raise DivergenceError(f"the filter's belief is no longer finite after {step.mean}")
        if before is not None:
            rows = (before, step.action, step.mean, step.scale)
            mean, control, *after = (torch.from_numpy(row[np.newaxis]) for row in rows)
            self._watch(mean, control, self._tensors(frames), Belief(*after))

    @torch.inference_mode()
    def _watch(self, mean: Tensor, controls: Tensor, rows: Observations, belief: Belief) -> None:
        """Begin those beliefs anew that the frames say are lost."""
        watched = self._consistency.watch(mean, controls, rows, belief)
        if watched is not belief:
            self.resume(watched)

    def infos(self) -> dict[str, Any]:
        """What there is to say of the one belief."""
        named = {name: values[0] for name, values in self.many_infos().items()}
        plain = (name for name in named if name != "belief_scale")
        return named | {name: named[name].item() for name in plain}

    def many_infos(self) -> dict[str, np.ndarray]:
        """The same of n beliefs, (n, ...); fresh arrays."""
        found = self._consistency
        bound = np.where(found.consistent, self._start, np.inf).astype(np.float32)
        infos = {"belief_scale": self.scales(), "error_bound": bound}
        if found.known:
            infos["innovation"] = found.innovation.copy()
            infos |= {"consistent": found.consistent, "restarted": found.restarted.copy()}
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
        if self._step is not None and self._belief is not None:
            kept = self._step.observation if clip else self._step.mean
            return kept[np.newaxis].copy()
        means = self._current().mean.cpu().numpy()
        if not np.isfinite(means).all():
            raise DivergenceError(f"the filter's belief has a mean that is not finite: {means}")
        if clip:
            means = np.clip(means, self.box.low, self.box.high)
        return means.astype(np.float32, copy=False)

    def scales(self) -> np.ndarray:
        """Standard deviations (n, latent); a fresh array."""
        if self._step is not None and self._belief is not None:
            return self._step.scale[np.newaxis].copy()
        return self._current().scale.cpu().numpy().astype(np.float32)

    def _current(self) -> Belief:
        if self._belief is None:
            raise ResetNeeded("call reset() first")
        return self._belief

    def _place(self, frames: Any, flat: np.ndarray) -> None:
        """Write one checked observation, encoded and flat."""
        space, at = self._model.observation_spec, 0
        streams = space.read(frames)
        for stream in space.streams:
            flat[at : at + stream.size] = stream.encode(streams[stream.name]).reshape(-1)
            at += stream.size

    def _tensors(self, frames: Any) -> Observations:
        """Checked observations (n, *obs): a copy, since environments may reuse their arrays."""
        space = self._model.observation_spec
        if self._lead:
            streams = space.read(frames, space.lead(frames))
        else:
            streams = {name: value[np.newaxis] for name, value in space.read(frames).items()}
        return to_tensors(streams, 1, self._model.device)


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
