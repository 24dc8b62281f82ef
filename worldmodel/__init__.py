"""Learn a simulator from frames and actions, and dream in it: the public names.

Importing the package registers the dreams' ids with Gymnasium.
"""

from importlib.metadata import version

from worldmodel.models.checkpoint import load
from worldmodel.simulator.env import LatentEnv
from worldmodel.simulator.filter import FilterObservation, VectorFilterObservation
from worldmodel.simulator.registration import register
from worldmodel.simulator.vector_env import LatentVectorEnv

__version__ = version("worldmodel")
__all__ = [
    "FilterObservation",
    "LatentEnv",
    "LatentVectorEnv",
    "VectorFilterObservation",
    "__version__",
    "load",
]

register()
