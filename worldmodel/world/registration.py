"""Gymnasium ids of the dreams; ``import worldmodel`` registers them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

_DREAMS: dict[str, dict[str, Any]] = {
    # Refused in our words rather than as an argument that Python misses.
    "worldmodel/Latent-v0": {"checkpoint": None},
    "worldmodel/LatentPendulum-v0": {"checkpoint": "pendulum"},
    "worldmodel/LatentBouncingBall-v0": {"checkpoint": "ball"},
}


def register() -> None:
    """Register ``worldmodel/Latent-v0`` and the bundled dreams, once."""
    for name, kwargs in _DREAMS.items():
        if name in gym.registry:
            continue
        gym.register(
            id=name,
            entry_point="worldmodel.world.env:LatentEnv",
            vector_entry_point="worldmodel.world.vector_env:LatentVectorEnv",
            max_episode_steps=200,
            kwargs=dict(kwargs),
        )
