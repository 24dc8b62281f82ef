"""Trains under ``torchrun``, in 64 bits, one after the other, what is to end as by one process.

Arguments: a folder, in which each case has its own; "" or "die", whereupon the second process is
killed after six updates; and the cases.
"""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from small import (
    BOX,
    PIXELS,
    VECTOR,
    as_dataset,
    batches,
    generator,
    random_batch,
    rotation_dataset,
    with_fields,
)

from worldmodel.data import Dataset
from worldmodel.models.registry import model_type
from worldmodel.systems.preset import GENERIC
from worldmodel.training.dreaming import DreamConfig
from worldmodel.training.team import Team, team
from worldmodel.training.trainer import Trainer


def whole(observations=VECTOR) -> Dataset:
    return as_dataset(
        observations,
        BOX,
        train=random_batch(observations, BOX, size=40),
        validation=random_batch(observations, BOX, seed=1),
    )


def ragged(observations=VECTOR) -> Dataset:
    """Episodes of two to six steps, frames of which nobody saw."""
    dataset, g = whole(observations), generator(7)
    splits = {}
    for name, batch in batches(dataset).items():
        lengths = torch.randint(2, 7, (len(batch), 1), generator=g)
        seen = torch.rand(len(batch), batch.steps + 1, generator=g) < 0.8
        seen[:, 0] = True
        splits[name] = with_fields(batch, mask=torch.arange(batch.steps) < lengths, seen=seen)
    return as_dataset(observations, BOX, **splits)


# A model, the settings that it begins with, data, and changes of how it is trained. Batches of 50
# for unevenness: it is told by every third sequence, others of the second half than of the first.
CASES: dict[str, tuple[str, str, Callable[[], Dataset], dict]] = {
    "dvbf-vectors": ("dvbf", "vectors", whole, {}),
    "dvbf-ragged": ("dvbf", "vectors", ragged, {}),
    "dvbf-pictures": ("dvbf", "pictures", lambda: whole(PIXELS), {}),
    "dvbf-even": (
        "dvbf",
        "pictures",
        lambda: ragged(PIXELS),
        {"flatness": 190.0, "batch_size": 50},
    ),
    "rssm": ("rssm", "vectors", whole, {"objective": "balanced"}),
    "rssm-ragged": ("rssm", "vectors", ragged, {"objective": "balanced"}),
    "ekvae": ("ekvae", "vectors", whole, {}),
    "ekvae-ragged": ("ekvae", "vectors", ragged, {}),
    "members": ("dvbf", "vectors", rotation_dataset, {"members": 3}),
}


def make(case: str, folder: Path, together: Team) -> Trainer:
    name, preset, data, changes = CASES[case]
    dataset, changes = data(), dict(changes)
    dreams = DreamConfig(trust_updates=0, members=changes.pop("members", 1))
    flatness = changes.pop("flatness", 0.0)
    settings = GENERIC[preset].training(dataset)
    settings = replace(
        settings,
        **{"updates": 8, "batch_size": 8, "window": 5, "validate_every": 4, "warmup_steps": 2}
        | {"max_grad_ratio": 3.0, "tensorboard": False, "dreaming": dreams}
        | {"constrained": replace(settings.constrained, flatness=flatness)}
        | changes,
    )
    specs = dataset.observation_spec, dataset.action_spec
    config = GENERIC[preset].model(name, dataset.observation_spec)
    model = model_type(name)(config, *specs, 0).double()
    return Trainer(model, dataset, settings, folder / case, team=together)


def main() -> None:
    folder, beside, *cases = sys.argv[1:]
    torch.set_num_threads(1)
    with team(torch.device("cpu")) as together:

        def watch(trainer: Trainer) -> None:
            if beside == "die" and together.rank == 1 and trainer.update == 6:
                (trainer.folder / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)

        for case in cases:
            trainer = make(case, Path(folder), together)
            print(f"process {together.rank} begins {case} at update {trainer.update}", flush=True)
            trainer.fit(progress=False, watch=watch)


if __name__ == "__main__":
    main()
