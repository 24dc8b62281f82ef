"""What an agent is worth, in words: was the dream right, does it beat chance, and if not, why not.

Every word stands for a number, and every number is said.

An agent goes where its dream is too good to be true, so that what the dream says of it is no fair
sample of what may happen. Other models of the same data have not been asked for that: where the
data say what happens they dream the same, elsewhere they do not, and reality is one more of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from agents.evaluation import Comparison
from agents.rollout import Rollout
from worldmodel.world.world import World

# What share of the dreamt episodes an interval holds.
_COVERED = 0.9
# Of a permutation test: how often returns are exchanged, and what is no chance any more.
_EXCHANGES, _CHANCE = 10_000, 0.01
# Standard errors within which a mean is not known.
_UNSURE = 2.0
# From where on something is named as a reason: share of steps outside of the data, chance that is
# given to real ends, and errors of reward and filter in units of what varies.
_OUTSIDE, _FORESEEN, _WRONG, _LOST = 0.1, 0.5, 0.5, 0.5


def judge(world: World, seen: Comparison, reference: float | None = None) -> dict[str, Any]:
    """Judge an agent by what it did in the dream and in reality.

    Args:
        world: Whose dream it was.
        seen: What the agent did, and random actions (``compare(random=True)``).
        reference: Return from which on the task counts as solved; None if nobody says.

    Returns:
        Ready for JSON. ``returns`` and ``lengths``: means by who acted and where ("dream", "real",
        "random", "random_dream"). ``interval`` and ``length_interval``: what nine of ten episodes
        lie in that were dreamt, by as many as ``models`` that fit the data, whose mean returns are
        ``by_model``, that of the dream first. ``right``, ``length_right``: whether the real mean
        does, but for what chance may add to it. ``alone_interval``, ``alone_length_interval`` and
        ``alone_right``: the same of the dream alone, right about both. ``p_random``: how probable
        such an advantage over random actions would be by chance (a permutation test of the mean
        returns, one-sided); ``beats_random``.
        ``reference`` and ``reached``, or None. ``outside_dream`` and ``outside_real``: fractions of
        steps outside of the data. ``leaves_after``: mean steps of a dream until it first does.
        ``ends_foreseen``: mean chance that the model gave to real ends, None if there were none.
        ``reward_error``: root mean square over the rewards' deviation, on real episodes, None where
        no rewards were recorded. ``filter_error``: squared error of what the filter shows in the
        second half of real episodes over the variance of the data. ``said``: the verdict.
    """
    acted = {"dream": seen.foretold[0], "real": seen.real, **seen.random}
    numbers: dict[str, Any] = {
        "episodes": len(seen.real.returns),
        "returns": {name: float(run.returns.mean()) for name, run in acted.items()},
        "lengths": {name: float(run.lengths.mean()) for name, run in acted.items()},
        "deviations": {name: float(run.returns.std()) for name, run in acted.items()},
        "reference": reference,
        **_foretold_by_models(seen),
    }
    chance = advantage(seen.real.returns, seen.random["random"].returns)
    numbers |= {"p_random": chance, "beats_random": chance < _CHANCE}
    mean = numbers["returns"]["real"]
    numbers["reached"] = None if reference is None else mean >= reference
    numbers |= _causes(world, seen)
    return {**numbers, "said": sentences(numbers, world)}


def advantage(
    ours: Float[np.ndarray, " n"], theirs: Float[np.ndarray, " m"], seed: int = 0
) -> float:
    """Probability that the mean of ours would exceed theirs so far if both were alike.

    Args:
        ours: Returns.
        theirs: Likewise.
        seed: Of the exchanges.
    """
    rng, every = np.random.default_rng(seed), np.concatenate([ours, theirs]).astype(float)
    found, size = ours.mean() - theirs.mean(), len(ours)
    rest, total = len(theirs), every.sum()
    as_great = 0
    for _ in range(_EXCHANGES // 100):
        sums = rng.permuted(np.broadcast_to(every, (100, len(every))), axis=1)[:, :size].sum(1)
        # Rounding must not tell apart what is equal.
        gain = sums / size - (total - sums) / rest
        as_great += int((gain >= found - 1e-9 * (1 + abs(found))).sum())
    return (1 + as_great) / (1 + _EXCHANGES)


def sentences(numbers: dict[str, Any], world: World) -> list[str]:
    """The verdict on what ``judge`` has counted."""
    (low, high), returns = numbers["interval"], numbers["returns"]
    right = "right" if numbers["right"] else "WRONG"
    near = low <= returns["real"] <= high or not numbers["right"]
    by_chance = "" if near else ", no further off than chance takes so few episodes"
    dreamt = "nine of ten dreamt returns lie"
    if numbers["models"] > 1:
        dreamt = f"nine of ten returns dreamt by {numbers['models']} models of the data lie"
    told = [
        f"The dream was {right}: {dreamt} between {low:.4g} and {high:.4g}, "
        f"the mean real one is {returns['real']:.4g}{by_chance}."
    ]
    if not numbers["length_right"]:
        first, last = numbers["length_interval"]
        told.append(
            f"It was WRONG about how long episodes last: between {first:.0f} and {last:.0f} steps "
            f"in the dream, {numbers['lengths']['real']:.0f} in reality."
        )
    if numbers["right"] and numbers["length_right"] and not numbers["alone_right"]:
        told.append(_undecided(numbers))
    beats = "beats" if numbers["beats_random"] else "DOES NOT BEAT"
    told.append(
        f"The agent {beats} random actions: {returns['real']:.4g} against {returns['random']:.4g}; "
        f"by chance with probability {numbers['p_random']:.2g}."
    )
    if numbers["reference"] is not None:
        reached = "reaches" if numbers["reached"] else "does not reach"
        told.append(f"It {reached} {numbers['reference']:g}, from which on the task is solved.")
    if numbers["alone_right"] and numbers["right"] and numbers["beats_random"]:
        return told
    return told + [f"Likely: {reason}" for reason in reasons(numbers, world)]


def reasons(numbers: dict[str, Any], world: World) -> list[str]:
    """Why the dream may have been wrong or the agent no good, likeliest first."""
    found, (low, high) = [], world.model.reward_range
    if low == high and not world.model.can_terminate:
        found.append(f"every recorded reward is {low:g}, so that there was nothing to aim at.")
    ends = numbers["ends_foreseen"]
    if ends is not None and not world.model.can_terminate:
        found.append("no recorded episode ended, so that no dream does; real ones do.")
    elif ends is not None and ends < _FORESEEN:
        found.append(f"ends are not foreseen: the model gave the real ones a chance of {ends:.0%}.")
    dreamt, real = numbers["outside_dream"], numbers["outside_real"]
    if max(dreamt, real) > _OUTSIDE:
        found.append(
            f"the agent lives where the dream has no data: {dreamt:.0%} of its dreamt steps and "
            f"{real:.0%} of its real ones lie outside, in the dream from step "
            f"{numbers['leaves_after']:.0f} on; record what it does (collect --policy, or learn) "
            "and train again."
        )
    wrong = numbers["reward_error"]
    if wrong is not None and wrong > _WRONG:
        found.append(
            f"the model of the reward is wrong: on real episodes it errs by {wrong:.0%} of the "
            "rewards' deviation."
        )
    if numbers["filter_error"] > _LOST:
        found.append(
            f"the filter is lost: what it believes in shows frames that err by "
            f"{numbers['filter_error']:.0%} of the variance."
        )
    return found or [
        "none of what is measured here (ends, data, reward, filter) explains it; predictions drift "
        "over many steps: look at the errors by horizon ('worldmodel evaluate')."
    ]


def _undecided(numbers: dict[str, Any]) -> str:
    """That only other models foresaw what happened."""
    (low, high), (first, last) = numbers["alone_interval"], numbers["alone_length_interval"]
    models = ", ".join(f"{mean:.4g}" for mean in numbers["by_model"])
    return (
        f"By its own model alone it was WRONG: returns between {low:.4g} and {high:.4g}, "
        f"{numbers['returns']['real']:.4g} in reality; {first:.0f} to {last:.0f} steps, "
        f"{numbers['lengths']['real']:.0f} in reality. Where the agent goes, the data do not "
        f"decide what happens: the models' mean returns are {models}."
    )


def _foretold_by_models(seen: Comparison) -> dict[str, Any]:
    """Intervals of all models and of the dream alone, and whether they hold what happened."""
    kinds: dict[str, tuple[np.ndarray, list[np.ndarray]]] = {
        "": (seen.real.returns, [each.returns for each in seen.foretold]),
        "length_": (
            seen.real.lengths.astype(float),
            [each.lengths.astype(float) for each in seen.foretold],
        ),
    }
    found: dict[str, Any] = {"models": len(seen.foretold), "alone_right": True}
    found["by_model"] = [float(each.returns.mean()) for each in seen.foretold]
    for kind, (real, dreamt) in kinds.items():
        found[f"{kind}interval"] = _interval(np.concatenate(dreamt))
        found[f"alone_{kind}interval"] = alone = _interval(dreamt[0])
        found[f"{kind}right"] = _within(real, found[f"{kind}interval"])
        found["alone_right"] &= _within(real, alone)
    return found


def _interval(values: Float[np.ndarray, " n"]) -> list[float]:
    tail = (1 - _COVERED) / 2
    return np.quantile(values, [tail, 1 - tail]).tolist()


def _within(values: Float[np.ndarray, " n"], interval: list[float]) -> bool:
    unsure = _UNSURE * values.std() / np.sqrt(len(values))
    low, high = interval
    return bool(low - unsure <= values.mean() <= high + unsure)


@torch.no_grad()
def _causes(world: World, seen: Comparison) -> dict[str, float | None]:
    """What may have gone wrong, counted on both kinds of episodes."""
    outside = _outside(world, seen.dream)
    left = np.where(outside.any(1), outside.argmax(1), seen.dream.lengths)
    return {
        "outside_dream": float(outside[seen.dream.mask].mean()),
        "outside_real": float(_outside(world, seen.real)[seen.real.mask].mean()),
        "leaves_after": float(left.mean()),
        **_foretold(world, seen.real),
        "filter_error": _filter_error(world, seen),
    }


def _outside(world: World, acted: Rollout) -> np.ndarray:
    """Steps (n, T) on which the state that was arrived at is outside of the data."""
    if acted.outside is not None:
        return acted.outside & acted.mask
    states = _tensor(world, acted.observations[:, 1:])
    distance = torch.stack([world.distance(at) for at in states.unbind(1)], 1)
    return (distance > 1).cpu().numpy() & acted.mask


def _foretold(world: World, real: Rollout) -> dict[str, float | None]:
    """Ends and rewards of real episodes, as the model foretells them from what was believed."""
    model, mask = world.model, real.mask
    states = _tensor(world, real.observations)
    controls = _tensor(world, model.action_spec.encode(real.actions, mask.shape))
    before, after, acts = states[:, :-1][mask], states[:, 1:][mask], controls[mask]
    rows = np.arange(len(mask))[real.terminated]
    ended = np.zeros_like(mask)
    ended[rows, real.lengths[rows] - 1] = True
    over = ended[mask]
    chance = torch.zeros(len(over))
    if model.can_terminate:
        chance = world.termination(world.transition(before, acts)).sigmoid().cpu()
    return {
        "ends_foreseen": float(chance[over].mean()) if over.any() else None,
        "reward_error": _reward_error(world, before, acts, after, over, real.rewards[mask]),
    }


def _reward_error(
    world: World,
    before: torch.Tensor,
    acts: torch.Tensor,
    after: torch.Tensor,
    over: np.ndarray,
    paid: np.ndarray,
) -> float | None:
    model = world.model
    if not model.knows_reward:
        return None
    told = model.reward(before, acts, after).cpu().numpy() + world.ends.reward * over
    low, high = model.reward_range
    # Where all steps of an agent that is good pay alike, their own deviation is no unit.
    unit = max(paid.std(), 0.1 * (high - low)) or max(abs(high), 1e-6)
    return float(np.sqrt(np.square(told - paid).mean()) / unit)


def _filter_error(world: World, seen: Comparison) -> float:
    """Of the second half of what was watched."""
    model, count = world.model, len(seen.shown)
    states = _tensor(world, seen.real.observations[:count])
    time, length = np.arange(states.shape[1]), seen.real.lengths[:count, None]
    # What stands at the end may be where the next episode begins.
    late = (2 * time >= length - 1) & (time < length)
    frames = model.scale_observations(seen.shown)
    missed = (model.emit(states).mean - frames).square().mean(-1)[torch.from_numpy(late)]
    variance = model.emit(world.support.states).mean.var(0).mean()
    return (missed.mean() / variance.clamp_min(1e-12)).item()


def _tensor(world: World, values: Any) -> torch.Tensor:
    return torch.as_tensor(values, dtype=world.model.dtype, device=world.model.device)
