"""Learn a simulator from frames and actions, and dream in it: the public names.

Importing the package registers the dreams' ids with Gymnasium.
"""

import os
from functools import partial
from importlib.metadata import version

import torch

from worldmodel.world.env import LatentEnv
from worldmodel.world.filter import FilterObservation, VectorFilterObservation
from worldmodel.world.registration import register
from worldmodel.world.vector_env import LatentVectorEnv
from worldmodel.world.world import World, load

__version__ = version("worldmodel")
__all__ = [
    "FilterObservation",
    "LatentEnv",
    "LatentVectorEnv",
    "VectorFilterObservation",
    "World",
    "__version__",
    "load",
]

register()
# A forked process has none of the threads that torch waits for, if the parent ever used them.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))
