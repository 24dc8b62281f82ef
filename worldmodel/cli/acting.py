"""A trained agent in reality: its task, judged on many episodes, and a film of one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agents.evaluation import Comparison, compare
from agents.pathwise import Policy
from worldmodel.cli.runs import frames_per_second
from worldmodel.cli.systems import System
from worldmodel.data import Source
from worldmodel.plots.film import side_by_side, write_gif
from worldmodel.world.filter import FilterObservation
from worldmodel.world.world import World

EPISODES = 100  # real ones, each from a start of its own, that an agent is judged on
STEPS = 100  # of each; ten seconds of the systems that ship


@dataclass(frozen=True)
class Acted:
    """What an agent did.

    Attributes:
        result: Episodes in the dream and in reality.
        metrics: Of the task.
    """

    result: Comparison
    metrics: dict[str, Any]


def act(
    policy: Policy,
    world: World,
    source: Source,
    system: System,
    start: dict[str, Any] | None = None,
    episodes: int = EPISODES,
    seed: int = 0,
) -> Acted:
    """Let an agent act from the same starts in the dream and in reality.

    Args:
        policy: What acts.
        world: Whose dream and filter are used.
        source: Makes the real environments.
        system: Knows the task.
        start: Reset options in place of the system's.
        episodes: How many, ``STEPS`` long at most.
        seed: Of the starts and of the dream's noise.
    """
    real = source.make_vec(episodes)
    options = start or system.task_start(episodes, seed)
    result = compare(policy, world, real, STEPS, seed, options)
    real.close()
    return Acted(result, result.metrics() | system.task_metrics(result.real))


def film_agent(
    policy: Policy,
    world: World,
    source: Source,
    path: Path,
    options: dict[str, Any] | None = None,
) -> Path:
    """Film the agent at its task: the scene, and what the filter makes of the camera's pictures.

    Args:
        policy: What acts.
        world: Whose filter is used. If it observes no pixels, the scene is all there is to see.
        source: Makes the real environment.
        path: Of the GIF.
        options: Of the reset.
    """
    drawn = replace(source, env_kwargs=source.env_kwargs | {"render_mode": "rgb_array"})
    env = FilterObservation(drawn.make(), world)
    fps = frames_per_second(env, source.wrapping)
    observation, _ = env.reset(seed=0, options=options)
    scene, latents = [np.asarray(env.render())], [observation]
    for _ in range(STEPS):
        action, _ = policy.predict(observation)
        observation, _, terminated, truncated, _ = env.step(action)
        scene.append(np.asarray(env.render()))
        latents.append(observation)
        if terminated or truncated:
            break
    env.close()
    panels = {"real": np.stack(scene)}
    if world.model.observation_spec.pixels:
        belief = world.decode(np.stack(latents))
        panels["what the filter believes"] = _enlarged(belief, *scene[0].shape[:2])
    return write_gif(side_by_side(panels, fps=fps), path, fps)


def _enlarged(film: np.ndarray, height: int, width: int) -> np.ndarray:
    """Frames (T, h, w, 1 or 3) with every pixel a rectangle."""
    rows = np.arange(height) * film.shape[1] // height
    columns = np.arange(width) * film.shape[2] // width
    return film[:, rows][:, :, columns]
