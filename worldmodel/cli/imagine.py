"""``worldmodel imagine``: what is real, what the filter believes, what the model imagines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import gymnasium as gym
import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import Progress

from agents.recording import record_agent
from worldmodel import data, load
from worldmodel.cli.runs import frames_per_second, policy_of, source_of
from worldmodel.cli.systems import system_of
from worldmodel.errors import FileFormatError, ShapeError, require_at_least, require_extra
from worldmodel.plots.curves import imagination_curves
from worldmodel.plots.dream import dream_film
from worldmodel.plots.film import write_gif, write_mp4
from worldmodel.plots.imagination import Imagination
from worldmodel.plots.imagination import imagine as imagine_episodes
from worldmodel.plots.strips import imagination_strips
from worldmodel.types import ActionSpec, Batch
from worldmodel.world.world import World

_STEPS = 85  # a hundred frames are ten seconds of the shipped systems, less what is looked at
_LIMIT = 6_000_000  # bytes of the GIF: more panels than a page's film, and none of its colours lost


@dataclass(frozen=True)
class Given(data.ActionProcess):
    """The same actions in every episode.

    Attributes:
        actions: (T, *action shape).
    """

    actions: np.ndarray

    def sample(
        self, space: gym.Space, episodes: int, steps: int, rng: np.random.Generator
    ) -> np.ndarray:
        """See ``ActionProcess.sample``; the first ``steps`` of the actions."""
        return np.broadcast_to(self.actions[:steps], (episodes, steps, *self.actions.shape[1:]))


def imagine(
    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    out: Path = Path("runs/imagine"),
    actions: str = "random",
    policy: Path | None = None,
    episodes: int = 4,
    steps: int | None = None,
    looked: int = 15,
    dreams: int = 8,
    seed: int = 0,
    mp4: bool = False,
) -> None:
    """Film what is real, what the filter believes, and what the model imagines by itself.

    Real episodes are recorded, and the same actions are given to the dream. Dreams with noise of
    their own show how sure the model is. Of a model of vectors there are curves and no film.

    Args:
        run: Run folder, checkpoint, or the name of a bundled one.
        out: Folder for imagine.gif and imagine.png.
        actions: "random", "zero", "agent", or a .npy file of actions (T, act), in the
            environment's units; (T,) if they are discrete.
        policy: The agent's file, or its folder, if it is not in the run folder or bundled.
        episodes: How many.
        steps: Of each; by default 85, or as many as the file has.
        looked: Frames of each that the model sees before it imagines the rest.
        dreams: With noise, at least 2.
        seed: Of environments, actions and noise.
        mp4: Whether to write imagine.mp4 too; needs the extra "mp4".
    """
    require_at_least(1, episodes=episodes, steps=1 if steps is None else steps, looked=looked)
    require_at_least(2, dreams=dreams)
    require_at_least(0, seed=seed)
    if mp4:
        require_extra("imageio_ffmpeg", "mp4")
    torch.set_num_threads(1)
    world, console = load(run), Console()
    batch, fps = real_episodes(world, run, actions, policy, episodes, steps, seed)
    imagination = imagine_episodes(world, batch, looked, dreams, seed)
    written = write(imagination, out, fps, mp4)
    console.print(f"Look at {', '.join(path.name for path in written)} in {out}")


def real_episodes(
    world: World,
    run: str,
    actions: str,
    policy: Path | None,
    episodes: int,
    steps: int | None,
    seed: int,
) -> tuple[Batch, float]:
    """Record reality under the actions that are asked for; arguments as for ``imagine``.

    Returns:
        The episodes, and how many of their frames make a second.

    Raises:
        SpecError: The model does not know its environment, there is no agent, or the environment
            has no zero action.
        ShapeError: The file's actions have another shape or range; the message names both.
    """
    source = source_of(world)
    processes = {"random": data.Uniform(), "zero": data.Zero()}
    given = None
    if actions not in (*processes, "agent"):
        given = Given(read_actions(Path(actions), world.model.action_spec))
        steps = min(len(given.actions), steps or len(given.actions))
    agent = policy_of(run, world, policy) if actions == "agent" else None
    steps = steps or _STEPS
    env = source.make_vec(episodes)
    fps = frames_per_second(env, source.wrapping)
    try:
        if agent is None:
            process = given or processes[actions]
            return data.record(env, episodes, steps, process, seed, progress=True), fps
        start = system_of(source.env_id).task_start(episodes, seed)
        with Progress() as bar:
            task = bar.add_task("agent", total=steps)
            advance = partial(bar.advance, task)
            return record_agent(agent, world, env, steps, seed, start, advance), fps
    finally:
        env.close()


def read_actions(path: Path, spec: ActionSpec) -> np.ndarray:
    """Actions from a file, (T, act), or (T,) indices if discrete, checked against the model's.

    Raises:
        FileNotFoundError: There is no such file.
        FileFormatError: It is no .npy file.
        ShapeError: Another shape, dtype or range; the message names what was expected.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"no file of actions at {str(path)!r}; expected 'random', 'zero', 'agent' or a .npy "
            "file"
        )
    try:
        actions = np.load(path, allow_pickle=False)
        shape, dtype = actions.shape, actions.dtype
    except (ValueError, EOFError, AttributeError) as error:
        raise FileFormatError(f"{path} is not a .npy file of numbers: {error}") from error
    space = spec.space()
    kind = "iu" if spec.kind == "discrete" else "iuf"
    if shape[1:] != space.shape or len(shape) == 0 or not shape[0] or dtype.kind not in kind:
        expected = "(T,) integers" if spec.kind == "discrete" else f"(T, {spec.size}) numbers"
        raise ShapeError(f"actions in {path} must be {expected}, T >= 1; got {shape} {dtype}")
    actions = actions.astype(space.dtype)
    if not all(space.contains(action) for action in actions):
        raise ShapeError(
            f"actions in {path} must lie in {space}, got {actions.min()} to {actions.max()}"
        )
    return actions


def write(imagination: Imagination, out: Path, fps: float, mp4: bool) -> list[Path]:
    """Film and picture, whatever there can be of them."""
    pixels = imagination.real.dtype == np.uint8
    with Progress() as bar:
        task = bar.add_task("draw", total=2 + mp4 if pixels else 1)
        if not pixels:
            written = [imagination_curves(imagination, out / "imagine.png")]
            bar.advance(task)
            return written
        film = dream_film(imagination, fps)
        written = [write_gif(film, out / "imagine.gif", fps, _LIMIT)]
        bar.advance(task)
        if mp4:
            written.append(write_mp4(film, out / "imagine.mp4", fps))
            bar.advance(task)
        written.append(imagination_strips(imagination, out / "imagine.png"))
        bar.advance(task)
    return written
