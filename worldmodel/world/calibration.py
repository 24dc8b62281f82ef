"""How far dreams were off on rollouts held out from training, and the bounds that follow from it.

Half of the episodes teach quantiles of the error, the others correct them: of whole rollouts, since
errors at the steps of one are no independent samples. Dreams with process noise and without are
corrected each on their own, and both begin where a filter's belief is.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from worldmodel.data.episodes import Episodes
from worldmodel.errors import SpecError
from worldmodel.progress import track
from worldmodel.types import Batch
from worldmodel.world.dynamics import Dynamics
from worldmodel.world.trust import Trust, TrustConfig, looked_at
from worldmodel.world.world import World

# Rollouts that are looked at, with noise and without each, about: more are thinned out.
_MOST = 4000
# Rollouts whose errors correct a step's quantile, at least.
_FEWEST = 20
# Of errors, as fractions of the variance and of the rewards' standard deviation: less is none.
_FLOOR = 1e-6
# Of one-step predictions, how many are as far off as a filter's may be; and a factor: beginning
# anew costs a filter its velocities, so it had better be lost.
_USUAL, _MARGIN = 0.99, 10.0


class Rollouts(NamedTuple):
    """Dreams along recorded episodes.

    Attributes:
        inputs: (n, T, size), what ``Trust`` looks at.
        errors: (n, T, outputs), as ``Trust`` bounds them; NaN where nothing was recorded.
        distance: (n, T), from the data in radii.
        starts: (n, outputs), errors of the filtered frame that dreams began at.
        noisy: Whether they have process noise.
        episodes: (n,), which episode each is along.
        begun: (n,), at which of its frames.
    """

    inputs: Tensor
    errors: Tensor
    distance: Tensor
    starts: Tensor
    noisy: bool
    episodes: Tensor
    begun: Tensor

    def first(self) -> Rollouts:
        """Those that begin where the filter has looked for the least time, one of an episode."""
        chosen = self.begun == self.begun.min()
        parts = {n: part[chosen] for n, part in self._asdict().items() if isinstance(part, Tensor)}
        return self._replace(**parts)

    def bounds(self, trust: Trust) -> Float[Tensor, "n steps outputs"]:
        """What bounds the errors; infinite beyond the horizon."""
        steps = self.errors.shape[1]
        quantiles = _quantiles(trust, self.inputs)
        times = torch.arange(1, steps + 1, device=quantiles.device).to(quantiles)
        bounds = (quantiles + trust.corrections(times)[int(self.noisy)]).exp() + trust.unknown
        return bounds.masked_fill((times > trust.horizon).view(1, -1, 1), torch.inf)


def first_looks(lengths: Int[Tensor, " n"], config: TrustConfig) -> int:
    """Frames that are filtered before dreams begin, in episodes of such lengths."""
    return min(config.looks, max(1, int(lengths.median()) // 2))


@torch.no_grad()
def rollouts(
    world: World,
    batch: Batch,
    config: TrustConfig = TrustConfig(),
    noisy: bool = False,
    variance: Float[Tensor, " streams"] | None = None,
    looks: int | None = None,
) -> Rollouts:
    """Dream along recorded actions, from filtered beliefs, again and again along an episode.

    Args:
        world: That dreams.
        batch: Recorded episodes.
        config: How long, how many frames are filtered first, and the seed of the noise.
        noisy: Whether dreams have process noise.
        variance: Of every stream, which errors are fractions of; by default that of ``batch``.
        looks: Frames that are filtered first, in place of what ``first_looks`` says of ``batch``.

    Raises:
        SpecError: No episode has a step after the filtered frames.
    """
    model = world.model
    variance = stream_variance(world, batch) if variance is None else variance
    lengths = batch.mask.sum(1)
    looks = first_looks(lengths, config) if looks is None else looks
    # What is filtered has no padding.
    lasting = (lengths >= looks).nonzero().squeeze(1)
    if not len(lasting):
        raise SpecError(f"dreams need episodes of a step or more, got {lengths.tolist()[:10]}")
    batch = batch[lasting]
    steps = min(config.steps, batch.steps + 1 - looks)
    beliefs = model.filter_beliefs(batch.observations, batch.actions, looks, batch.seen)
    generator = torch.Generator(model.device).manual_seed(config.seed)
    places = range(looks - 1, batch.steps, _apart(lengths[lasting] + 1 - looks, steps))
    every = math.ceil(int(batch.mask[:, list(places)].sum()) / _MOST)
    parts = []
    for first in places:
        rows = batch.mask[:, first].nonzero().squeeze(1)[::every]
        if len(rows):
            window = batch[rows].window(first, min(steps, batch.steps - first))
            noise = generator if noisy else None
            dreamt = _dreamt(world, beliefs.mean[rows, first], window, variance, noise)
            told = lasting[rows], torch.full_like(rows, first)
            parts.append((*_lengthened(steps, *dreamt), *told))
    inputs, errors, distance, starts, *told = (torch.cat(p) for p in zip(*parts, strict=True))
    return Rollouts(inputs, errors, distance, starts, noisy, *told)


def _apart(left: Int[Tensor, " n"], steps: int) -> int:
    """Frames between the beginnings of dreams, by the steps that episodes have left.

    Episodes that end before their dreams would are dreamt of from several places: what comes just
    before an end, such as a fall, is foretold worse than what begins as all episodes do.
    """
    return min(steps, max(1, int(left.median()) // 2)) if left.median() < steps else steps


def _lengthened(
    steps: int, inputs: Tensor, errors: Tensor, distance: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of as many steps: what was seen last, and no errors."""
    beyond = steps - errors.shape[1]
    unknown = errors.new_full((len(errors), beyond, errors.shape[2]), torch.nan)
    inputs = torch.cat([inputs, inputs[:, -1:].expand(-1, beyond, -1)], 1)
    distance = torch.cat([distance, distance[:, -1:].expand(-1, beyond)], 1)
    return inputs, torch.cat([errors, unknown], 1), distance, starts


def _dreamt(
    world: World, state: Tensor, batch: Batch, variance: Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs, errors, distances and errors at the start of one dream along every window."""
    model, dynamics = world.model, Dynamics(world)
    silent = state.new_zeros(len(state), model.noise_size)
    start = _errors(world, state, batch, 0, variance, None)
    inputs, errors, distances = [], [], []
    members = world.members
    offsets = state.new_zeros(len(state), 0 if members is None else members.offsets_size)
    for t in range(batch.steps):
        noise, action = None, batch.actions[:, t]
        if generator is not None:
            noise = torch.randn(
                silent.shape, generator=generator, device=silent.device, dtype=silent.dtype
            )
        step = dynamics.step(state, action, noise)
        drawn = silent if noise is None else noise
        seen = looked_at(state, action, drawn, step.next_state, step.distance)
        if members is not None:
            offsets = members.follow(offsets, state, action)
            seen = torch.cat([seen, members.apart(offsets)], 1)
        inputs.append(seen)
        errors.append(_errors(world, step.next_state, batch, t + 1, variance, step.reward))
        distances.append(step.distance)
        state = step.next_state
    return torch.stack(inputs, 1), torch.stack(errors, 1), torch.stack(distances, 1), start


def _errors(
    world: World, state: Tensor, batch: Batch, t: int, variance: Tensor, reward: Tensor | None
) -> Float[Tensor, "n outputs"]:
    """Of the frame that is shown in states, and of a reward; NaN where nothing was recorded."""
    frame = batch.observations[:, t]
    shares = stream_errors(world, world.model.emit(state).mean, frame) / variance
    if reward is None:
        missed = torch.zeros_like(shares[:, 0])
    elif batch.rewards is None or not world.model.knows_reward:
        missed = torch.full_like(reward, torch.nan)
    else:
        missed = (reward - batch.rewards[:, t - 1]).abs()
        missed = missed.masked_fill(~batch.mask[:, t - 1], torch.nan)
    shares = shares.masked_fill(~batch.frame_mask[:, t : t + 1], torch.nan)
    each = shares if shares.shape[1] > 1 else shares[:, :0]
    return torch.cat([shares.amax(1, keepdim=True), missed.unsqueeze(1), each], 1)


def stream_errors(
    world: World, shown: Float[Tensor, "n size"], recorded: object
) -> Float[Tensor, "n streams"]:
    """Squared error of flat, scaled observations, and what scaling misses, by stream."""
    codec = world.model.codec
    squared = (shown - world.model.scale_observations(recorded)).square()  # pyright: ignore
    parts = squared.split(codec.sizes, -1)
    missed = codec.missed_by_stream(recorded)  # pyright: ignore
    return torch.stack([part.sum(-1) for part in parts], -1) + missed


@torch.no_grad()
def stream_variance(world: World, batch: Batch) -> Float[Tensor, " streams"]:
    """Total variance of every stream's recorded frames, scaled; infinite of one that is still."""
    frames = batch.observations[batch.frame_mask]
    scaled = world.model.scale_observations(frames)
    errors = stream_errors(world, scaled.mean(0).expand_as(scaled), frames).mean(0)
    return torch.where(errors > 0, errors, torch.inf)


def calibrate(
    world: World,
    held_out: Episodes | Batch,
    config: TrustConfig = TrustConfig(),
    progress: bool = False,
) -> World:
    """Let a world know how far its dreams can be believed; ``world.trust`` is replaced.

    Args:
        world: Of any model.
        held_out: Episodes that it was not trained on; what is dreamt later should be like them, so
            the more ways to act they hold, the better. Of many a sample is looked at.
        config: How bounds are fitted.
        progress: Whether to show a progress bar.

    Returns:
        The same world.

    Raises:
        SpecError: There are too few episodes for bounds of that coverage, or none has a step.
    """
    device = world.model.device
    batch = (held_out if isinstance(held_out, Batch) else held_out.sample()).to(device)
    batch = batch[batch.mask.sum(1) > 0]
    if not enough(batch, config):
        raise SpecError(
            f"bounds that hold in {config.coverage:.0%} of dreams need {needed(config)} held-out "
            f"episodes or more, got {len(batch)}"
        )
    world.model.eval()
    variance = stream_variance(world, batch)
    dreams = [rollouts(world, batch, config, noisy, variance) for noisy in (False, True)]
    generator = torch.Generator(device).manual_seed(config.seed)
    teaching = torch.rand(len(batch), generator=generator, device=device).argsort().argsort()
    taught = [part.episodes for part in dreams]
    halves = [teaching[episodes] < len(batch) // 2 for episodes in taught]
    least = max(_FEWEST, config.fewest)
    horizon = _horizon(dreams[0].errors[~halves[0]], taught[0][~halves[0]], least)
    trust = new_trust(world, horizon, config)
    trust.variance.copy_(variance)
    _teach(trust, dreams, halves, progress)
    for i, (part, half) in enumerate(zip(dreams, halves, strict=True)):
        _correct(trust, part.inputs[~half], part.errors[~half], part.episodes[~half], i)
    if not batch_rewards(world, batch):
        trust.unknown[1] = torch.inf
    start = conformal(dreams[0].starts, config.coverage, dreams[0].episodes)
    trust.start.copy_(start + trust.unknown)
    # Of the first rollout of every episode: later a filter may be lost already.
    first = dreams[0].first().errors[:, 0, 0]
    trust.surprise.copy_(_MARGIN * first[~first.isnan()].quantile(_USUAL))
    world.trust = trust.eval()
    return world


def enough(batch: Batch, config: TrustConfig) -> bool:
    """Whether there are enough episodes with a step to tell bounds by."""
    return int((batch.mask.sum(1) > 0).sum()) >= needed(config)


def needed(config: TrustConfig) -> int:
    """How many such episodes."""
    return 2 * max(_FEWEST, config.fewest)


def batch_rewards(world: World, batch: Batch) -> bool:
    """Whether rewards can be judged."""
    return batch.rewards is not None and world.model.knows_reward


def new_trust(world: World, horizon: int, config: TrustConfig) -> Trust:
    """One that is not fitted, for a world's model."""
    model = world.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        sizes = model.latent_size, model.action_spec.size, model.noise_size
        trust = Trust(*sizes, model.observation_spec.names, horizon, config, world.members)
    return trust.to(model.device, model.dtype)


def _horizon(
    errors: Float[Tensor, "n steps outputs"], episodes: Int[Tensor, " n"], least: int
) -> int:
    """Steps at which dreams along enough episodes are left."""
    known = (~errors[..., 0].isnan()).to(errors.dtype)
    dreams = known.new_zeros(int(episodes.max()) + 1, known.shape[1]).index_add_(0, episodes, known)
    enough = (dreams > 0).sum(0) >= least
    return max(1, int(enough.long().cumprod(0).sum()))


def _quantiles(trust: Trust, inputs: Float[Tensor, "n steps size"]) -> Tensor:
    """Logarithms of errors that the trust reads off its memory, (n, steps, outputs)."""
    kept, memories = trust.first.expand(len(inputs), -1), []
    # The layer that looks sees all steps at once.
    fraction, added = trust.look((inputs - trust.mean) / trust.std).chunk(2, -1)
    for forget, add in zip(fraction.sigmoid().unbind(1), added.unbind(1), strict=True):
        kept = forget * kept + add
        memories.append(kept)
    return trust.read(torch.stack(memories, 1))


def _teach(trust: Trust, dreams: list[Rollouts], halves: list[Tensor], progress: bool) -> None:
    """Fit quantiles of the logarithm of errors, by the pinball loss."""
    c, size = trust.config, trust.horizon
    inputs = torch.cat([d.inputs[h][:, :size] for d, h in zip(dreams, halves, strict=True)])
    errors = torch.cat([d.errors[h][:, :size] for d, h in zip(dreams, halves, strict=True)])
    usable = inputs.isfinite().all(-1).all(1)
    inputs, errors = inputs[usable], errors[usable]
    trust.mean.copy_(inputs.mean((0, 1)))
    trust.std.copy_(inputs.std((0, 1)).clamp_min(1e-6))
    logs, known = errors.clamp_min(_FLOOR).log(), ~errors.isnan()
    logs = logs.masked_fill(~known, 0)
    with torch.no_grad():
        trust.look[-1].get_parameter("bias")[: c.memory] += 2  # at first most is kept
        for i in range(trust.outputs):
            if known[..., i].any():
                usual = logs[..., i][known[..., i]].quantile(c.coverage)
                trust.read[-1].get_parameter("bias")[i] = usual
    generator = torch.Generator(inputs.device).manual_seed(c.seed)
    trust.requires_grad_(True)
    optimizer = torch.optim.Adam(trust.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, c.updates))
    for _ in track(range(c.updates), "trust", disable=not progress):
        chosen = torch.randint(len(inputs), (128,), generator=generator, device=inputs.device)
        with torch.enable_grad():
            short = logs[chosen] - _quantiles(trust, inputs[chosen])
            loss = torch.maximum(c.coverage * short, (c.coverage - 1) * short)
            loss = (loss * known[chosen]).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trust.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    trust.requires_grad_(False)


@torch.no_grad()
def _correct(
    trust: Trust, inputs: Tensor, errors: Tensor, episodes: Int[Tensor, " n"], noisy: int
) -> None:
    """Add to quantiles what they lack of their coverage, at some steps."""
    knots = trust.knots
    lacking = errors.clamp_min(_FLOOR).log() - _quantiles(trust, inputs).nan_to_num(torch.inf)
    edges = [(a + b + 1) // 2 for a, b in pairwise(knots)]
    parts = zip([1, *edges], [*edges, trust.horizon + 1], strict=True)
    values = torch.stack(
        [
            conformal(
                lacking[:, a - 1 : b - 1].flatten(0, 1),
                trust.config.coverage,
                episodes.repeat_interleave(b - a),
            )
            for a, b in parts
        ]
    )
    trust.offset[noisy] = values[0]
    gaps = torch.tensor(knots, dtype=values.dtype, device=values.device).diff().unsqueeze(1)
    slopes = values.diff(dim=0) / gaps
    level = slopes.new_zeros(1, slopes.shape[1])
    trust.slopes[noisy] = torch.cat([slopes, level]) - torch.cat([level, slopes])


def conformal(
    scores: Float[Tensor, "n outputs"], coverage: float, episodes: Int[Tensor, " n"]
) -> Float[Tensor, " outputs"]:
    """What a score of a further episode lies below with a probability; 0 where there are none.

    Scores of one episode are no independent samples: it is episodes that the further one is
    counted with, or quantiles of few would cover too little.

    Source: Vovk, Gammerman and Shafer 2005; of groups, Lee, Barber and Willett 2023,
    "Distribution-free inference with hierarchical data". Differs: a long episode counts as often
    as it has scores.
    """
    found = []
    for column in scores.unbind(1):
        known = ~column.isnan()
        ordered, count = column[known].sort().values, len(episodes[known].unique())
        share = coverage * (count + 1) / max(count, 1)
        rank = min(max(math.ceil(len(ordered) * share - 1e-9), 1), len(ordered))
        found.append(ordered[rank - 1] if count else scores.new_zeros(()))
    return torch.stack(found)
