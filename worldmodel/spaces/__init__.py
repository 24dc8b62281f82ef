"""Gymnasium spaces as named streams and flat controls; nothing else here knows kinds of spaces."""

from worldmodel.spaces.actions import ActionSpace
from worldmodel.spaces.flat import FlatActions, Flattening, VectorFlatActions
from worldmodel.spaces.observations import ObservationSpace
from worldmodel.spaces.stream import Scaling, Stream, scaling
from worldmodel.spaces.tree import map_arrays

__all__ = [
    "ActionSpace",
    "FlatActions",
    "Flattening",
    "ObservationSpace",
    "Scaling",
    "Stream",
    "VectorFlatActions",
    "map_arrays",
    "scaling",
]
