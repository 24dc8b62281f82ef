"""Trains and evaluates on as many episodes as it is told, and prints the peak of memory in MB.

What may be held in memory is made small, so that few megabytes of data are many.
"""

import re
import sys
import tempfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from small import tiny_config

from worldmodel.data import DatasetWriter, Episodes, episodes, load, spread
from worldmodel.evaluation.evaluate import evaluate
from worldmodel.models.dvbf import DVBF
from worldmodel.training import windows
from worldmodel.training.config import TrainConfig
from worldmodel.training.trainer import Trainer

windows.Windows.of.__func__.__defaults__ = (1_000_000,)
Episodes.sample.__defaults__ = (1_000, 250_000, 2_000_000, 0)
episodes.FOLLOWED_BYTES = 2_000_000
for bounded in (spread.spread_frames, spread.spread_rows):
    bounded.__defaults__ = (250_000, 2_000_000)
windows.VALIDATED_BYTES = 2_000_000
torch.set_num_threads(1)
rng = np.random.default_rng(0)
frames = rng.integers(0, 256, (41, 32, 32, 3), dtype=np.uint8)
spaces = gym.spaces.Box(0, 255, (32, 32, 3), np.uint8), gym.spaces.Box(-1, 1, (1,))
with tempfile.TemporaryDirectory() as folder:
    for _ in range(int(sys.argv[1])):
        with DatasetWriter(f"{folder}/data", *spaces) as writer:
            for i in range(40):
                episode = {
                    "observations": np.roll(frames, i, 1),
                    "actions": rng.uniform(-1, 1, (40, 1)).astype(np.float32),
                    "rewards": rng.normal(size=40),
                    "states": rng.normal(size=(41, 2)),
                }
                split = ["train", "train", "validation", "test"][i % 4]
                writer.write(episode, split)
    dataset = load(f"{folder}/data")
    specs = dataset.observation_spec, dataset.action_spec
    model = DVBF(tiny_config(), *specs, 0)
    config = TrainConfig(updates=4, batch_size=8, window=14, tensorboard=False, validate_every=2)
    trainer = Trainer(model, dataset, config, f"{folder}/run")
    world = trainer.fit(progress=False)
    evaluate(world, dataset, horizon=20)
# Not getrusage: what the parent held when it forked would count.
status = Path("/proc/self/status").read_text()
print(int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024)
