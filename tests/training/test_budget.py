"""As many updates as there is time for."""

from dataclasses import replace

import pytest
from small import random_dataset, tiny_model

from worldmodel.errors import ConfigError
from worldmodel.training import budget, trainer
from worldmodel.training.budget import updates_within
from worldmodel.training.config import TrainConfig
from worldmodel.training.dreaming import DreamConfig
from worldmodel.training.shown import in_words
from worldmodel.training.trainer import Trainer

CONFIG = TrainConfig(updates=50, batch_size=4, window=5, validate_every=10, tensorboard=False)


@pytest.fixture
def costs(monkeypatch):
    """Everything that is timed takes one second of a clock that else stands still."""

    def seconds(what):
        what()
        return 1.0

    monkeypatch.setattr(budget, "_seconds", seconds)
    monkeypatch.setattr(budget.time, "monotonic", lambda: 0.0)


def test_all_that_training_takes_fits_into_the_time(costs):
    # 0.9 x 1000 s, less what follows (the transition, and the rest: 2 s) and a last validation and
    # checkpoint (2 s), at 1 s an update and 2 s every ten of them.
    assert updates_within(tiny_model(), random_dataset(), CONFIG, 1000.0) == int(896 / 1.2)


@pytest.mark.parametrize(
    ("most", "expected"), [(0, 897 / 1.2), (500, 891 / 1.2), (9999, 896 / 1.23)]
)
def test_a_transition_practises_no_longer_than_it_may(costs, monkeypatch, most, expected):
    """A hundredth of a second for each of its updates, and for no more than three of each other."""
    taken = iter([1.0, 2.0])

    def seconds(what):
        practising = "practis" in what.__qualname__
        what()
        return next(taken) if practising else 1.0

    monkeypatch.setattr(budget, "_seconds", seconds)
    limited = replace(CONFIG, dreaming=DreamConfig(transition_updates=most))
    assert updates_within(tiny_model(), random_dataset(), limited, 1000.0) == int(expected)


def test_a_denoiser_takes_its_time_too(costs):
    denoised = replace(CONFIG, dreaming=DreamConfig(denoise=0.05))
    # Twelve thousand updates at a hundredth of a second.
    assert updates_within(tiny_model(), random_dataset(), denoised, 1000.0) == int(776 / 1.2)


def test_too_little_time_is_refused(costs):
    with pytest.raises(
        ConfigError, match=r"0.05 minutes are too few; 0.1 are enough .* an update takes 1 s"
    ):
        updates_within(tiny_model(), random_dataset(), CONFIG, 3.0)


def test_little_time_is_not_spent_on_measuring(costs, monkeypatch):
    """On a slow machine, or a busy one: two updates are timed after one that is not."""
    taken, step = [], Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda trainer: taken.append(1) or step(trainer))
    assert updates_within(tiny_model(), random_dataset(), CONFIG, 40.0) == int(32 / 1.2)
    assert len(taken) == 3


def test_measuring_leaves_the_model_as_it_is(costs):
    model = tiny_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    updates_within(model, random_dataset(), CONFIG, 1000.0)
    assert all(v.equal(before[k]) for k, v in model.state_dict().items())


def test_what_comes_out_is_told_early_and_changes_nothing(tmp_path, capsys, monkeypatch):
    brief = replace(CONFIG, updates=6, validate_every=3)
    quiet = Trainer(tiny_model(), random_dataset(), brief, tmp_path / "quiet")
    quiet.fit(progress=False)
    told = Trainer(tiny_model(), random_dataset(), brief, tmp_path / "told")
    monkeypatch.setattr(trainer, "_SOON", 0.0)
    told.fit(progress=True)
    said = [line for line in capsys.readouterr().out.splitlines() if "learning: " in line]
    assert (
        len(said) == 1 and "of the variance (last frame" in said[0] and "a minute left" in said[0]
    )
    assert told.history == quiet.history
    last = told.history[-1]
    assert last["validation/prediction"] * told._judge.standing["variance"] == pytest.approx(
        last["validation/prediction_mse"]
    )


def test_of_frames_that_never_change_no_share_is_told():
    shares = {name: float("nan") for name in ("prediction", "last_frame", "mean_frame")}
    assert in_words(shares) == "nothing to predict: all frames are the same"
