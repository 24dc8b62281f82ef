"""Trains slowly in a process of its own, until it is killed. Not a test."""

import sys
import time

import torch
from small import PIXELS, random_dataset, tiny_model

from worldmodel.training.config import TrainConfig
from worldmodel.training.trainer import Trainer

CONFIG = TrainConfig(
    updates=40,
    batch_size=8,
    window=5,
    validate_every=6,
    warmup_steps=5,
    tensorboard=False,
    max_grad_ratio=1.2,
)


def make_trainer(folder, config=CONFIG, seed=0):
    return Trainer(tiny_model(PIXELS, seed=seed), random_dataset(PIXELS), config, folder)


if __name__ == "__main__":
    torch.set_num_threads(1)
    trainer = make_trainer(sys.argv[1])
    step = trainer.step

    def slow_step():
        time.sleep(0.02 if trainer.update < 30 else 600)  # it never ends by itself
        return step()

    trainer.step = slow_step
    trainer.fit(progress=False)
