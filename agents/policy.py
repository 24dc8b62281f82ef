"""A policy on the latent state, for actions of any space; its file; and how it acts by itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agents import tensors_file
from agents.controls import groups
from worldmodel.spaces import ActionSpace

# Standard deviations of a stochastic policy's numbers, before they are squashed, as logarithms.
_LOG_STD = (-4.0, 1.0)
# Where tanh has reached 0.96, and rises at a fourteenth of its rate at 0.
_SATURATED = 2.0
_FORMAT = "worldmodel-policy-2"


class Drawn(NamedTuple):
    """What a policy drew.

    Attributes:
        controls: (batch, act).
        entropy: (batch,), of what they were drawn from, in nats. That of numbers is estimated from
            the draw, in units of half their ranges; without a spread they have none.
        beyond: (batch,), square of how far the likeliest numbers are, before they are bounded,
            beyond where tanh is nearly flat: its gradient is lost there.
        likelihood: (batch,), of what was chosen, in nats; numbers do not count.
    """

    controls: Tensor
    entropy: Tensor
    beyond: Tensor
    likelihood: Tensor


class Policy(nn.Module):
    """Policy on the latent state, for actions of any space.

    Numbers are bounded by tanh, an index is the likeliest of a softmax, a switch is on where its
    chance is above one half.

    Args:
        mean: (latent,), subtracted from the state.
        std: (latent,), which it is then divided by.
        actions: The environment's.
        low: (act,), least control; finite also where the action has no bound.
        high: (act,), greatest control.
        hidden: Units of each hidden layer.
        stochastic: Whether numbers have a spread of their own, Gaussian before they are bounded.

    Attributes:
        generator: Source of what ``predict`` draws.
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self,
        mean: Tensor,
        std: Tensor,
        actions: ActionSpace,
        low: Tensor,
        high: Tensor,
        hidden: int,
        stochastic: bool = False,
    ) -> None:
        super().__init__()
        self.actions, self.stochastic = actions, stochastic
        self.generator = torch.Generator(mean.device).manual_seed(0)
        self._tensors: list[Tensor] = []
        self._arrays: list[np.ndarray] = []
        self._places: list[int] = []
        for name, value in (("mean", mean), ("std", std), ("low", low), ("high", high)):
            self.register_buffer(name, value.clone())
        self._groups = tuple(group for part in actions.parts for group in groups(part))
        spreads = int(self._numbers.sum()) if stochastic else 0
        self.network = nn.Sequential(
            nn.Linear(len(mean), hidden),
            nn.Tanh(),
            nn.Linear(hidden, hidden),
            nn.Tanh(),
            nn.Linear(hidden, actions.size + spreads),
        )

    @cached_property
    def _numbers(self) -> np.ndarray:
        return np.repeat([k == "number" for k, _ in self._groups], [n for _, n in self._groups])

    @cached_property
    def chooses(self) -> Bool[np.ndarray, " act"]:
        """Which controls are chosen rather than set: those of indices and switches."""
        return ~self._numbers

    @cached_property
    def _all_numbers(self) -> bool:
        return bool(self._numbers.all())

    @cached_property
    def _switches(self) -> np.ndarray:
        return np.repeat([k == "switch" for k, _ in self._groups], [n for _, n in self._groups])

    @cached_property
    def draws(self) -> bool:
        """Whether noise decides: some actions are chosen rather than set, or numbers spread."""
        return self.stochastic or not self._all_numbers

    def noise(self, n: int, generator: torch.Generator) -> Float[Tensor, "n act"] | None:
        """Draws for ``forward``: Gumbel's for indices, logistic for switches, normal for numbers.

        None where none decides.
        """
        if not self.draws:
            return None
        shape, device = (n, self.actions.size), self.low.device
        uniform = torch.rand(shape, generator=generator, device=device)
        gumbel = -(-uniform.clamp_min(1e-20).log()).log()
        switches = torch.from_numpy(self._switches).to(device)
        drawn = torch.where(switches, uniform.logit(1e-7), gumbel)
        if not self.stochastic:
            return drawn
        normal = torch.randn(shape, generator=generator, device=device)
        return torch.where(torch.from_numpy(self._numbers).to(device), normal, drawn)

    def forward(
        self,
        state: Float[Tensor, "batch latent"],
        noise: Float[Tensor, "batch act"] | None = None,
    ) -> Float[Tensor, "batch act"]:
        """Controls, in the environment's units, one-hot, or 0 and 1.

        Args:
            state: Latent states.
            noise: As ``noise`` draws it; None takes the likeliest.
        """
        return self._chosen(*self._heads(state), noise)

    def sample(
        self, state: Float[Tensor, "batch latent"], noise: Float[Tensor, "batch act"] | None
    ) -> Drawn:
        """The same, and what training regularises."""
        out, scale = self._heads(state)
        beyond = (out[:, self._numbers].abs() - _SATURATED).clamp_min(0).square().sum(1)
        controls = self._chosen(out, scale, noise)
        entropy, likelihood = self._entropy(out, scale, noise), self._likelihood(out, controls)
        return Drawn(controls, entropy, beyond, likelihood)

    def _heads(self, state: Tensor) -> tuple[Tensor, Tensor | None]:
        """What is likeliest, before it is bounded; and by how much numbers spread around it."""
        out = self.network((state - self.mean) / self.std)
        if not self.stochastic:
            return out, None
        low, high = _LOG_STD
        logits = out[:, self.actions.size :]
        scale = torch.zeros_like(out[:, : self.actions.size])
        scale[:, self._numbers] = (low + (high - low) * logits.sigmoid()).exp()
        return out[:, : self.actions.size], scale

    def _chosen(self, out: Tensor, scale: Tensor | None, noise: Tensor | None) -> Tensor:
        if scale is not None and noise is not None:
            out = torch.where(scale > 0, out + scale * noise, out)
        if len(self._groups) == 1 and self._groups[0][0] == "number":
            return _between(self.low, self.high, out.tanh())
        chosen, at = [], 0
        for kind, size in self._groups:
            here = slice(at, at + size)
            part, draw = out[:, here], None if noise is None else noise[:, here]
            if kind == "number":
                chosen.append(_between(self.low[here], self.high[here], part.tanh()))
            elif kind == "switch":
                chosen.append(_switched(part, draw))
            else:
                chosen.append(_indexed(part, draw))
            at += size
        return torch.cat(chosen, 1)

    def _entropy(self, out: Tensor, scale: Tensor | None, noise: Tensor | None) -> Tensor:
        total, at = out.new_zeros(len(out)), 0
        for kind, size in self._groups:
            here = slice(at, at + size)
            part = out[:, here]
            if kind == "index":
                total = total - (part.softmax(1) * part.log_softmax(1)).sum(1)
            elif kind == "switch":
                chance = part.sigmoid()
                total = total + (nn.functional.softplus(part) - part * chance).sum(1)
            elif scale is not None:
                place = part if noise is None else part + scale[:, here] * noise[:, here]
                # ln(1 - tanh(x)^2), by which bounding shrinks the density's support.
                shrunk = 2 * (math.log(2) - place - nn.functional.softplus(-2 * place))
                normal = scale[:, here].log() + 0.5 * math.log(2 * math.pi * math.e)
                total = total + (normal + shrunk).sum(1)
            at += size
        return total

    def _likelihood(self, out: Tensor, controls: Tensor) -> Tensor:
        total, at = out.new_zeros(len(out)), 0
        for kind, size in self._groups:
            here = slice(at, at + size)
            part, chosen = out[:, here], controls[:, here].detach()
            if kind == "index":
                total = total + (part.log_softmax(1) * chosen).sum(1)
            elif kind == "switch":
                total = total - nn.functional.softplus((1 - 2 * chosen) * part).sum(1)
            at += size
        return total

    def predict(
        self,
        observation: Float[np.ndarray, "*batch latent"],
        state: None = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[Any, None]:
        """Act on latent observations; the signature is that of Stable-Baselines3's policies.

        Args:
            observation: Of a latent environment or a filtered real one.
            state: Ignored, as the next: a policy remembers nothing.
            episode_start: Ignored.
            deterministic: Whether to take the likeliest instead of drawing; without a spread of
                their own numbers are never drawn.

        Returns:
            Actions in the environment's space, in Gymnasium's layout if they are a batch; and None.
        """
        drawn = self.draws and not deterministic
        if np.ndim(observation) == 1 and not drawn:
            return self._one(np.asarray(observation)), None
        seen = torch.as_tensor(observation, dtype=self.low.dtype, device=self.low.device)
        rows = seen.reshape(-1, seen.shape[-1])
        with torch.no_grad():
            controls = self(rows, self.noise(len(rows), self.generator) if drawn else None)
        return self.actions.decode(controls.reshape(*seen.shape[:-1], -1).cpu().numpy()), None

    def _one(self, observation: np.ndarray) -> Any:
        """The same for one observation, by numpy: torch takes ten times as long to be called."""
        if self._places != [tensor.data_ptr() for tensor in self._tensors] or not self._places:
            self._look()
        mean, std, low, high, w1, b1, w2, b2, w3, b3 = self._arrays
        hidden = np.tanh(w1 @ ((observation - mean) / std) + b1)
        # Of what is chosen the likeliest has the greatest logit, and a switch is on above zero.
        out = (w3 @ np.tanh(w2 @ hidden + b2) + b3)[: self.actions.size]
        bounded = _between(low, high, np.tanh(out))
        if not self._all_numbers:
            bounded = np.where(self._numbers, bounded, np.where(self._switches, out > 0, out))
        return self.actions.decode(bounded)

    def _look(self) -> None:
        """Views of all tensors' memory, to be made anew where one has moved."""
        self._tensors = [self.mean, self.std, self.low, self.high, *self.network.parameters()]
        self._arrays = [tensor.detach().cpu().numpy() for tensor in self._tensors]
        self._places = [tensor.data_ptr() for tensor in self._tensors]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Policy:
        self._places = []
        moved = super()._apply(fn, recurse)
        if self.generator.device != self.low.device:
            self.generator = torch.Generator(self.low.device).manual_seed(0)
        return moved

    def save(self, path: str | Path) -> None:
        """Write weights and sizes to one safetensors file, whole or not at all."""
        metadata = {
            "hidden": str(self.network[0].out_features),
            "actions": json.dumps(self.actions.to_json()),
        }
        if self.stochastic:
            metadata["stochastic"] = "true"
        tensors_file.write(path, _FORMAT, metadata, self.state_dict())

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """Read what ``save`` wrote.

        Raises:
            FileFormatError: The file is truncated, corrupt, foreign or of another version.
        """
        with tensors_file.opened(path, _FORMAT) as (metadata, weights):
            actions = ActionSpace.from_json(json.loads(metadata["actions"]))
            mean, std, low, high = (weights[n] for n in ("mean", "std", "low", "high"))
            stochastic = metadata.get("stochastic") == "true"
            policy = cls(mean, std, actions, low, high, int(metadata["hidden"]), stochastic)
            policy.load_state_dict(weights)
        return policy.eval()


def _between(low: Any, high: Any, place: Any) -> Any:
    """From low to high as the place goes from -1 to 1; their difference may overflow."""
    return low / 2 * (1 - place) + high / 2 * (1 + place)


def _indexed(logits: Tensor, noise: Tensor | None) -> Tensor:
    """One-hot, with the gradient of the chances."""
    chances = (logits if noise is None else logits + noise).softmax(1)
    chosen = nn.functional.one_hot(chances.argmax(1), logits.shape[1])
    return chosen + (chances - chances.detach())


def _switched(logits: Tensor, noise: Tensor | None) -> Tensor:
    """0 or 1, with the gradient of the chances."""
    chances = (logits if noise is None else logits + noise).sigmoid()
    return (chances > 0.5).to(chances) + (chances - chances.detach())
