"""The dream's step as a program, and what runs it: for one dream, or for many at once.

What a step is made of is written here once, for every model; how a part is computed is for the part
to say (``compiled_transition`` and the like). It agrees with ``dynamics.py`` up to rounding. Where
something cannot be compiled the reason is a string, and tensors are stepped instead.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console
from rich.status import Status
from torch import Tensor

from worldmodel.errors import NotCompiled, ShapeError
from worldmodel.models.program import PANEL, Builder, Program
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.spaces import ActionSpace
from worldmodel.world.dynamics import Dynamics
from worldmodel.world.threads import together
from worldmodel.world.trust import Trust

# Draws of a single dream's noise that are made at a time: one alone costs as much as hundreds.
DRAWS = 512
# Dreams for each thread at least: to begin a second one costs as much as stepping a thousand.
_SHARE = 2048
_FLOAT, _BOOL = np.dtype(np.float32), np.dtype(np.bool_)
# Numbers in a line of the cache; words that seed noise; what it is drawn in multiples of.
_LINE, _WORDS, _ROUND = 16, 64, 32


class StepProgram(NamedTuple):
    """A step, with all that its kernels want to know.

    Attributes:
        code: The program's.
        weights: The program's; then least and greatest actions, and least and greatest
            observations.
        ports: Sizes, and where inputs, outputs and bounds are; see ``interpreter.step_one``.
        registers: How many the program needs.
    """

    code: np.ndarray
    weights: np.ndarray
    ports: np.ndarray
    registers: int


def compile_step(
    dynamics: Dynamics, box: gym.spaces.Box, bounded: bool = False
) -> StepProgram | str:
    """The step as it is now, or why there is none.

    Args:
        dynamics: What is done to weights afterwards does not reach the program.
        box: The observation space of one dream.
        bounded: Whether to bound errors along with it, as far as the world can.
    """
    model = dynamics.model
    if reason := unable(model):
        return reason
    try:
        program, trust = _step(dynamics, bounded)
    except NotCompiled as error:
        return str(error)
    spec = model.action_spec
    sizes = (model.latent_size, spec.size, dynamics.draws)
    state, memory = program.inputs
    action = state + model.latent_size
    inputs = state, action, action + spec.size
    arrived, reward, squared, remembered, bound, *end = program.outputs
    outputs = (arrived, reward, squared, *end) if end else (arrived, reward, squared, -1)
    bounds = len(program.weights)
    ports = (*sizes, *inputs, *outputs, bounds, bounds + 2 * spec.size)
    counts = (0, 0) if trust is None else (trust.memory_size, trust.outputs)
    ports = (*ports, *counts, memory, remembered, bound)
    seen = program.registers
    ports = np.array((*ports, seen, seen + model.latent_size), np.int32)
    weights = with_bounds(program.weights, spec, box)
    return StepProgram(program.code, weights, ports, program.registers)


def unable(model: StateSpaceModel) -> str:
    """Why nothing of a model can be compiled, or nothing."""
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed: pip install 'worldmodel[fast]'"
    if model.device.type != "cpu":
        return f"the model lives on {model.device}; only the CPU's step is compiled"
    if model.dtype != torch.float32:
        return f"the model computes in {model.dtype}; only the step in torch.float32 is compiled"
    return ""


def _step(dynamics: Dynamics, bounded: bool) -> tuple[Program, Trust | None]:
    """The program, its last output positive where an episode ends, if any did; what bounds."""
    model, builder = dynamics.model, Builder()
    trust = dynamics.world.trust if bounded else None
    sizes = model.latent_size, model.action_spec.size, dynamics.draws
    # Parts of one, so that those that are read together need not be copied.
    state, action, draws = builder.input(sum(sizes)).split(*sizes)
    memory = builder.input(0 if trust is None else trust.memory_size)
    arrived, reward, squared, *end = dynamics.compiled(builder, state, action, draws)
    remembered = bounds = builder.constant(np.zeros(1))
    if trust is not None:
        noise, _ = draws.split(model.noise_size, dynamics.draws - model.noise_size)
        looked = state, action, noise, arrived, squared
        remembered, bounds = trust.compiled(builder, memory, *looked)
    return builder.finish(arrived, reward, squared, remembered, bounds, *end), trust


def with_bounds(weights: np.ndarray, spec: ActionSpace, box: gym.spaces.Box) -> np.ndarray:
    """Weights; then least and greatest actions, and least and greatest observations."""
    # Vectors may reach beyond the last weight.
    parts = (weights, spec.low, spec.high, box.low, box.high, np.zeros(PANEL))
    return np.concatenate([np.asarray(part, np.float32).ravel() for part in parts])


class CompiledStep:
    """Steps one dream.

    Args:
        program: Of ``compile_step``.

    Attributes:
        state: The state (latent,): what is written to it is where the next step begins.
        observation: The same clipped to the observation space, as of the last step.
        noise: Random numbers (``DRAWS``, draws), as of ``Dynamics.draw``, to be refilled.
        following: The state that the last step led to, finite or not.
        memory: What the bounds of errors remember: to be written to where a dream begins.
        bounds: Of the errors after the last step; empty if there are none.
        run: Steps from ``state`` by an action (act,) ``float32``, contiguous and writeable, which
            is clipped, with draw ``draw`` of ``noise`` or with none (-1): an episode then ends
            where the model holds that likelier than not. Returns the reward, and a sum of
            TERMINATED, OUTSIDE, DIVERGED and REFUSED; the state is left as it was where the step
            diverged, or an action that is not finite was refused.

    All but the last are views of the same memory, to be written to and read, never replaced.
    """

    run: Callable[[np.ndarray, int], tuple[float, int]]

    def __init__(self, program: StepProgram) -> None:
        act, draws, drawn = program.ports[1], program.ports[2], program.ports[-1]
        self._open(program, np.zeros(drawn + DRAWS * draws + PANEL, np.float32))
        with said():
            self.run(np.zeros(act, np.float32), -1)

    def _open(self, program: StepProgram, space: np.ndarray) -> None:
        from worldmodel.world import interpreter

        latent, _, draws, state, _, _, following = program.ports[:7].tolist()
        seen, drawn = program.ports[-2:].tolist()
        self.state = space[state : state + latent]
        self.following = space[following : following + latent]
        kept, count, memory, _, bound = program.ports[-7:-2].tolist()
        self.memory, self.bounds = space[memory : memory + kept], space[bound : bound + count]
        self.observation = space[seen : seen + latent]
        self.noise = space[drawn : drawn + DRAWS * draws].reshape(DRAWS, draws)
        self._program, self._space = program, space
        # Less than a method that calls it.
        args = program.code, program.weights, program.ports, space
        self.run = partial(as_any(interpreter.step_one), *args)

    def __getstate__(self) -> tuple[StepProgram, np.ndarray]:
        """What a copy is made of: views would no longer be of one memory."""
        return self._program, self._space

    def __setstate__(self, state: tuple[StepProgram, np.ndarray]) -> None:
        self._open(*state)


class Arrays(NamedTuple):
    """What a step of many dreams gives: fresh arrays.

    Attributes:
        states: (latent, n), unclipped.
        observations: (n, latent), clipped to the observation space.
        rewards: (n,) float32, in the environment's units.
        flags: (3, n) bool: whether the episode terminates, whether the state has left the data's
            support, and, for whoever has a reason (``episodes.py``), whether it is truncated.
        memory: (memory, n), of what bounds errors.
        bounds: (outputs, n), of errors; empty if nothing bounds them.
        status: What holds for any of them, a sum of TERMINATED, OUTSIDE, DIVERGED (its state or
            reward is not finite) and REFUSED (nor is its action, and nothing here means anything).
    """

    states: np.ndarray
    observations: np.ndarray
    rewards: np.ndarray
    flags: np.ndarray
    memory: np.ndarray
    bounds: np.ndarray
    status: int

    @property
    def terminated(self) -> np.ndarray:
        """(n,) bool."""
        return self.flags[0]

    @property
    def outside(self) -> np.ndarray:
        """(n,) bool."""
        return self.flags[1]

    @property
    def truncated(self) -> np.ndarray:
        """(n,) bool."""
        return self.flags[2]


class CompiledSteps:
    """Steps many dreams at once; thousands by as many threads as torch uses, with the same result.

    Args:
        program: Of ``compile_step``.
    """

    def __init__(self, program: StepProgram) -> None:
        from worldmodel.world import interpreter

        self._args = (program.code, program.weights, program.ports)
        # One for each thread that was needed so far.
        self._spaces, self._registers = [room_for(program.registers)], program.registers
        self._block = interpreter.BLOCK
        latent, act, draws = program.ports[:3].tolist()
        self._draws, self._none = draws, np.zeros((draws, 0), np.float32)
        self._kept, self._count = program.ports[-7:-5].tolist()
        self._run, self._fill = as_any(interpreter.step_many), as_any(interpreter.draw_normals)
        with said():
            self(np.zeros((latent, 1), np.float32), np.zeros((1, act), np.float32), None)

    def normal(self, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Standard normal numbers, for ``Dynamics.draw``, ten times as fast as by torch.

        From a generator of their own, which the one that is given seeds every time.
        """
        count = math.prod(size)
        numbers = np.empty(count + -count % _ROUND, np.float32)
        words = torch.randint(2**32, (_WORDS,), generator=generator)
        self._fill(words.numpy().astype(np.uint32), numbers)
        return torch.from_numpy(numbers[:count]).view(size)

    def apart(self, noise: Tensor) -> list[np.ndarray]:
        """Draws of many steps (steps, draws, n), step by step, as a call takes them."""
        return list(noise.numpy())

    def __call__(
        self,
        states: np.ndarray,
        actions: np.ndarray,
        noise: np.ndarray | None,
        memory: np.ndarray | None = None,
    ) -> Arrays:
        """From states (latent, n), model actions (n, act), and draws (draws, n) or None.

        Actions are clipped, and refused if they are not finite. What bounds errors goes on from a
        memory (memory, n); from zeros if it is None.
        """
        latent, n = states.shape
        if noise is not None and noise.shape != (self._draws, n):
            # Fewer would be read beyond their end.
            raise ShapeError(f"draws must be {(self._draws, n)}, got {noise.shape}")
        if memory is None:
            memory = np.zeros((self._kept, n), np.float32)
        # Not np.empty_like, which costs twice as much.
        remembered, bounds = np.empty((self._kept, n), _FLOAT), np.empty((self._count, n), _FLOAT)
        reached, rewards = np.empty((latent, n), _FLOAT), np.empty(n, _FLOAT)
        observations, flags = np.empty((n, latent), _FLOAT), np.empty((3, n), _BOOL)
        draws = self._none if noise is None else noise
        taken, given = (states, actions, draws, memory), (reached, observations, rewards, flags)
        arrays = *taken, *given, remembered, bounds
        if n < 2 * _SHARE:
            status = self._run(*self._args, self._spaces[0], 0, n, *arrays)
        else:
            status = self._shared(n, arrays)
        return Arrays(reached, observations, rewards, flags, remembered, bounds, status)

    def _shared(self, n: int, arrays: tuple[np.ndarray, ...]) -> int:
        """Step n dreams by as many threads as there are; what holds for any of them."""
        threads = min(torch.get_num_threads(), n // _SHARE)
        while len(self._spaces) < threads:
            self._spaces.append(room_for(self._registers))
        # Whole blocks, so that each is the same whoever steps it.
        blocks = -(-n // self._block)
        edges = [self._block * (blocks * k // threads) for k in range(threads)]
        shares = zip(self._spaces, edges, [*edges[1:], n], strict=False)
        works = [partial(self._run, *self._args, *share, *arrays) for share in shares]
        return together(works)


def room_for(registers: int) -> np.ndarray:
    """Registers of one block of dreams, (registers * BLOCK + PANEL,).

    They begin where a line of the cache does, so that no vector lies in two of them.
    """
    from worldmodel.world import interpreter

    count = registers * interpreter.BLOCK + PANEL
    room = np.zeros(count + _LINE, np.float32)
    begin = -room.ctypes.data // room.itemsize % _LINE
    return room[begin : begin + count]


def as_any(function: Any) -> Any:
    """A function of types of numba's that no checker knows."""
    return function


def said() -> Status:
    """Who waits for a first call is told why."""
    return Console(stderr=True).status("compiling the dream's step")
