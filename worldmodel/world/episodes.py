"""When the episodes of many dreams begin and end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from worldmodel.world.believed import Believed, Truncation
from worldmodel.world.compiled import Arrays, as_any, said
from worldmodel.world.status import OUTSIDE, TERMINATED

# First states drawn ahead at a time: a draw of a few costs nearly as much as one of thousands.
_RESERVE = 4096
_ENDS = TERMINATED | OUTSIDE
# Steps that no dream gets to: for ever.
_NEVER = 2**62
# Draws first states (latent, n) and their observations (n, latent).
Draw = Callable[[int], tuple[np.ndarray, np.ndarray]]


class Episodes:
    """Of n dreams, begun anew with the step after their last one.

    Args:
        n: How many dreams.
        limit: Steps after which an episode is truncated, or None.
        rule: For what else it is.
        believed: Where the memory and the bounds of errors begin.
        draw: See ``Draw``.
        compiled: Whether steps are; so is this then.

    Attributes:
        over: (n,) bool, whose episode is over; private to this, as it is written to.
        count: How many are over.
    """

    def __init__(
        self,
        n: int,
        limit: int | None,
        rule: Truncation,
        believed: Believed,
        draw: Draw,
        compiled: bool,
    ) -> None:
        self._limit, self._rule = _NEVER if limit is None else limit, rule
        self._believed, self._draw = believed, draw
        self.over, self.count = np.zeros(n, np.bool_), 0
        # Steps so far, those at which episodes began, and one before which none of them is late.
        self._clock, self._began, self._due = 0, np.zeros(n, np.int64), self._limit
        self._first, self._seen, self._next = *np.zeros((2, 0, 0), np.float32), 0
        self._turn = _compiled_turn() if compiled else turn

    def forget(self) -> None:
        """Draw first states afresh."""
        self._next = self._first.shape[1]

    def first(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """States (latent, n) to begin with, and their observations (n, latent)."""
        self._ensure(n)
        chosen = slice(self._next, self._next + n)
        self._next += n
        return self._first[:, chosen], self._seen[chosen]

    def begin(self, who: np.ndarray, memory: np.ndarray) -> None:
        """Those of an index or a mask begin now; their memory (memory, n) is written to."""
        self._began[who], self.over[who] = self._clock, False
        memory[:, who] = self._believed.first[:, np.newaxis]
        self.count = int(np.count_nonzero(self.over))

    def step(self, step: Arrays) -> np.ndarray:
        """One more step: who was over begins anew, and in ``step``, which is written to, too.

        Returns:
            Whether each is truncated (n,); who is over now is in ``over``.
        """
        self._clock += 1
        late = self._clock >= self._due or self._rule.limit < np.inf
        if not (self.count or late or step.status & _ENDS):
            return step.truncated
        self._ensure(self.count)
        began = self.count
        rules = self._clock, self._limit, self._rule.outside, self._rule.limit, self._next
        ours = self.over, self._began, self._first, self._seen, self._believed.begin
        theirs = step.states, step.memory, step.observations, step.rewards, step.flags, step.bounds
        self.count, self._due = self._turn(*rules, *ours, *theirs)
        self._next += began
        return step.truncated

    def _ensure(self, n: int) -> None:
        if self._first.shape[1] - self._next < n:
            self._first, self._seen = self._draw(max(n, _RESERVE))
            self._next = 0


def turn(
    clock: int,
    limit: int,
    outside: bool,
    greatest: float,
    position: int,
    over: np.ndarray,
    began: np.ndarray,
    first: np.ndarray,
    seen: np.ndarray,
    begin: np.ndarray,
    states: np.ndarray,
    memory: np.ndarray,
    observations: np.ndarray,
    rewards: np.ndarray,
    flags: np.ndarray,
    bounds: np.ndarray,
) -> tuple[int, int]:
    """Begin anew who was over; then say who is over now. As ``interpreter.turn``, uncompiled.

    Args:
        clock: Steps so far.
        limit: Of an episode.
        outside: Whether it ends where it leaves the support.
        greatest: Bound of the error that it goes on with.
        position: Of the first state that is begun with, among ``first``.
        over: (n,) bool, who was over; who is, afterwards.
        began: (n,) int64, at which step.
        first: First states (latent, m).
        seen: Their observations (m, latent).
        begin: Where the memory and the bounds begin (memory + outputs,).
        states: (latent, n), as all of these the step's result.
        memory: (memory, n).
        observations: (n, latent).
        rewards: (n,).
        flags: (3, n) bool: terminated, outside, and truncated, which is made here.
        bounds: (outputs, n).

    Returns:
        How many are over, and a step before which none is late: who is over now may begin anew
        within this step.
    """
    new = np.flatnonzero(over)
    chosen = slice(position, position + len(new))
    if new.size:
        states[:, new], observations[new] = first[:, chosen], seen[chosen]
    memory[:, new] = begin[: len(memory), np.newaxis]
    bounds[:, new] = begin[len(memory) :, np.newaxis]
    rewards[new], flags[:, new], began[new] = 0, False, clock
    lost = flags[1] & outside
    if greatest < np.inf:
        lost = bounds[0] > greatest
        lost[new] = False
    flags[2] = lost | (clock - began >= limit)
    over[:] = flags[0] | flags[2]
    due = np.where(over, clock, began).min() + limit
    return int(np.count_nonzero(over)), int(due)


def _compiled_turn() -> Callable[..., tuple[int, int]]:
    from worldmodel.world import interpreter

    compiled, table, row = as_any(interpreter.turn), np.zeros((3, 0), np.float32), np.zeros(0)
    bits, numbers = row.astype(np.bool_), row.astype(np.float32)
    ours = bits, row.astype(np.int64), table, table, numbers
    with said():
        compiled(0, 0, False, np.inf, 0, *ours, table, table, table, numbers, table > 0, table)
    return compiled
