"""Gymnasium spaces as named streams and flat controls; nothing else here knows kinds of spaces."""

from worldmodel.spaces.actions import ActionSpace
from worldmodel.spaces.flat import FlatActions, Flattening, VectorFlatActions
from worldmodel.spaces.kinds import recorded_streams
from worldmodel.spaces.observations import ObservationSpace
from worldmodel.spaces.scaling import Scaling, scaling
from worldmodel.spaces.stream import Stream
from worldmodel.spaces.tree import map_arrays, put_row, stack

__all__ = [
    "ActionSpace",
    "FlatActions",
    "Flattening",
    "ObservationSpace",
    "Scaling",
    "Stream",
    "VectorFlatActions",
    "map_arrays",
    "put_row",
    "recorded_streams",
    "scaling",
    "stack",
]
