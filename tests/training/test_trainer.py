import importlib.util
import itertools
import math

import pytest
import torch
from small import (
    BOX,
    DISCRETE,
    PIXELS,
    VECTOR,
    as_dataset,
    batches,
    random_batch,
    random_dataset,
    rotation_dataset,
    tiny_model,
    with_fields,
)

from worldmodel.data import Dataset
from worldmodel.errors import ConfigError, DivergenceError, MissingExtraError, SpecError
from worldmodel.evaluation.prediction import baseline_errors, open_loop_error
from worldmodel.models.codec import CodecConfig
from worldmodel.models.dvbf import DVBF
from worldmodel.models.dvbf_config import DVBFConfig, RecognitionConfig, TransitionConfig
from worldmodel.training import validation as module
from worldmodel.training.config import TrainConfig
from worldmodel.training.losses.constrained import ConstrainedConfig
from worldmodel.training.losses.elbo import ELBOConfig
from worldmodel.training.schedules import batch_shape, draw_prefix
from worldmodel.training.trainer import Trainer
from worldmodel.world.world import load


def config(**changes) -> TrainConfig:
    settings = {"updates": 12, "batch_size": 6, "window": 5, "validate_every": 4}
    return TrainConfig(**(settings | {"warmup_steps": 2, "tensorboard": False} | changes))


def make(folder, **changes) -> Trainer:
    return Trainer(tiny_model(), random_dataset(), config(**changes), folder)


def test_names_in_the_history_are_kept_once(tmp_path):
    """Else each validation adds some forty bytes for each of its numbers, there and on the disk."""
    trainer = make(tmp_path)
    trainer.fit(progress=False)
    first, *others = trainer.history
    assert len(others) == 2
    for later in others:
        assert all(a is b for a, b in zip(first, later, strict=True))


def settled(**changes):
    plain = ELBOConfig(start=1.0, anneal=0.0)
    return {"objective": "elbo", "elbo": plain, "coarse": 0.0} | changes


def test_a_run_folder_holds_a_loadable_model_with_support(tmp_path):
    trainer = make(tmp_path)
    world = trainer.fit(progress=False)
    model = world.model
    assert not model.training and world.support.fitted
    for folder in (tmp_path, tmp_path / "checkpoint"):
        saved = load(folder)
        assert saved.support.fitted and saved.model.reward_range == model.reward_range
    train = random_dataset().train.padded()
    latents = model.filter_beliefs(train.observations, train.actions).mean.flatten(0, 1)
    assert world.support.inside(latents).float().mean() > 0.95
    assert [h["update"] for h in trainer.history] == [4, 8, 12]


def test_the_best_model_is_returned_even_if_it_is_not_the_last(tmp_path, monkeypatch):
    errors = iter([0.5, 0.2, 0.9, 0.8])
    monkeypatch.setattr(module, "open_loop_error", lambda *a, **k: torch.tensor([next(errors)]))
    trainer = make(tmp_path, updates=16, **settled())
    weights = {}
    original = trainer.validate

    def validate():
        weights[trainer.update] = trainer.model.emission.mean[0].weight.detach().clone()
        return original()

    trainer.validate = validate
    model = trainer.fit(progress=False).model
    assert trainer.best["update"] == 8 and trainer.best["value"] == pytest.approx(0.2)
    assert torch.equal(model.emission.mean[0].weight, weights[8])
    assert not torch.equal(weights[8], weights[16])


def test_writing_the_best_model_leaves_the_one_in_training_alone(tmp_path, monkeypatch):
    errors = iter([0.1, 0.9])
    monkeypatch.setattr(module, "open_loop_error", lambda *a, **k: torch.tensor([next(errors)]))
    trainer = make(tmp_path, **settled())
    for _ in range(2):
        trainer.step()
        trainer.validate()
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.checkpoint()
    after, saved = trainer.model.state_dict(), load(tmp_path).model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(torch.equal(saved[name], v) for name, v in trainer.best["model"].items())
    assert not torch.equal(saved["emission.log_scale"], before["emission.log_scale"])


def test_a_model_that_predicts_nothing_finite_is_never_the_best(tmp_path, monkeypatch):
    errors = iter([math.nan, 0.5, math.nan])
    monkeypatch.setattr(module, "open_loop_error", lambda *a, **k: torch.tensor([next(errors)]))
    trainer = make(tmp_path, **settled())
    trainer.fit(progress=False)
    assert trainer.best["update"] == 8 and trainer.best["value"] == 0.5


def test_patience_ends_a_run_that_no_longer_improves(tmp_path):
    # A learning rate of zero improves nothing.
    trainer = make(tmp_path, updates=100, patience=2, learning_rate=0.0, **settled())
    trainer.fit(progress=False)
    assert trainer.best["update"] == 4 and trainer.update == 4 + 2 * 4


def test_patience_is_not_lost_before_the_objective_has_settled(tmp_path):
    schedule = ConstrainedConfig(tighten_from=0.2, tighten_to=0.5)
    trainer = make(tmp_path, updates=40, patience=2, learning_rate=0.0, constrained=schedule)
    trainer.fit(progress=False)
    assert trainer.best["update"] == 16 and trainer.update == 16 + 2 * 4


def test_no_patience_runs_to_the_end(tmp_path):
    trainer = make(tmp_path, updates=16, patience=0, learning_rate=0.0, **settled())
    trainer.fit(progress=False)
    assert trainer.update == 16


@pytest.mark.parametrize(
    "part, term",
    [
        ("reward_head.log_scale", "term 'reward'"),
        ("emission.log_scale", "term 'reconstruction'"),
        ("transition_model.mean", "term 'states'"),
        ("recognition.noise.bias", "term 'states'"),
    ],
)
def test_divergence_names_term_and_update_and_keeps_the_last_good_checkpoint(tmp_path, part, term):
    trainer = make(tmp_path)
    original = trainer.step

    def poisoned():
        if trainer.update == 6:
            with torch.no_grad():
                trainer.model.get_parameter(part).fill_(torch.nan)
        return original()

    trainer.step = poisoned
    with pytest.raises(DivergenceError, match=f"{term} is not finite at update 6"):
        trainer.fit(progress=False)
    saved = load(tmp_path).model.state_dict()
    learned = [v for k, v in saved.items() if not k.startswith("support")]
    assert all(torch.isfinite(v).all() for v in learned if v.is_floating_point())
    again = make(tmp_path)
    assert again.update == 4
    again.fit(progress=False)
    assert again.update == 12


def test_a_gradient_that_is_not_finite_is_named(tmp_path):
    trainer = make(tmp_path)
    weights = trainer.model.emission.mean[0].weight
    weights.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(
        DivergenceError, match=r"the gradient \(norm .*\) is not finite at update 0"
    ):
        trainer.fit(progress=False)
    assert torch.isfinite(weights).all()


def test_gradients_are_clipped(tmp_path):
    trainer = make(tmp_path, max_grad_norm=1e-3)
    trainer.step()
    gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
    norm = torch.stack([g.norm() for g in gradients]).norm()
    assert norm == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("ratio", [0.0, 3.0])
def test_a_gradient_far_longer_than_usual_counts_less(tmp_path, ratio):
    """One of 100 times the usual norm is scaled to 3 hundredths of what others are scaled to."""
    trainer = make(tmp_path, max_grad_norm=1e-3, max_grad_ratio=ratio)
    parameter = trainer.model.reward_head.log_scale
    lengths = []
    for norm in (2.0, 2.0, 2.0, 200.0, 2.0):
        trainer.optimizer.zero_grad()
        parameter.grad = torch.tensor(norm)
        assert trainer._clip(trainer.model.parameters()) == norm
        lengths.append(parameter.grad.item())
    expected = 1e-3 * torch.tensor([1.0, 1.0, 1.0, ratio / 100 if ratio else 1.0, 1.0])
    torch.testing.assert_close(torch.tensor(lengths), expected, rtol=1e-3, atol=0)


def test_gradients_that_stay_long_become_usual(tmp_path):
    trainer = make(tmp_path, max_grad_ratio=3.0)
    trust = [trainer._clip.trust(norm) for norm in [1.0] + [100.0] * 200]
    assert trust[0] == 1 and trust[1] == pytest.approx(0.03) and trust[-1] == 1
    assert trust[1:] == sorted(trust[1:])


@pytest.mark.parametrize("ratio", [-1.0, 0.5, math.inf, math.nan])
def test_a_ratio_that_would_scale_usual_gradients_is_refused(ratio):
    with pytest.raises(ConfigError, match="max_grad_ratio"):
        config(max_grad_ratio=ratio)


def test_the_learning_rate_rises_and_then_decays_to_its_last_share(tmp_path):
    trainer = make(tmp_path, updates=40, warmup_steps=10, learning_rate=0.1, lr_final_fraction=0.05)
    rates = []
    for _ in range(40):
        trainer.step()
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.01)
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) < 0.1 and rates[-1] == pytest.approx(0.005, rel=0.1)


def test_prefixes_have_the_shares_asked_for_and_stay_within_the_window(tmp_path):
    trainer = make(tmp_path, single_frame_fraction=0.3, all_frames_fraction=0.2, window=5)
    prefixes = [draw_prefix(trainer.config, 6, trainer.generator) for _ in range(4000)]
    draws = torch.tensor(prefixes)
    counts = torch.bincount(draws, minlength=7) / 4000
    assert counts[0] == 0 and len(counts) == 7
    uniform = 0.5 / 6
    expected = torch.tensor([0.3 + uniform, *[uniform] * 4, 0.2 + uniform])
    torch.testing.assert_close(counts[1:], expected, atol=0.03, rtol=0)


@pytest.mark.parametrize("shares", [(1.0, 0.0, 1), (0.0, 1.0, 6)])
def test_prefix_shares_of_one_leave_no_choice(tmp_path, shares):
    single, whole, expected = shares
    trainer = make(tmp_path, single_frame_fraction=single, all_frames_fraction=whole)
    drawn = {draw_prefix(trainer.config, 6, trainer.generator) for _ in range(50)}
    assert drawn == {expected}


def test_sequences_are_halved_at_the_same_number_of_frames(tmp_path):
    trainer = make(tmp_path, halved_until=0.6, window=6, batch_size=8, updates=100)
    drawn = []
    for trainer.update in (0, 59, 60, 99):
        drawn.append(batch_shape(trainer.config, trainer._progress))
    assert drawn == [(14, 3), (14, 3), (8, 6), (8, 6)]
    trainer.update = 0
    terms = trainer.step()
    assert terms.rate.shape == (14, 4)


def test_weights_are_not_compared_while_sequences_are_halved(tmp_path):
    trainer = make(tmp_path, **settled(halved_until=0.9, window=6, updates=100))
    trainer.update = 89
    assert not trainer._settled
    trainer.update = 90
    assert trainer._settled


def test_a_window_longer_than_the_episodes_is_refused(tmp_path):
    with pytest.raises(SpecError, match="at most the longest episode's 6 steps, got 7"):
        make(tmp_path, window=7)


@pytest.mark.parametrize(
    "observations, actions, what",
    [(PIXELS, BOX, "observations"), (VECTOR, DISCRETE, "actions")],
)
def test_a_dataset_of_another_world_is_refused(tmp_path, observations, actions, what):
    with pytest.raises(SpecError, match=f"the {what} of the dataset .*the model expects"):
        Trainer(tiny_model(), random_dataset(observations, actions), config(), tmp_path)


def test_a_dataset_without_validation_is_refused(tmp_path):
    dataset = as_dataset(VECTOR, BOX, train=random_batch())
    with pytest.raises(SpecError, match="no split 'validation'"):
        Trainer(tiny_model(), dataset, config(), tmp_path)


def test_tensorboard_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    with pytest.raises(MissingExtraError, match=r"'tensorboard'.*worldmodel\[tensorboard\]"):
        make(tmp_path, tensorboard=True).fit(progress=False)


def test_tensorboard_gets_the_curves(tmp_path):
    trainer = make(tmp_path, tensorboard=True, updates=4)
    trainer.fit(progress=False)
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"validation/prediction_mse" in events.read_bytes()


def test_padded_episodes_train(tmp_path):
    dataset = random_dataset()
    train = dataset.train.padded()
    mask = torch.arange(train.steps) < torch.tensor([[2], [6]] * 6)
    frames = train.observations.clone()
    frames[:, 1:][~mask] = 1e9
    padded = with_fields(train, mask=mask, observations=frames)
    splits = {"train": padded, "validation": padded}
    dataset = Dataset(splits, VECTOR, BOX, dataset.provenance)
    trainer = Trainer(tiny_model(), dataset, config(), tmp_path)
    world = trainer.fit(progress=False)
    assert world.model.codec.parts[0].std.max() < 100
    numbers = itertools.chain.from_iterable(h.values() for h in trainer.history)
    assert max(abs(n) for n in numbers if not math.isnan(n)) < 1e4
    assert world.support.bounds()[1].max() < 1e3


def test_it_learns_a_linear_system(tmp_path):
    """Seeds 0 to 4 end at 0.005 to 0.074 of the better baseline's error, 0.008 in the median."""
    dataset = rotation_dataset()
    sizes = DVBFConfig(
        2,
        codec=CodecConfig(hidden=32),
        recognition=RecognitionConfig(hidden=32),
        transition=TransitionConfig(base_matrices=4, mixing_hidden=8),
        recurrent=16,
        head_hidden=16,
    )
    model = DVBF(sizes, dataset.observation_spec, dataset.action_spec)
    settings = TrainConfig(
        updates=250,
        batch_size=32,
        window=10,
        learning_rate=1e-2,
        warmup_steps=20,
        validate_every=125,
        tensorboard=False,
    )
    world = Trainer(model, dataset, settings, tmp_path).fit(progress=False)
    test = dataset.test.padded()
    error = open_loop_error(world, test, filtered=5)
    baseline = baseline_errors(model, test, filtered=5)
    assert error.mean() < 0.25 * min(b.mean() for b in baseline.values())


@pytest.mark.parametrize(
    "bad",
    [
        {"updates": 0},
        {"validate_every": 0},
        {"window": 0},
        {"learning_rate": -1.0},
        {"dropout_fraction": 1.5},
        {"dropout_scale": 0.0},
        {"dropout_scale": 1.5},
        {"dropout_scale": math.nan},
        {"single_frame_fraction": 0.7, "all_frames_fraction": 0.7},
    ],
)
def test_settings_that_make_no_sense_are_refused(bad):
    name, value = next(iter(bad.items()))
    with pytest.raises(ConfigError, match=rf"{name}.*{value}"):
        TrainConfig(**bad)


def test_an_objective_that_there_is_not_is_refused():
    settings = TrainConfig()
    object.__setattr__(settings, "objective", "hinge")  # past the tests' own type checker
    with pytest.raises(ConfigError, match=r"objective must be one of .*got 'hinge'"):
        settings.__post_init__()


def test_dropout_draws_with_the_scale_that_is_set(tmp_path):
    """All sequences are cut: what is paid beyond the first frames is a constant by the scale."""
    for scale in (1.0, 0.1):
        trainer = make(tmp_path / str(scale), dropout_fraction=1.0, dropout_scale=scale)
        terms = trainer.step()
        paid = terms.rate[~terms.observed]
        per_dimension = (scale**2 - 1) / 2 - math.log(scale)
        expected = torch.full_like(paid, trainer.model.noise_size * per_dimension)
        assert len(paid)
        torch.testing.assert_close(paid, expected, atol=1e-6, rtol=1e-5)


def test_the_weights_kl_is_shared_among_all_windows_of_long_episodes(tmp_path):
    model, whole = tiny_model(), batches(random_dataset(size=12, steps=20))
    whole["train"].mask[::2, 5:] = False
    dataset = as_dataset(VECTOR, BOX, **whole)
    config = TrainConfig(window=5, tensorboard=False)
    assert Trainer(model, dataset, config, tmp_path).windows == (6 * 20 + 6 * 5) // 5


def test_a_batch_without_a_finite_gradient_is_skipped_and_counted(tmp_path, capsys):
    trainer = make(tmp_path)
    weights, calls = trainer.model.emission.mean[0].weight, []

    def once(gradient):
        calls.append(0)
        return gradient * torch.inf if len(calls) == 3 else gradient

    weights.register_hook(once)
    trainer.fit()
    assert trainer.skipped == 1 and trainer.update == 12 and len(calls) == 13
    assert trainer.history[-1]["skipped"] == 1
    assert "1 batches gave no finite gradient" in capsys.readouterr().out
    assert torch.isfinite(torch.cat([p.flatten() for p in trainer.model.parameters()])).all()
