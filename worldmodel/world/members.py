"""Members of an ensemble: further transitions of one model, of any kind, and where they part.

Codec, inference, emission and heads are shared; what is there several times are the weights that
the transition uses. The first member is the model's own transition, and dreams go its way. The
others begin beside it and learn, each from its own bootstrap sample of what the filter found in the
data. Where data say what happens they come back together, elsewhere they stay apart. Along a dream
every member goes its own way, so that what is small at first grows where dynamics let it.

Sources: Lakshminarayanan et al. 2017, "Simple and Scalable Predictive Uncertainty Estimation using
Deep Ensembles"; Chua et al. 2018, "Deep Reinforcement Learning in a Handful of Trials using
Probabilistic Dynamics Models" (bootstraps, each member followed along a rollout). Differs: members
share all but the transition, and begin beside the one that was trained with the rest.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from worldmodel.errors import SpecError, require_at_least
from worldmodel.models.networks import numbers
from worldmodel.models.program import Builder, Rows
from worldmodel.models.ssm import StateSpaceModel
from worldmodel.progress import track
from worldmodel.types import Batch

# How far from the model's own weights the others begin, in deviations of the weights of a tensor.
_BESIDE = 0.3
# How they are fitted.
UPDATES, _BATCH, _RATE, _NORM = 1000, 256, 3e-3, 10.0
# Deviations of the states beyond which a member is no further away, and below which all agree.
_FAR, _NEAR = 10.0, 1e-4
# Recorded episodes that are filtered at a time.
_AT_ONCE = 256


@dataclass(frozen=True)
class Transitions:
    """What the filter believed before and after every recorded step.

    Attributes:
        states: (n, latent).
        actions: (n, act), in the environment's units.
        next_states: (n, latent).
    """

    states: Float[Tensor, "n latent"]
    actions: Float[Tensor, "n act"]
    next_states: Float[Tensor, "n latent"]


@torch.no_grad()
def filtered_transitions(model: StateSpaceModel, episodes: Batch, prefix: int = 1) -> Transitions:
    """Means of the filter's beliefs along recorded episodes, begun from some leading frames."""
    rows: list[tuple[Tensor, ...]] = []
    for part in episodes.parts(_AT_ONCE):
        part = part.to(model.device)
        means = model.filter_beliefs(part.observations, part.actions, prefix, part.seen).mean
        kept = part.mask & part.frame_mask[:, :-1] & part.frame_mask[:, 1:]
        rows.append((means[:, :-1][kept], part.actions[kept], means[:, 1:][kept]))
    return Transitions(*(torch.cat(column) for column in zip(*rows, strict=True)))


class Members(nn.Module):
    """All members but the first; weights travel with the model's checkpoint.

    Args:
        model: Whose transition is the first member; used as it is, not copied.
        count: Members, the model's own among them; at least 2.

    Attributes:
        count: As given.

    Raises:
        ConfigError: ``count`` is less than 2.
        SpecError: The model's transition has no weights.
    """

    scale: Tensor
    usual: Tensor

    def __init__(self, model: StateSpaceModel, count: int) -> None:
        super().__init__()
        require_at_least(2, members=count)
        # In a tuple, since it is no part of this: it has its own place in a checkpoint.
        self.count, self._called = count, (_Called(model),)
        weights = transition_weights(model)
        if not weights:
            raise SpecError(f"the transition of {type(model).__name__} has no weights to vary")
        names = [f"model.{name}" for name in weights]
        self._names = {name: name.replace(".", "-") for name in names}
        for kept, weight in zip(self._names.values(), weights.values(), strict=True):
            value = weight.detach()
            copies = value.expand(count - 1, *value.shape).clone()
            self.register_parameter(kept, nn.Parameter(copies, requires_grad=False))
        self.register_buffer("scale", torch.ones(model.latent_size, device=model.device))
        self.register_buffer("usual", torch.ones((), device=model.device))

    @property
    def model(self) -> StateSpaceModel:
        """Whose transition is the first member."""
        return self._called[0].model

    @property
    def offsets_size(self) -> int:
        """Numbers that go along with a dream: where the others are beside the first."""
        return (self.count - 1) * self.model.latent_size

    def step(
        self, states: Float[Tensor, "others n latent"], actions: Float[Tensor, "others n act"]
    ) -> Float[Tensor, "others n latent"]:
        """Every other member's step from its own states, without noise."""
        # Not vmap: it has no rule for a gated recurrent unit.
        steps = [self._call(k, "transition", states[k], actions[k]) for k in range(self.count - 1)]
        return torch.stack(steps)

    @torch.no_grad()
    def model_of(self, k: int) -> StateSpaceModel:
        """A copy of the model that goes the way of the other member ``k``."""
        model = deepcopy(self.model)
        for name, kept in self._names.items():
            model.get_parameter(name.removeprefix("model.")).copy_(self.get_parameter(kept)[k])
        return model

    def _call(self, k: int, method: str, *args: Any) -> Any:
        """A method of the model with the weights of member ``k``."""
        weights = {name: self.get_parameter(kept)[k] for name, kept in self._names.items()}
        return functional_call(self._called[0], weights, (method, *args))

    def follow(
        self,
        offsets: Float[Tensor, "batch offsets"],
        state: Float[Tensor, "batch latent"],
        action: Float[Tensor, "batch act"],
    ) -> Float[Tensor, "batch offsets"]:
        """Where the others are beside the dream after a step; what moves it besides moves all."""
        others = self.count - 1
        states = state + offsets.unflatten(1, (others, -1)).transpose(0, 1)
        arrived = self.step(states, action.expand(others, *action.shape))
        moved = arrived - self.model.transition(state, action)
        far = _FAR * self.scale
        return moved.clamp(-far, far).transpose(0, 1).flatten(1)

    def apart(self, offsets: Float[Tensor, "batch offsets"]) -> Float[Tensor, "batch latent"]:
        """Logarithm of the others' distance in every dimension, in deviations of the data."""
        each = offsets.unflatten(1, (self.count - 1, -1)) / self.scale
        return 0.5 * (each.square().mean(1) + _NEAR**2).log()

    def disagreement(
        self, state: Float[Tensor, "batch latent"], action: Float[Tensor, "batch act"]
    ) -> Float[Tensor, " batch"]:
        """How far apart members are after one step from one state: 1 is usual on the data."""
        nowhere = state.new_zeros(len(state), self.offsets_size)
        return (2 * self.apart(self.follow(nowhere, state, action))).exp().mean(1).sqrt() / (
            self.usual
        )

    def compiled(self, builder: Builder, offsets: Rows, state: Rows, action: Rows) -> Rows:
        """Instructions of ``follow``.

        Raises:
            NotCompiled: The model's transition offers none.
        """
        still = builder.constant(np.zeros(self.model.noise_size))
        own = self.model.compiled_transition(builder, state, action, still)
        away, far, moved = builder.affine(own, -1.0), numbers(_FAR * self.scale), []
        for k, offset in enumerate(offsets.split(*[state.count] * (self.count - 1))):
            given = builder, builder.add(state, offset), action, still
            arrived = self._call(k, "compiled_transition", *given)
            moved.append(builder.clamp(builder.add(arrived, away), -far, far))
        return builder.join(*moved)

    def compiled_apart(self, builder: Builder, offsets: Rows) -> Rows:
        """Instructions of ``apart``."""
        size, others = self.model.latent_size, self.count - 1
        share = numbers(1 / self.scale) / others**0.5
        parts = [builder.affine(part, share) for part in offsets.split(*[size] * others)]
        total = builder.multiply(parts[0], parts[0])
        for part in parts[1:]:
            total = builder.add(total, builder.multiply(part, part))
        return builder.affine(builder.log(builder.affine(total, 1.0, _NEAR**2)), 0.5)

    @torch.enable_grad()
    def fit(
        self, known: Transitions, seed: int, updates: int | None = None, progress: bool = False
    ) -> None:
        """Begin beside the model's own transition, and learn from bootstrap samples of the data.

        Args:
            known: Recorded steps, as the filter sees them.
            seed: Of where members begin, of their samples, and of batches.
            updates: Gradient updates; by default ``UPDATES``.
            progress: Whether to show a progress bar.
        """
        updates = UPDATES if updates is None else updates
        generator = torch.Generator(known.states.device).manual_seed(seed)
        self.scale.copy_(_spread(known.states))
        self._set_apart(generator)
        n, others = len(known.states), self.count - 1
        kind: Any = {"generator": generator, "device": known.states.device}
        samples = torch.randint(n, (others, n), **kind)
        moved = _spread(known.next_states - known.states)
        self.requires_grad_(True)
        optimizer = torch.optim.Adam(self.parameters(), _RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, updates))
        for _ in track(range(updates), "members", disable=not progress):
            rows = samples.gather(1, torch.randint(n, (others, min(_BATCH, n)), **kind))
            arrived = self.step(known.states[rows], known.actions[rows])
            errors = ((arrived - known.next_states[rows]) / moved).square()
            optimizer.zero_grad()
            errors.mean((1, 2)).sum().backward()
            nn.utils.clip_grad_norm_(self.parameters(), _NORM)
            optimizer.step()
            schedule.step()
        self.requires_grad_(False)
        with torch.no_grad():
            self.usual.fill_(1.0)
            few = slice(None, None, max(1, n // 8192))
            told = self.disagreement(known.states[few], known.actions[few])
            self.usual.copy_(told.mean().clamp_min(_NEAR))

    @torch.no_grad()
    def _set_apart(self, generator: torch.Generator) -> None:
        for name, kept in self._names.items():
            value = self.get_parameter(kept)
            own = self.model.get_parameter(name.removeprefix("model.")).detach()
            drawn = torch.randn(
                value.shape, generator=generator, device=value.device, dtype=value.dtype
            )
            spread = own.std() if own.numel() > 1 else 0.0
            value.copy_(own + _BESIDE * spread * drawn)


class _Called(nn.Module):
    """A model whose methods are called by their names, so that weights can be put in its place."""

    def __init__(self, model: StateSpaceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, method: str, *args: Any) -> Any:
        """What the method gives."""
        return getattr(self.model, method)(*args)


def transition_weights(model: StateSpaceModel) -> dict[str, nn.Parameter]:
    """The weights that a model's transition depends on, by their names in it."""
    called = _Called(model)
    weights = {n: p.detach().clone().requires_grad_() for n, p in called.named_parameters()}
    kind: Any = {"device": model.device, "dtype": model.dtype}
    state = torch.zeros(2, model.latent_size, **kind)
    action = torch.zeros(2, model.action_spec.size, **kind)
    with torch.enable_grad():
        arrived = functional_call(called, weights, ("transition", state, action))
        if not arrived.requires_grad:
            return {}
        slopes = torch.autograd.grad(arrived.sum(), list(weights.values()), allow_unused=True)
    pairs = zip(model.named_parameters(), slopes, strict=True)
    return {name: weight for (name, weight), slope in pairs if slope is not None}


def _spread(values: Float[Tensor, "n columns"]) -> Float[Tensor, " columns"]:
    """Deviations; 1 where nothing varies."""
    std = values.std(0)
    return torch.where(std > 1e-6, std, 1.0)
