"""``worldmodel imagine``: what is real, what the filter believes, what the model imagines."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from agents.recording import record_agent
from worldmodel import data, load
from worldmodel.cli.arguments import Run
from worldmodel.cli.console import say
from worldmodel.cli.runs import policy_of, recorded_of, require_same_system
from worldmodel.device import pick_device
from worldmodel.errors import ConfigError, require_at_least, require_extra
from worldmodel.plots.imagination import imagine as imagine_episodes
from worldmodel.plots.written import write_imagination
from worldmodel.progress import Progress
from worldmodel.systems import system_of
from worldmodel.types import Batch
from worldmodel.world.world import World

_FPS = 10.0  # of a recording
_STEPS = 85  # a hundred frames are ten seconds of the shipped systems, less what is looked at


def imagine(
    run: Run,
    out: Path = Path("runs/imagine"),
    actions: str = "random",
    policy: Path | None = None,
    dataset: Path | None = None,
    force: bool = False,
    episodes: int = 4,
    steps: int | None = None,
    looked: int = 15,
    dreams: int = 8,
    seed: int = 0,
    mp4: bool = False,
    device: str = "auto",
) -> None:
    """Film what is real, what the filter believes, and what the model imagines by itself.

    Real episodes are recorded, and the same actions are given to the dream. Dreams with noise of
    their own show how sure the model is. Pictures are filmed; imagine.png shows every stream:
    pictures as strips of frames, numbers as curves, indices and switches as steps.

    Args:
        run: Run folder, checkpoint, or the name of a bundled one.
        out: Folder for imagine.gif and imagine.png.
        actions: "random", "zero", "agent", or a .npy file of actions (T, act), in the
            environment's units; (T,) if they are discrete.
        policy: The agent's file, or its folder, if it is not in the run folder or bundled.
        dataset: Whose test episodes, and their actions, are shown in place of new ones; of a model
            that was trained on a recording by default that.
        force: Whether to show data of another system than the one trained on.
        episodes: How many.
        steps: Of each; by default 85, or as many as the file has.
        looked: Frames of each that the model sees before it imagines the rest.
        dreams: With noise, at least 2.
        seed: Of environments, actions and noise.
        mp4: Whether to write imagine.mp4 too; needs the extra "mp4".
        device: "auto" for the fastest that is there, "cpu", "cuda", "cuda:1" or "mps".
    """
    require_at_least(1, episodes=episodes, steps=1 if steps is None else steps, looked=looked)
    require_at_least(2, dreams=dreams)
    require_at_least(0, seed=seed)
    if mp4:
        require_extra("imageio_ffmpeg", "mp4")
    torch.set_num_threads(1)
    world = load(run).to(pick_device(device))
    path = dataset or (recorded_of(run, world) if world.source is None else None)
    if path is None:
        batch, fps = real_episodes(world, run, actions, policy, episodes, steps, seed)
    else:
        if actions != "random" or policy is not None:
            raise ConfigError("recorded episodes have their own actions; without --actions")
        batch, fps = recorded_episodes(world, path, force, episodes, steps or _STEPS), _FPS
        looked = min(looked, max(1, batch.steps // 2))
    imagination = imagine_episodes(world, batch, looked, dreams, seed)
    written = write_imagination(imagination, out, fps, mp4)
    say(f"Look at {', '.join(path.name for path in written)} in {out}")


def recorded_episodes(world: World, path: Path, force: bool, episodes: int, steps: int) -> Batch:
    """The first test episodes of a dataset; arguments as for ``imagine``.

    Raises:
        SpecError: They are of another system, or do not fit the model.
    """
    recorded = data.load(path)
    if not force:
        require_same_system(world, recorded)
    recorded.check_fits(world.model.observation_spec, world.model.action_spec)
    return recorded.test.padded(np.arange(min(episodes, len(recorded.test))), steps)


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
    source = world.require_source()
    processes: dict[str, data.ActionProcess] = {"random": data.Uniform(), "zero": data.Zero()}
    if actions not in (*processes, "agent"):
        given = data.Given.read(Path(actions).expanduser(), world.model.action_spec)
        steps = min(len(given.actions), steps or len(given.actions))
        processes[actions] = given
    agent = policy_of(run, world, policy) if actions == "agent" else None
    steps = steps or _STEPS
    env = source.make_vec(episodes)
    fps = source.frames_per_second(env)
    try:
        if agent is None:
            return data.record(env, episodes, steps, processes[actions], seed, progress=True), fps
        start = system_of(source.env_id).task_start(episodes, seed)
        with Progress() as bar:
            advance = partial(bar.advance, bar.add_task("agent", total=steps))
            return record_agent(agent, world, env, steps, seed, start, advance), fps
    finally:
        env.close()
