"""Training sequences: random windows of random episodes."""

from __future__ import annotations

import torch

from worldmodel.types import Batch, Observations, from_streams


def draw_windows(batch: Batch, size: int, steps: int, generator: torch.Generator) -> Batch:
    """Windows of equal length, with replacement, each starting at a recorded step.

    Args:
        batch: Whole episodes of at least ``steps`` steps, possibly padded at their ends.
        size: How many windows.
        steps: Length of each; the windows of shorter episodes are padded.
        generator: Source of the draws.
    """
    device = generator.device
    episode = torch.randint(len(batch), (size,), generator=generator, device=device)
    latest = (batch.mask[episode].sum(1) - steps).clamp_min(0)
    uniform = torch.rand(size, generator=generator, device=device)
    start = (uniform * (latest + 1)).long().clamp_max(batch.steps - steps)
    # In memory time comes first, as in the loop over steps.
    index = start + torch.arange(steps + 1, device=device).unsqueeze(1)

    def cut(name: str, value: Observations) -> Observations:
        if not isinstance(value, torch.Tensor):
            return from_streams({stream: cut(name, v) for stream, v in value.items()}, 2)
        rows = index if name in ("observations", "states") else index[:-1]
        rows = rows + episode * value.shape[1]
        chosen = value.flatten(0, 1).index_select(0, rows.flatten())
        return chosen.unflatten(0, rows.shape).transpose(0, 1)

    return type(batch)(**{name: cut(name, value) for name, value in batch.items()})
