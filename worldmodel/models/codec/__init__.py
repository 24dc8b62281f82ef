"""What stands between observations and a model: one codec a kind of stream."""

from worldmodel.models.codec.codec import Codec
from worldmodel.models.codec.config import CodecConfig

__all__ = ["Codec", "CodecConfig"]
