"""Learn a simulator from frames and actions, and dream in it: the public names.

Importing the package registers the dreams' ids with Gymnasium.
"""

from importlib.metadata import version

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
