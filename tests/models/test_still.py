"""What stands still in pictures, and is another thing in every episode."""

import numpy as np
import pytest
import torch
from small import BOX, as_dataset, generator, pixels, random_batch, tiny_model
from small import with_fields as replaced

from worldmodel.data import findings
from worldmodel.models.codec import Codec, CodecConfig, components
from worldmodel.world.filter import Filter
from worldmodel.world.world import World

SPACE = pixels(12, 10, 1)
EPISODES, FRAMES = 40, 25


def spots(place: torch.Tensor) -> torch.Tensor:
    """Soft spots at places (*batch, 2), (*batch, 12, 10), up to one."""
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(10.0), indexing="ij")
    down, right = place[..., 0, None, None], place[..., 1, None, None]
    return torch.exp(-((y - down) ** 2 + (x - right) ** 2) / 3)


def wandering(seed: int) -> torch.Tensor:
    """Places in the upper half, (episodes, frames, 2)."""
    drawn = torch.rand(EPISODES, FRAMES, 2, generator=generator(seed))
    return drawn * torch.tensor([5.0, 9.0])


def over_ground(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (episodes, frames, 12, 10, 1) of a faint thing over a bright ground, and where."""
    place = wandering(seed)
    height = 7 + 5 * torch.rand(EPISODES, 1, 10, generator=generator(seed + 100))
    ground = torch.arange(12.0)[:, None] > height
    seen = 200 * ground[:, None].float().view(EPISODES, 1, 12, 10) + 55 * spots(place)
    return seen.unsqueeze(-1).to(torch.uint8), place


def codec_of(seen: torch.Tensor, lengths=None, **settings) -> Codec:
    codec = Codec(SPACE, CodecConfig(**settings))
    codec.calibrate(seen.flatten(0, 1), lengths=[FRAMES] * EPISODES if lengths is None else lengths)
    return codec


def between(scaled: torch.Tensor) -> float:
    """Fraction of the variance that episodes' means have."""
    means = scaled.mean(1)
    total = (scaled - scaled.mean((0, 1))).square().sum(-1).mean()
    return ((means - means.mean(0)).square().sum(-1).mean() / total).item()


def read(scaled: torch.Tensor, place: torch.Tensor, other: torch.Tensor, truth: torch.Tensor):
    """R^2 of a line from components to places, fitted to some episodes, on others."""

    def rows(values: torch.Tensor) -> np.ndarray:
        flat = values.flatten(0, 1).double().numpy()
        return np.column_stack([flat, np.ones(len(flat))])

    line = np.linalg.lstsq(rows(scaled), place.flatten(0, 1).numpy(), rcond=None)[0]
    error = rows(other) @ line - truth.flatten(0, 1).numpy()
    return 1 - (error**2).mean(0) / truth.flatten(0, 1).numpy().var(0)


def test_what_stands_still_is_not_said_in_episodes_that_were_never_seen():
    (seen, place), (other, truth) = over_ground(0), over_ground(1)
    codec, plain = codec_of(seen, components=40), codec_of(seen, lengths=(), components=40)
    assert between(plain.scale(other)) > 0.9
    assert between(codec.scale(other)) < 0.1
    assert codec.scale(seen).square().sum(-1).mean().item() == pytest.approx(12, rel=1e-3)
    first = {name: each.scale(seen)[..., :8] for name, each in (("still", codec), ("plain", plain))}
    later = {
        name: each.scale(other)[..., :8] for name, each in (("still", codec), ("plain", plain))
    }
    found = {name: read(first[name], place, later[name], truth) for name in first}
    assert (found["still"] > 0.6).all() and (found["plain"] < 0.1).all()


def test_reading_is_the_best_linear_estimate_of_what_moves(monkeypatch):
    """With the covariances of the data, and no more: regression on the pictures themselves."""
    monkeypatch.setattr(components, "_ALONE", 0.0)
    monkeypatch.setattr(components, "_QUIETER", 1.0)
    place = wandering(2)
    still = 3 * torch.randn(EPISODES, 1, 120, generator=generator(3), dtype=torch.float64)
    moving = spots(place).flatten(2).double()
    moving = moving + 0.05 * torch.randn(moving.shape, generator=generator(5), dtype=torch.float64)
    moving = moving - moving.mean(1, keepdim=True)
    still = (still - still.mean(0)).expand_as(moving)
    pair = [each.flatten(0, 1) for each in (moving, still)]
    part = components.Components(120, 120).double()
    part.fit_moving(*pair, explained=1.0)
    seen = pair[0] + pair[1]
    line = np.linalg.lstsq(seen.numpy(), pair[0].numpy(), rcond=None)[0]
    least = np.square(seen.numpy() @ line - pair[0].numpy()).sum()
    error = (part.expand(part.project(seen)) - pair[0]).square().sum().item()
    assert least * (1 - 1e-9) <= error < 1.01 * least < 0.8 * pair[0].square().sum().item()


def test_where_things_move_nothing_changes():
    """Nor where episodes are short, or few: they do not tell."""
    seen = (200 * spots(wandering(4))).unsqueeze(-1).to(torch.uint8)
    frames = seen.flatten(0, 1)
    plain = codec_of(seen, lengths=(), components=30).scale(frames)
    assert torch.equal(codec_of(seen, components=30).scale(frames), plain)
    ground, _ = over_ground(0)
    for lengths in ([5] * (EPISODES * FRAMES // 5), [EPISODES * FRAMES // 5] * 5):
        codec = codec_of(ground, lengths=lengths, components=30)
        assert not codec.parts[0].components.still


def test_pictures_that_never_move_are_said_as_ever():
    ground, _ = over_ground(0)
    seen = ground[:, :1].expand(-1, FRAMES, -1, -1, -1)
    codec = codec_of(seen, components=30)
    assert between(codec.scale(seen)) == pytest.approx(1)


def test_models_take_it_from_episodes_compile_it_and_keep_it():
    seen, _ = over_ground(0)
    batch = random_batch(SPACE, BOX, size=EPISODES, steps=FRAMES - 1)
    batch = replaced(batch, observations=seen)
    model = tiny_model(SPACE, BOX, codec={"components": 30})
    model.calibrate(batch)
    part = model.codec.parts[0].components
    assert part.still
    again = type(model)(model.config, SPACE, BOX)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.scale_observations(seen), model.scale_observations(seen))
    model.requires_grad_(False)
    expected = model.filter_beliefs(seen[:1], batch.actions[:1]).mean
    world = World(model)
    states = torch.randn(2000, model.latent_size, generator=generator())
    world.support.fit(states, states[:200], margin=20.0)
    live = Filter(world, SPACE.space(), BOX.space(), ())
    assert live.compiled is True
    live.begin(seen[0, 0].numpy())
    for t in range(6):
        np.testing.assert_allclose(live.means(), expected[:, t], rtol=2e-3, atol=2e-4)
        live.advance(BOX.decode(batch.actions[0, t].numpy()), seen[0, t + 1].numpy())


def test_checkpoints_from_before_are_read():
    codec = codec_of((200 * spots(wandering(4))).unsqueeze(-1).to(torch.uint8), components=30)
    kept = codec.state_dict()
    older = {k: v for k, v in kept.items() if k.split(".")[-1] not in ("still", "mix", "heard")}
    assert len(older) == len(kept) - 3
    again = Codec(SPACE, CodecConfig(components=30))
    again.keep(codec.size)
    again.load_state_dict(older)
    for name, value in codec.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_it_is_named():
    seen, _ = over_ground(0)
    batch = random_batch(SPACE, BOX, size=EPISODES, steps=FRAMES - 1)
    told = findings(as_dataset(SPACE, BOX, train=replaced(batch, observations=seen)))
    (still,) = (each for each in told if "stands still" in each)
    assert "% of what episodes of train differ by stands still within each" in still
    moving = (200 * spots(wandering(4))).unsqueeze(-1).to(torch.uint8)
    told = findings(as_dataset(SPACE, BOX, train=replaced(batch, observations=moving)))
    assert not any("stands still" in each for each in told)
