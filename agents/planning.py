"""Agents that plan: at every step they search for the best actions to come, in the dream.

One search serves three methods. Action sequences are drawn from a distribution, all of them are
dreamt at once, for all environments, through the one step (compiled, where it can be), and the
distribution is moved to those that paid best:

- "cem": to the elites, and again, a few times. Rubinstein 1999, "The Cross-Entropy Method for
  Combinatorial and Continuous Optimization".
- "icem": likewise, with noise that is correlated in time, fewer candidates every time, elites that
  are kept from iteration to iteration and from step to step, and the best sequence ever seen acted
  on. Pinneri et al. 2020, "Sample-efficient Cross-Entropy Method for Real-time Planning".
- "mppi": once, to the mean of all, weighted by the exponential of what they paid. Williams et al.
  2017, "Information Theoretic MPC for Model-Based Reinforcement Learning". Differs: the temperature
  is in standard deviations of the candidates' returns, so that it does not depend on a reward's
  units, and a candidate's distance from the mean costs nothing.

Choices (Discrete, MultiDiscrete, MultiBinary) are drawn from categorical distributions, which is
what the cross-entropy method began with; moving their probabilities is the same weighted mean.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from agents.goals import near, reach, target_of
from agents.planner_file import Saved
from agents.plans import Plan, colouring, shifted
from agents.rollout import Agent
from agents.scoring import Scored, Scorer, Terms
from worldmodel.errors import (
    ConfigError,
    ShapeError,
    SpecError,
    require_at_least,
    require_finite,
    require_fraction,
    require_positive,
)
from worldmodel.world.dynamics import Dynamics, Goal, SupportRule
from worldmodel.world.world import World

# Fraction of the elites that "icem" keeps, as published.
_KEPT = 0.3
METHODS = ("cem", "icem", "mppi")


@dataclass(frozen=True)
class PlanningConfig:
    """How far and how hard a planner searches.

    Attributes:
        horizon: Steps of a sequence.
        candidates: Sequences drawn in the first iteration.
        iterations: How often; by default once for "mppi", else four times.
        elites: Fraction of the candidates that "cem" and "icem" move to.
        temperature: Of "mppi", in standard deviations of the candidates' returns.
        std: Of numbers that are drawn first, in half ranges; and the fraction in which a choice is
            drawn from all alike instead of from the plan.
        colour: Exponent of the noise: 0 is white, 2 is Brownian; by default 2 for "icem", else 0.
        decay: Of "icem", by which candidates become fewer from iteration to iteration.
        momentum: Fraction of the distribution that stays as it was in an iteration.
        discount: Of rewards, per step.
        ood_penalty: Reward lost per step and radius of distance outside the support.
        ood_radius: Distance, in radii from the nearest centre, beyond which a state pays the
            minimum reward.
        prior_fraction: Of candidates that the prior proposes, if there is one.
        seed: Of everything random.
    """

    horizon: int = 20
    candidates: int = 128
    iterations: int | None = None
    elites: float = 0.1
    temperature: float = 0.2
    std: float = 0.5
    colour: float | None = None
    decay: float = 1.25
    momentum: float = 0.1
    discount: float = 0.99
    ood_penalty: float = 0.3
    ood_radius: float = 3.0
    prior_fraction: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, horizon=self.horizon, iterations=self.iterations_of("mppi"))
        require_at_least(2, candidates=self.candidates)
        require_at_least(0, seed=self.seed)
        above = ("elites", "temperature", "std", "decay", "discount", "ood_radius")
        require_positive(**{name: getattr(self, name) for name in above})
        fractions = ("elites", "momentum", "prior_fraction", "discount")
        require_fraction(**{name: getattr(self, name) for name in fractions})
        finite = ("temperature", "std", "decay", "ood_penalty")
        require_finite(0, **{name: getattr(self, name) for name in finite})
        require_finite(0, colour=self.colour_of("mppi"))

    def iterations_of(self, method: str) -> int:
        """How often a method searches."""
        return self.iterations if self.iterations is not None else 1 if method == "mppi" else 4

    def colour_of(self, method: str) -> float:
        """The exponent of a method's noise."""
        return self.colour if self.colour is not None else 2.0 * (method == "icem")


class Planner:
    """Acts by planning in the dream, for one environment or for many at once.

    Its memory is what ``predict`` returns beside the actions: given back with the next observation,
    the search begins with the plan as it was, a step later. So a planner keeps nothing itself.

    Args:
        world: With a fitted support. Compiled steps do not see what is done to it afterwards.
        method: "cem", "icem" or "mppi".
        goal: What to collect: a ``Goal``, or an observation to come near to; by default the
            recorded reward.
        prior: An agent that proposes some of the candidates, by acting in the dream.
        terms: What else counts, and which actions are admissible.
        settings: Of ``PlanningConfig``.

    Attributes:
        config: The settings.
        compiled: True if steps are compiled, else the reason why not.

    Raises:
        SpecError: The support is not fitted, or nothing is to be collected: there is no goal, the
            data had no rewards, and the terms are none either.
        ConfigError: The method is unknown, or a setting makes no sense.
        ShapeError: The goal is no observation of the environment.
    """

    def __init__(
        self,
        world: World,
        method: str = "icem",
        *,
        goal: Goal | Any = None,
        prior: Agent | None = None,
        terms: Terms = Terms(),  # noqa: B008 (frozen, so that sharing it is safe)
        **settings: Any,
    ) -> None:
        if method not in METHODS:
            raise ConfigError(f"method must be one of {METHODS}, got {method!r}")
        self.config = config = PlanningConfig(**settings)
        wanted = goal if goal is None or isinstance(goal, Goal) else reach(world, goal)
        if goal is None and terms.value is None and terms.penalty is None:
            world.require_reward()
        dynamics = Dynamics(world, SupportRule(config.ood_penalty, config.ood_radius), wanted)
        self._scored = Scorer(dynamics, terms, config.discount)
        self.compiled, self._controls = self._scored.compiled, self._scored.controls
        self._method, self._prior = method, prior
        self._plain = prior is None and terms == Terms()
        self._goal = wanted
        self._actions, self._latent = world.model.action_spec, world.model.latent_size
        self._colouring = colouring(config.horizon, config.colour_of(method))
        self._elites = max(2, round(config.elites * config.candidates))
        self._kept = max(1, round(_KEPT * self._elites)) if method == "icem" else 0

    def predict(
        self,
        observation: Float[np.ndarray, "*batch latent"],
        state: Plan | None = None,
        episode_start: Bool[np.ndarray, " batch"] | None = None,
        deterministic: bool = True,
    ) -> tuple[Any, Plan]:
        """Act on latent observations; the signature is that of Stable-Baselines3's policies.

        Args:
            observation: Of a latent environment or a filtered real one.
            state: What the last call returned; None at first.
            episode_start: True where an episode began with this observation, and the plan is void.
            deterministic: Whether to act on what the search came to, instead of on a candidate that
                is drawn by its weight.

        Returns:
            Actions in the environment's space, in Gymnasium's layout if they are a batch; and the
            plan.
        """
        seen = np.asarray(observation, np.float32)
        if seen.shape[-1:] != (self._latent,) or seen.ndim > 2:
            raise ShapeError(f"observations must be (n, {self._latent}), got {seen.shape}")
        start = np.atleast_2d(seen)
        plan = self._begin(state, len(start), episode_start)
        rng = np.random.default_rng((self.config.seed, plan.calls))
        mean, last = self._search(start, plan, rng)
        if not deterministic:
            acted = _drawn(last.plans, self._weights(last.returns), rng)
        elif self._method == "icem":
            acted = last.best(1).plans[:, 0]
        else:
            acted = mean
        controls = self._scored.admissible(acted[:, np.newaxis])[:, 0, 0]
        kept = last.best(self._kept).plans
        following = Plan(
            shifted(mean, self._controls.neutral),
            shifted(kept, self._controls.likeliest(mean[:, -1:])[:, np.newaxis]),
            plan.calls + 1,
        )
        return self._actions.decode(controls.reshape(*seen.shape[:-1], -1)), following

    def save(self, path: str | Path) -> None:
        """Write settings and goal to one safetensors file, whole or not at all.

        Raises:
            SpecError: It plans with what no file can hold: a prior, terms, or a goal that is no
                observation.
        """
        target = None if self._goal is None else target_of(self._goal)
        if not self._plain or (self._goal is not None and target is None):
            raise SpecError(
                "a planner with a prior, with terms, or with a goal that is no observation cannot "
                "be saved; build it anew"
            )
        sizes = self._latent, self._actions.size
        Saved(self._method, asdict(self.config), sizes, target).write(path)

    @classmethod
    def load(cls, path: str | Path, world: World) -> Planner:
        """Read what ``save`` wrote; it plans in a world's dream.

        Raises:
            FileFormatError: The file is truncated, corrupt, foreign or of another version.
            SpecError: It was saved for states or actions of other sizes.
        """
        saved, ours = Saved.read(path), (world.model.latent_size, world.model.action_spec.size)
        if saved.sizes != ours:
            raise SpecError(
                f"{path} plans with {saved.sizes[1]} numbers on {saved.sizes[0]} latent "
                f"dimensions; the model has {ours[1]} and {ours[0]}"
            )
        goal = None if saved.target is None else near(world, saved.target)
        return cls(world, saved.method, goal=goal, **saved.settings)

    def _begin(self, state: Plan | None, n: int, begun: np.ndarray | None) -> Plan:
        shape = (n, self.config.horizon, self._controls.size)
        fresh = np.broadcast_to(self._controls.neutral, shape)
        if state is None:
            return Plan(fresh.copy(), np.zeros((n, 0, *shape[1:]), np.float32), 0)
        if state.mean.shape != shape:
            raise ShapeError(f"the plan must be {shape} for {n} states, got {state.mean.shape}")
        if begun is None or not begun.any():
            return state
        mean, kept = state.mean.copy(), state.kept.copy()
        mean[begun] = self._controls.neutral
        kept[begun] = self._controls.likeliest(mean[begun])[:, np.newaxis]
        return Plan(mean, kept, state.calls)

    def _search(
        self, start: np.ndarray, plan: Plan, rng: np.random.Generator
    ) -> tuple[np.ndarray, Scored]:
        """The distribution that the search came to, and the last candidates."""
        iterations = self.config.iterations_of(self._method)
        mean = self._controls.widened(plan.mean, self.config.std)
        std = np.broadcast_to(self.config.std * self._controls.numbers, mean.shape)
        pool = self._scored(start, np.concatenate([self._proposed(start, rng), plan.kept], 1))
        candidates = pool
        for i in range(iterations):
            noise = self._noise(len(start), self._count(i), rng)
            drawn = self._controls.draw(mean[:, np.newaxis], std[:, np.newaxis], noise)
            if i == iterations - 1:
                drawn[:, 0] = self._controls.likeliest(mean)
            candidates = self._scored(start, drawn).beside(pool)
            mean, std = self._moved(mean, std, candidates)
            if self._method == "icem":
                pool = candidates.best(self._kept)
        return mean, candidates

    def _count(self, iteration: int) -> int:
        if self._method != "icem":
            return self.config.candidates
        return max(2 * self._elites, int(self.config.candidates * self.config.decay**-iteration))

    def _proposed(self, start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        count = round(self.config.prior_fraction * self.config.candidates) * bool(self._prior)
        noise = self._noise(len(start), count, rng)
        if self._prior is None or not count:
            return noise
        return self._scored.proposed(self._prior, start, noise, self.config.std)

    def _noise(self, n: int, count: int, rng: np.random.Generator) -> np.ndarray:
        shape = (n, count, self._controls.size, self.config.horizon)
        white = rng.standard_normal(shape, dtype=np.float32)
        return np.moveaxis(white @ self._colouring, -1, -2)

    def _weights(self, returns: np.ndarray) -> np.ndarray:
        """(n, k), which sum to one; to zero where no candidate's return is a number."""
        finite = np.isfinite(returns)
        if self._method == "mppi":
            kept = np.where(finite, returns, np.nan)
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                best, spread = np.nanmax(kept, 1), np.nanstd(kept, 1)
                scale = np.maximum(self.config.temperature * spread, 1e-12)[:, np.newaxis]
                weights = np.where(finite, np.exp((kept - best[:, np.newaxis]) / scale), 0)
        else:
            least = np.partition(returns, -self._elites, 1)[:, -self._elites, np.newaxis]
            weights = ((returns >= least) & finite).astype(np.float64)
        return weights / np.maximum(weights.sum(1, keepdims=True), 1e-12)

    def _moved(
        self, mean: np.ndarray, std: np.ndarray, candidates: Scored
    ) -> tuple[np.ndarray, np.ndarray]:
        """The distribution moved to what paid best; as it was where nothing did."""
        weights = self._weights(candidates.returns)[..., np.newaxis, np.newaxis].astype(np.float32)
        some = weights.any(1)
        stays = np.where(some, np.float32(self.config.momentum), np.float32(1))
        centre = (weights * candidates.plans).sum(1)
        spread = np.sqrt((weights * (candidates.plans - centre[:, np.newaxis]) ** 2).sum(1))
        return stays * mean + (1 - stays) * centre, stays * std + (1 - stays) * spread


def _drawn(plans: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of each environment's sequences by its weight."""
    passed = weights.cumsum(1) >= rng.uniform(0, weights.sum(1))[:, np.newaxis]
    return plans[np.arange(len(plans)), passed.argmax(1)]
