"""Which axes of a picture are its height, width and channels."""

from __future__ import annotations

from worldmodel.errors import SpecError

_FEW = 4  # grey, grey with alpha, RGB, RGBA
_FLATTEN = "gymnasium.wrappers.FlattenObservation(env) makes numbers of it"


def picture_axes(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The order of axes that makes (height, width[, frame][, channel]) of a picture.

    Rank 2 is grey. Rank 3 is (height, width, channel) or has its channels, or the frames of a
    stack, in front. Rank 4 is a stack of the latter. A picture is believed to have four channels
    at most, or half as many as the shorter of its sides, or fewer than the sides of a square.

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
        return (0, 1, 2) if last else (1, 2, 0) if first else None
    if len(shape) == 4 and (frame := picture_axes(shape[1:])):
        return (frame[0] + 1, frame[1] + 1, 0, frame[2] + 1)
    return None


def refusal(shape: tuple[int, ...], path: str) -> SpecError:
    """What to say of pixels whose axes cannot be told, with the wrappers that mend it."""
    frame = shape[-3:]
    if len(shape) not in (3, 4) or not (
        _believable(*frame) or _believable(frame[1], frame[2], frame[0])
    ):
        return SpecError(
            f"{path}: uint8 {shape} is no picture, whichever of its axes are the channels; "
            f"{_FLATTEN}"
        )
    mends = [_FLATTEN]
    turned = (frame[1], frame[2], frame[0])
    if len(shape) == 3 and picture_axes(turned):
        mends.insert(
            0,
            "if channels come first, gymnasium.wrappers.TransformObservation(env, lambda x: "
            f"x.transpose(1, 2, 0), gymnasium.spaces.Box(0, 255, {turned}, np.uint8)) puts them "
            "last",
        )
    if len(shape) == 3 and frame[2] in (1, 3):
        mends.insert(
            1, "if last, gymnasium.wrappers.ResizeObservation(env, (64, 64)) makes it a square"
        )
    return SpecError(
        f"{path}: cannot tell whether uint8 {shape} ends in (height, width, channel) or in "
        f"(channel, height, width): {'; '.join(mends)}"
    )


def _believable(height: int, width: int, channels: int) -> bool:
    return channels <= _FEW or 2 * channels <= min(height, width) or height == width > channels
