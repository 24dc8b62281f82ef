"""``worldmodel calibrate``: bounds of dreams' errors, for a model that is there."""

from __future__ import annotations

from pathlib import Path

import torch

from worldmodel import data, load
from worldmodel.cli.arguments import Run
from worldmodel.cli.console import note, say
from worldmodel.cli.runs import require_same_system
from worldmodel.errors import SpecError
from worldmodel.evaluation.trust import joined, record_probes
from worldmodel.world.calibration import calibrate as fit
from worldmodel.world.calibration import needed
from worldmodel.world.checkpoint import BUNDLED, resolve
from worldmodel.world.trust import TrustConfig


def calibrate(
    run: Run,
    dataset: Path | None = None,
    out: Path | None = None,
    episodes: int = 200,
    trust: TrustConfig = TrustConfig(updates=1500),
    seed: int = 0,
) -> None:
    """Let a trained model say how far its dreams can be believed.

    Args:
        run: Run folder, checkpoint, or the name of a bundled one.
        dataset: Folder whose validation split is dreamt along; by default the real environment is
            acted in afresh, by standard probes: smooth, square, held and random actions.
        out: Checkpoint folder to write; by default the run's own.
        episodes: To record under every probe.
        trust: How bounds are fitted.
        seed: Of what is recorded.
    """
    torch.set_num_threads(1)
    world, place = load(run), out or resolve(run)
    if place.parent == BUNDLED:
        raise SpecError(f"{run} is part of the package; name a folder of your own by --out")
    if dataset is not None:
        recorded = data.load(dataset)
        require_same_system(world, recorded)
        recorded.check_fits(world.model.observation_spec, world.model.action_spec)
        held_out = recorded.validation
    elif world.source is None:
        raise SpecError(
            "the model does not say which environment it was trained on, so that none can be acted "
            f"in: give --dataset DATA, a recording with {needed(trust)} episodes for validation or "
            "more"
        )
    else:
        steps = trust.steps + trust.looks - 1
        batches, unable = record_probes(world.source, world, episodes, steps, seed)
        for name, reason in unable.items():
            note(f"no {name} actions: {reason}")
        held_out = joined(batches)
    fit(world, held_out, trust, progress=True)
    assert world.trust is not None, "it was just made"
    world.save(place)
    say(f"{place}: bounds for {world.trust.horizon} steps, at {trust.coverage:.0%} coverage")
