"""Which axes of a picture are its height, width and channels."""

from __future__ import annotations

from worldmodel.errors import SpecError
from worldmodel.spaces.leaf import Leaf

_FEW = 4  # grey, grey with alpha, RGB, RGBA
_USUAL = (1, 3)  # grey, RGB
LEAST_SIDE = 8  # side of a grey picture of floats; what is smaller is a matrix
_FLATTEN = "gymnasium.wrappers.FlattenObservation(env) makes numbers of it"


def axes_of(leaf: Leaf, path: str) -> tuple[int, ...] | None:
    """Order of the axes of a space's pictures (see ``picture_axes``); None if it has none.

    Raises:
        SpecError: Its dtype says that it is one, but its shape does not say how.
    """
    if leaf.kind != "Box" or leaf.size == 0 or len(leaf.shape) < 2:
        return None
    if leaf.dtype == "uint8":
        axes = picture_axes(leaf.shape)
        if axes is None:
            raise _refusal(leaf.shape, path)
        return axes
    bright = leaf.floating and leaf.low == (0.0,) and leaf.high in ((1.0,), (255.0,))
    flat = len(leaf.shape) == 2 and min(leaf.shape) < LEAST_SIDE
    return picture_axes(leaf.shape) if bright and not flat else None


def picture_axes(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The order of axes that makes (height, width[, frame][, channel]) of a picture.

    Rank 2 is grey. Rank 3 is (height, width, channel) or has its channels, or the frames of a
    stack, in front. Rank 4 is a stack of the latter, its frames in front as Gymnasium puts them,
    and untold if what is in front may be grey or RGB and the channels may not. A picture is
    believed to have four channels at most, or half as many as the shorter of its sides, or fewer
    than the sides of a square. Height and width are longer than all other axes.

    Args:
        shape: Of one sample.

    Returns:
        A permutation of the axes; None if there is no believable one, or more than one.
    """
    if len(shape) == 2:
        return (0, 1)
    if len(shape) == 3:
        last, first = _believable(*shape), _believable(shape[1], shape[2], shape[0])
        if last and first:
            # Declared the usual way and square, where the other reading would not be.
            last, first = shape[0] == shape[1] != shape[2], False
        axes = (0, 1, 2) if last else (1, 2, 0) if first else None
        return axes if axes and _long_sides(shape, axes) else None
    if len(shape) == 4 and (frame := picture_axes(shape[1:])):
        axes = (frame[0] + 1, frame[1] + 1, 0, frame[2] + 1)
        told = shape[axes[3]] in _USUAL or shape[0] not in _USUAL
        return axes if told and _long_sides(shape, axes) else None
    return None


def _long_sides(shape: tuple[int, ...], axes: tuple[int, ...]) -> bool:
    height, width, *others = (shape[axis] for axis in axes)
    return max(others) < min(height, width)


def _refusal(shape: tuple[int, ...], path: str) -> SpecError:
    """What to say of pixels whose axes cannot be told, with the wrappers that mend it."""
    frame = shape[-3:]
    mends = _mends(shape)
    if not mends and (
        len(shape) not in (3, 4)
        or not (_believable(*frame) or _believable(frame[1], frame[2], frame[0]))
    ):
        return SpecError(
            f"{path}: uint8 {shape} is no picture, whichever of its axes are the channels; "
            f"{_FLATTEN}"
        )
    orders = "(height, width, channel) or in (channel, height, width)"
    stack = ", after the frames of a stack" if len(shape) == 4 else ""
    return SpecError(
        f"{path}: cannot tell whether uint8 {shape} ends in {orders}{stack}: "
        f"{'; '.join([*mends, _FLATTEN])}"
    )


def _mends(shape: tuple[int, ...]) -> list[str]:
    """Wrappers that make a picture of it, by what it may be."""
    mends = []
    if len(shape) == 3 and picture_axes(turned := (*shape[1:], shape[0])) == (0, 1, 2):
        how = _moved("x.transpose(1, 2, 0)", turned)
        mends.append(f"if channels come first, {how} puts them last")
    if len(shape) == 3 and shape[2] in _USUAL:
        how = "gymnasium.wrappers.ResizeObservation(env, (64, 64))"
        mends.append(f"if channels come last, {how} makes it a square")
    for axis in (3, 2, 1) if len(shape) == 4 else ():
        turned = (shape[axis], *shape[:axis], *shape[axis + 1 :])
        if picture_axes(turned):
            how = _moved(f"np.moveaxis(x, {axis}, 0)", turned)
            mends.append(f"if axis {axis} counts the frames of a stack, {how} puts them first")
    return mends


def _moved(move: str, shape: tuple[int, ...]) -> str:
    space = f"gymnasium.spaces.Box(0, 255, {shape}, np.uint8)"
    return f"gymnasium.wrappers.TransformObservation(env, lambda x: {move}, {space})"


def _believable(height: int, width: int, channels: int) -> bool:
    return channels <= _FEW or 2 * channels <= min(height, width) or height == width > channels
