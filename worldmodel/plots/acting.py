"""A film of what acts in reality: the scene, and what the filter makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.data import Source
from worldmodel.plots.film import side_by_side, write_gif
from worldmodel.world.artist import Artist
from worldmodel.world.filter import FilterObservation
from worldmodel.world.world import World


def film_acting(
    act: Callable[[np.ndarray], Any],
    world: World,
    source: Source,
    path: str | Path,
    options: dict[str, Any] | None = None,
    steps: int = 100,
) -> Path:
    """Film an agent at its task.

    Args:
        act: Action for a latent state.
        world: Whose filter is used. If it observes no pictures, the scene is all there is to see.
        source: Makes the real environment.
        path: GIF to write.
        options: Of the reset.
        steps: At most.
    """
    drawn = replace(source, env_kwargs=source.env_kwargs | {"render_mode": "rgb_array"})
    env = FilterObservation(drawn.make(), world)
    fps = source.frames_per_second(env)
    observation, _ = env.reset(seed=0, options=options)
    scene, latents = [np.asarray(env.render())], [observation]
    for _ in range(steps):
        observation, _, terminated, truncated, _ = env.step(act(observation))
        scene.append(np.asarray(env.render()))
        latents.append(observation)
        if terminated or truncated:
            break
    env.close()
    panels = {"real": np.stack(scene)}
    if filmed := world.model.observation_spec.filmed:
        artist = Artist(world)
        seen = artist.named(world.decode(np.stack(latents)))
        believed = artist({stream.name: seen[stream.name] for stream in filmed})
        panels["what the filter believes"] = _enlarged(believed, scene[0].shape[0])
    return write_gif(side_by_side(panels, fps=fps), path, fps)


def _enlarged(film: np.ndarray, height: int) -> np.ndarray:
    """Frames (T, h, w, 3) of another height, with every pixel a rectangle."""
    width = round(film.shape[2] * height / film.shape[1])
    rows = np.arange(height) * film.shape[1] // height
    columns = np.arange(width) * film.shape[2] // width
    return film[:, rows][:, :, columns]
