"""Make registered environments, wrapped as asked, with errors that help when the id is wrong."""

from __future__ import annotations

import difflib
import importlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import wrappers
from gymnasium.vector import SyncVectorEnv, VectorEnv

from worldmodel.errors import (
    ConfigError,
    MissingExtraError,
    ShapeError,
    SpecError,
    require_at_least,
    require_extra,
)
from worldmodel.spaces import ObservationSpace

# Side in pixels of rendered pictures unless another is asked for: a renderer's own hundreds of
# pixels are for people.
_RENDERED_SIDE = 32
# Extras by what Gymnasium says is not installed, the first that it says.
_BROUGHT = {"pygame": "pixels", "mujoco": "mujoco", "box2d": "foreign"}


@dataclass(frozen=True)
class Wrapping:
    """What Gymnasium's own wrappers do to an environment before anybody sees it.

    Attributes:
        pixels: Observe the rendered picture. An observation of numbers that it replaces becomes
            the ground truth ``info["state"]``, which evaluation compares with and models never
            see.
        resize: Side in pixels that pictures are scaled to. By default rendered ones are scaled to
            32 and others left as they are.
        grayscale: One channel of brightness instead of three of colour.
        frame_skip: Steps that every action is repeated for; their rewards are summed.
    """

    pixels: bool = False
    resize: int | None = None
    grayscale: bool = False
    frame_skip: int = 1

    def __post_init__(self) -> None:
        if self.resize is not None and self.resize < 8:
            raise ConfigError(f"resize must be at least 8 pixels, got {self.resize}")
        require_at_least(1, frame_skip=self.frame_skip)

    @property
    def side(self) -> int | None:
        """Side in pixels that pictures are scaled to, or None."""
        return self.resize or (_RENDERED_SIDE if self.pixels else None)

    @property
    def wrappers(self) -> list[Callable[[gym.Env], gym.Env]]:
        """Innermost first; skipped frames are not even rendered.

        Raises:
            MissingExtraError: Pictures are to be scaled and OpenCV is not installed.
        """
        chosen: list[Callable[[gym.Env], gym.Env]] = []
        if self.frame_skip > 1:
            chosen.append(partial(wrappers.RepeatAction, num_repeats=self.frame_skip))
        if self.pixels:
            chosen += [with_one_camera, ObservationAsTruth, wrappers.AddRenderObservation]
        if self.side:
            require_extra("cv2", "pixels")
            chosen.append(partial(wrappers.ResizeObservation, shape=(self.side, self.side)))
        if self.grayscale:
            chosen.append(partial(wrappers.GrayscaleObservation, keep_dim=True))
        return chosen


def with_one_camera(env: gym.Env) -> gym.Env:
    """The same environment, which from now on draws what it would have drawn made a second time.

    Where Gymnasium's MuJoCo camera looks depends on the state that it draws first, for good: two
    environments would show the same states as two different pictures. So all of them draw the
    first state of one seed first.
    """
    inner = env.unwrapped
    if hasattr(inner, "mujoco_renderer"):
        inner.reset(seed=0)
        inner.render()
        inner.np_random = np.random.default_rng()  # whoever gives no seed wants chance
    return env


def observed(space: gym.Space) -> ObservationSpace:
    """What a model sees of an observation space.

    Raises:
        SpecError: A part cannot be learned from; the message says what can be done.
    """
    try:
        return ObservationSpace.from_space(space)
    except SpecError as error:
        raise SpecError(
            f"{error}. Or the rendered picture is observed in its place: Wrapping(pixels=True), "
            "--pixels on the command line"
        ) from error


class ObservationAsTruth(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """Keeps an observation of numbers in ``info["state"]``, unless the environment tells its state.

    Args:
        env: Whose observation a picture is about to replace.
    """

    def __init__(self, env: gym.Env) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self._tells = _tells_state(env.observation_space)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment."""
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, self._with_truth(observation, info)

    def step(self, action: Any) -> Any:
        """Step the environment."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, self._with_truth(observation, info)

    def _with_truth(self, observation: Any, info: dict[str, Any]) -> dict[str, Any]:
        if not self._tells or "state" in info:
            return info
        return {"state": gym.spaces.flatten(self.env.observation_space, observation), **info}


class CheckedObservation(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """Refuses observations that break the declared space.

    A vector environment would convert them to the declared dtype first, whatever that does.

    Args:
        env: Whose observations are checked.

    Raises:
        SpecError: Its observation space cannot be learned from.
    """

    def __init__(self, env: gym.Env) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self._space = observed(env.observation_space)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment.

        Raises:
            ShapeError: See the class; the message names the stream.
        """
        observation, info = self.env.reset(seed=seed, options=options)
        return self._checked(observation), info

    def step(self, action: Any) -> Any:
        """Step the environment.

        Raises:
            ShapeError: See the class; the message names the stream.
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._checked(observation), float(reward), terminated, truncated, info

    def _checked(self, observation: Any) -> Any:
        try:
            self._space.read(observation)
        except ShapeError as error:
            raise ShapeError(
                f"{self.env} breaks its declared observation space: {error}. "
                "gymnasium.wrappers.TransformObservation mends what it shows or declares"
            ) from error
        return observation


def check_each(env: VectorEnv) -> None:
    """Have every environment of Gymnasium's synchronous one check what it shows, from now on.

    Native vector environments write their arrays themselves, and those of other processes are out
    of reach.
    """
    vector = env.unwrapped
    shown = isinstance(vector, SyncVectorEnv) and vector.single_observation_space
    if isinstance(vector, SyncVectorEnv) and shown == env.single_observation_space:
        vector.envs = [
            one if isinstance(one, CheckedObservation) else CheckedObservation(one)
            for one in vector.envs
        ]


def _tells_state(space: gym.Space) -> bool:
    try:
        return ObservationSpace.from_space(space).linear
    except SpecError:
        return False


@dataclass(frozen=True)
class Source:
    """An environment by name: enough to make it again.

    Attributes:
        env_id: Gymnasium id, with its version; "module:id" imports ``module`` first.
        env_kwargs: Arguments of the environment.
        wrapping: What is put around it.
    """

    env_id: str
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    wrapping: Wrapping = field(default_factory=Wrapping)

    def make(self) -> gym.Env:
        """Make one environment.

        Raises:
            SpecError: As ``make_vec``.
            MissingExtraError: As ``make_vec``.
        """
        chosen = self._prepare()
        env = self._try(lambda: gym.make(self.env_id, **self._arguments))
        for wrapper in chosen:
            env = self._try(partial(wrapper, env))
        return env

    def make_vec(self, num_envs: int) -> VectorEnv:
        """Make a vector environment: native if one is registered and nothing is put around it.

        Otherwise it is Gymnasium's synchronous one.

        Args:
            num_envs: Number of environments.

        Raises:
            SpecError: ``env_id`` is not registered, or its module does not exist; the message names
                ids that are close. Or the environment refuses the arguments or the wrapping; the
                message names them.
            MissingExtraError: The wrapping needs a package that is not installed.
        """
        wrapped = [*self._prepare(), CheckedObservation]
        one_by_one = {} if self.native else {"wrappers": wrapped, "vectorization_mode": "sync"}
        return self._try(
            lambda: gym.make_vec(self.env_id, num_envs=num_envs, **one_by_one, **self._arguments)
        )

    @property
    def native(self) -> bool:
        """Whether ``make_vec`` makes a native vector environment: that cannot be wrapped.

        Raises:
            SpecError: As ``make_vec``.
        """
        chosen = self._prepare()
        return not chosen and bool(gym.spec(self.env_id.rpartition(":")[2]).vector_entry_point)

    def endless(self) -> Source:
        """The same environment without a limit of steps."""
        return replace(self, env_kwargs=self.env_kwargs | {"max_episode_steps": -1})

    def episode_steps(self, env: gym.Env | VectorEnv) -> int | None:
        """Actions that an episode of one that was made here takes at most, if it has a limit."""
        limit = episode_limit(env)
        return limit and math.ceil(limit / self.wrapping.frame_skip)

    def frames_per_second(self, env: gym.Env | VectorEnv) -> float:
        """Of one that was made here, so that what is shown of it runs in real time."""
        return (env.metadata.get("render_fps") or 10.0) / self.wrapping.frame_skip

    @property
    def _arguments(self) -> dict[str, Any]:
        rendered = {"render_mode": "rgb_array"} if self.wrapping.pixels else {}
        return self.env_kwargs | rendered

    def _prepare(self) -> list[Callable[[gym.Env], gym.Env]]:
        """Check the id and get the wrappers ready."""
        if self.wrapping.pixels and not (os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}):
            # MuJoCo would look for a display by default; this one renders without. dm_control
            # reads it when it is imported, which is when the id is looked up.
            os.environ.setdefault("MUJOCO_GL", "egl")
        _check_id(self.env_id)
        return self.wrapping.wrappers

    def _try(self, make: Callable[[], Any]) -> Any:
        # Renderers raise whatever they like where there is no display or driver.
        wrong = Exception if self.wrapping.pixels else (TypeError, ValueError, gym.error.Error)
        try:
            return make()
        except wrong as error:
            _name_extra(error)
            asked = f" and {self.wrapping}" if self.wrapping != Wrapping() else ""
            raise SpecError(
                f"cannot make {self.env_id!r} with the arguments {self.env_kwargs}{asked}: {error}"
            ) from error


def episode_limit(env: gym.Env | VectorEnv) -> int | None:
    """Steps that an environment says its episodes take at most."""
    return env.spec.max_episode_steps if env.spec else None


def make_vec(
    env_id: str, num_envs: int, env_kwargs: dict[str, Any], wrapping: Wrapping | None = None
) -> VectorEnv:
    """Make a vector environment; arguments and errors as for ``Source``."""
    return Source(env_id, env_kwargs, wrapping or Wrapping()).make_vec(num_envs)


def _name_extra(error: Exception) -> None:
    """Raise what names the extra, if an environment of Gymnasium's misses a package."""
    said = str(error).lower()
    brought = [extra for word, extra in _BROUGHT.items() if word in said]
    if isinstance(error, gym.error.DependencyNotInstalled) and brought:
        # What Gymnasium says to run would bring other versions, or another pygame.
        missing = str(error).partition(",")[0]
        raise MissingExtraError(
            f"{missing}; install it with: pip install 'worldmodel[{brought[0]}]'"
        ) from error


def _check_id(env_id: str) -> None:
    module, _, name = env_id.rpartition(":")
    if module == "shimmy":
        # Without dm_control it can be imported, and registers nothing of it.
        for needed in ("shimmy", "dm_control"):
            require_extra(needed, "foreign")
    if module:
        _import(module, env_id)
    try:
        gym.spec(name)
    except gym.error.Error as error:
        close = difflib.get_close_matches(name, gym.registry, n=3, cutoff=0.5)
        hint = f"; close ids: {', '.join(close)}" if close else ""
        raise SpecError(
            f"unknown environment {env_id!r}{hint}. Expected a registered Gymnasium id with its "
            "version, or 'module:id' to import the module that registers it"
        ) from error


def _import(module: str, env_id: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A module that exists but lacks one of its own dependencies tells its own story.
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise SpecError(f"no module {module!r} to import for {env_id!r}") from error
