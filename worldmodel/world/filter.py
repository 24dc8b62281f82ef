"""The real environment seen through the filter: the same observation space as the dream's.

That is what lets an agent that learned in the dream act in reality unchanged. The filter starts
from the one frame that reset gives, and corrects its belief with every further one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from worldmodel.data.environments import check_each
from worldmodel.errors import SpecError
from worldmodel.spaces import map_arrays, put_row
from worldmodel.world.beliefs import Filter
from worldmodel.world.start import checked_options, chosen_by
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
