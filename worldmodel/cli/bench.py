"""``worldmodel bench``: how fast the dream is."""

from __future__ import annotations

import torch

from worldmodel import load
from worldmodel.cli.arguments import Run
from worldmodel.cli.console import console
from worldmodel.cli.runs import reality
from worldmodel.device import pick_device
from worldmodel.errors import require_at_least
from worldmodel.evaluation.speed import measure_speed


def bench(
    run: Run,
    env_id: str | None = None,
    env_kwargs: str | None = None,
    num_envs: int = 1024,
    rounds: int = 15,
    threads: int = 1,
    device: str = "cpu",
) -> None:
    """Measure steps per second: the dream, the real environment, the bare tensor loop.

    Args:
        run: Run folder, checkpoint, or the name of a bundled one.
        env_id: The real environment; by default the one that the model was trained on.
        env_kwargs: Its arguments, as JSON; by default those of the one trained on.
        num_envs: Environments that step at once.
        rounds: How often each is timed; medians are reported.
        threads: Of torch.
        device: "cpu", whose step is compiled, "cuda", "cuda:1", "mps", or "auto" for the fastest.
            On all but the first the dream is stepped by ``torch_step``, and stays there.
    """
    require_at_least(1, num_envs=num_envs, rounds=rounds)
    torch.set_num_threads(threads)
    world = load(run).to(pick_device(device))
    source = reality(world, env_id, env_kwargs)
    console().print_json(data=measure_speed(world, source, num_envs, rounds))
