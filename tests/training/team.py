"""Trains under ``torchrun``: a tiny model, whose weights the first process writes to a file.

Arguments: a folder, a model's name, a dtype, an objective, updates, a batch size, and what to do
beside: "", or "die", whereupon the second process is killed at the third update.
"""

import os
import signal
import sys
from pathlib import Path

import torch
from small import random_dataset, small_model

from worldmodel.training.config import TrainConfig
from worldmodel.training.team import Team, team
from worldmodel.training.trainer import Trainer


def config(objective: str, updates: int, batch_size: int) -> TrainConfig:
    return TrainConfig(
        updates=updates,
        batch_size=batch_size,
        window=5,
        validate_every=4,
        warmup_steps=2,
        max_grad_ratio=3.0,
        objective=objective,
        tensorboard=False,
    )


def make(folder: Path, name: str, dtype: str, settings: TrainConfig, together: Team) -> Trainer:
    model = small_model(name).to(getattr(torch, dtype))
    return Trainer(model, random_dataset(size=40), settings, folder, team=together)


def main() -> None:
    folder, name, dtype, objective, updates, batch_size, beside = sys.argv[1:]
    torch.set_num_threads(1)
    with team(torch.device("cpu")) as together:
        settings = config(objective, int(updates), int(batch_size))
        trainer = make(Path(folder), name, dtype, settings, together)
        begun = trainer.update

        def watch(trainer: Trainer) -> None:
            if beside == "die" and together.rank == 1 and trainer.update == begun + 6:
                os.kill(os.getpid(), signal.SIGKILL)

        trainer.fit(progress=False, watch=watch)
        if together.rank == 0:
            kept = {"model": torch.load(Path(folder) / "training/state.pt", weights_only=True)}
            torch.save({"begun": begun, **kept}, Path(folder) / "end.pt")


if __name__ == "__main__":
    main()
