"""The filter's step as a program, and what runs it: for one filter, or for many at once.

As ``compiled.py`` does of the dream's step. What frames differ by from those that were predicted is
found on the way, for the prediction is a part of the step.
"""

from __future__ import annotations

from typing import NamedTuple

import gymnasium as gym
import numpy as np

from worldmodel.errors import NotCompiled
from worldmodel.models.networks import numbers
from worldmodel.models.program import PANEL, Builder, Program
from worldmodel.world.compiled import as_any, room_for, said, unable, with_bounds
from worldmodel.world.world import World


class FilterProgram(NamedTuple):
    """A filter's step.

    Attributes:
        program: Of one input, mean, scale, action and frame behind each other, and one output, the
            next mean and scale, and each stream's innovation.
        weights: The program's; then least and greatest actions, and least and greatest means.
        sizes: Of a state, an action, a frame, and the number of streams.
        offset: What is taken away from frames in double precision, (frame,).
    """

    program: Program
    weights: np.ndarray
    sizes: tuple[int, int, int, int]
    offset: np.ndarray


def compile_filter(world: World, box: gym.spaces.Box) -> FilterProgram | str:
    """The model's filter step as it is now, or why there is none.

    Args:
        world: What is done to weights afterwards does not reach the program.
        box: The observation space of one dream.
    """
    model = world.model
    if reason := unable(model):
        return reason
    builder, latent, spec = Builder(), model.latent_size, model.action_spec
    frame_size, streams = model.observation_spec.size, len(model.observation_spec.streams)
    given = builder.input(2 * latent + spec.size + frame_size)
    mean, scale, action, frame = given.split(latent, latent, spec.size, frame_size)
    try:
        belief = model.compiled_update(builder, mean, scale, action, frame)
        innovations = builder.constant(np.zeros(streams))
        if world.trust is not None:
            still = builder.constant(np.zeros(model.noise_size))
            ahead = model.compiled_transition(builder, mean, action, still)
            shown = model.compiled_emission(builder, ahead)
            errors = model.codec.compiled_errors(builder, frame, shown)
            innovations = builder.affine(errors, numbers(1 / world.trust.variance))
    except NotCompiled as error:
        return str(error)
    program = builder.finish(builder.join(*belief, innovations))
    weights = with_bounds(program.weights, spec, box)
    sizes = (latent, spec.size, frame_size, streams)
    return FilterProgram(program, weights, sizes, model.codec.offset)


class CompiledFilter:
    """Steps one filter.

    Args:
        program: Of ``compile_filter``.

    Attributes:
        mean: Of the belief, (latent,).
        scale: Likewise.
        observation: The mean clipped to the observation space, as of the last step.
        action: The action (act,) that was taken; clipped by the step.
        frame: The frame that it led to, encoded, flat and less the offset, (frame,).
        innovations: Squared error of the predicted frame as a fraction of each stream's variance.

    All of them are views of the same memory, to be written to and read, never replaced.
    """

    def __init__(self, program: FilterProgram) -> None:
        latent, registers = program.sizes[0], program.program.registers
        self._open(program, np.zeros(registers + latent + PANEL, np.float32))
        self.scale[:] = 1
        with said():
            self()

    def _open(self, program: FilterProgram, space: np.ndarray) -> None:
        from worldmodel.world import interpreter

        code, weights, registers, (given,), (out,) = _parts(program.program)
        latent, act, frame, streams = program.sizes
        parts = np.split(space[given:], np.cumsum([latent, latent, act, frame]))
        self.mean, self.scale, self.action, self.frame, _ = parts
        self.observation = space[registers : registers + latent]
        self.innovations = space[out + 2 * latent : out + 2 * latent + streams]
        bounds = len(weights)
        ports = (latent, act, given, out, bounds, bounds + 2 * act, registers)
        self._args = (code, program.weights, np.array(ports, np.int32), space)
        self._program, self._run = program, as_any(interpreter.filter_one)

    def __getstate__(self) -> tuple[FilterProgram, np.ndarray]:
        """See ``CompiledStep``."""
        return self._program, self._args[-1]

    def __setstate__(self, state: tuple[FilterProgram, np.ndarray]) -> None:
        self._open(*state)

    def __call__(self) -> int:
        """Predict with the action, correct with the frame.

        Returns:
            0, or DIVERGED or REFUSED, and the belief is left as it was.
        """
        return self._run(*self._args)


class CompiledFilters:
    """Steps n filters.

    Args:
        program: Of ``compile_filter``.
        n: How many.

    Attributes:
        means: Of the beliefs, (latent, n).
        scales: Likewise.
        actions: That were taken, within their bounds, (act, n).
        frames: That they led to, (frame, n); see ``CompiledFilter``.

    All of them are views of the same memory, to be written to and read, never replaced.
    """

    def __init__(self, program: FilterProgram, n: int) -> None:
        latent, act, frame, _ = program.sizes
        self._open(program, np.zeros((2 * latent + act + frame, n), np.float32))
        self.scales[:] = 1
        with said():
            self()

    def _open(self, program: FilterProgram, given: np.ndarray) -> None:
        from worldmodel.world import interpreter

        code, weights, registers, first, last = _parts(program.program)
        latent, act, _, streams = program.sizes
        parts = np.split(given, np.cumsum([latent, latent, act]))
        self.means, self.scales, self.actions, self.frames = parts
        self._out = np.zeros((2 * latent + streams, given.shape[1]), np.float32)
        space = room_for(registers)
        self._args = (code, weights, np.array(first + last, np.int32), space)
        self._given, self._program = given, program
        self._run = as_any(interpreter.apply_many)

    def __getstate__(self) -> tuple[FilterProgram, np.ndarray]:
        """See ``CompiledStep``."""
        return self._program, self._given

    def __setstate__(self, state: tuple[FilterProgram, np.ndarray]) -> None:
        self._open(*state)

    def __call__(self) -> np.ndarray:
        """Predict with the actions, correct with the frames; innovations (streams, n), fresh."""
        self._run(*self._args, self._given, self._out)
        belief = 2 * len(self.means)
        self._given[:belief] = self._out[:belief]
        return self._out[belief:].copy()


def _parts(
    program: Program,
) -> tuple[np.ndarray, np.ndarray, int, tuple[int, ...], tuple[int, ...]]:
    return program.code, program.weights, program.registers, program.inputs, program.outputs
