"""Fixtures: a pendulum dataset that is evaluated in a moment, and a world that never learned."""

import pytest
import torch

import envs  # noqa: F401 - registers the environment
from worldmodel.data import Dataset, SplitConfig, collect
from worldmodel.evaluation.evaluate import Evaluation, evaluate
from worldmodel.evaluation.identification import pendulum_targets
from worldmodel.models.dvbf import DVBF
from worldmodel.models.dvbf_config import DVBFConfig
from worldmodel.world.world import World

SMALL = DVBFConfig(base_matrices=4, mixing_hidden=8, hidden=16, recurrent=8, head_hidden=8)


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    splits = {"train": SplitConfig(4, 6), "test": SplitConfig(20, 18)}
    return collect("worldmodel/Pendulum-v0", splits=splits, num_envs=20, seed=3)


@pytest.fixture(scope="session")
def untrained(dataset: Dataset) -> World:
    model = DVBF(SMALL, dataset.observation_spec, dataset.action_spec, seed=1)
    with torch.no_grad():  # far from a model's first weights, so that its frames differ
        for parameter in model.emission.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4.0)
    return World(model.eval())


@pytest.fixture(scope="session")
def evaluation(untrained: World, dataset: Dataset) -> Evaluation:
    return evaluate(untrained, dataset, train_steps=6, horizon=10, targets=pendulum_targets)
