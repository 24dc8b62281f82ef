import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from small import box

from worldmodel.data import Dataset
from worldmodel.errors import SpecError
from worldmodel.evaluation.evaluate import evaluate
from worldmodel.evaluation.identification import regress
from worldmodel.systems import pendulum


def test_all_named_metrics_are_there_and_finite(evaluation):
    metrics = json.loads(json.dumps(evaluation.metrics, allow_nan=False))
    for table in ("r2", "loglik", "filter_r2_by_frames"):
        assert set(metrics[table]) == {"sin", "cos", "velocity"}
    assert set(metrics["bound"]) == {
        "lower_bound",
        "reconstruction",
        "kl",
        "distortion",
        "weight_kl",
    }
    assert len(metrics["prediction_mse"]) == len(metrics["prediction_mse_averaged"]) == 10
    baselines = metrics["prediction_mse_baseline"]
    assert set(baselines) == {"last_frame", "mean_frame"}
    assert all(len(error) == 10 for error in baselines.values())
    assert len(metrics["filter_error_by_frames"]) == 7
    assert all(len(r2) == 7 for r2 in metrics["filter_r2_by_frames"].values())
    assert metrics["prediction_variance"] > 0


def test_samples_are_the_first_frames_of_every_episode(evaluation, dataset):
    assert evaluation.filtered == 7
    assert evaluation.latents.shape == (20 * 7, 3)
    velocity = dataset.test.states[:, :7, 1].flatten().numpy()
    np.testing.assert_array_equal(evaluation.truth["velocity"], velocity)
    fit = regress(evaluation.latents, velocity[:, None])
    assert evaluation.metrics["r2"]["velocity"] == pytest.approx(fit.r2[0])
    np.testing.assert_allclose(evaluation.fitted["velocity"], fit.prediction[:, 0])


def test_the_bound_is_per_time_step(evaluation, untrained, dataset):
    bound = evaluation.metrics["bound"]
    assert bound["lower_bound"] == pytest.approx(bound["reconstruction"] - bound["kl"])
    terms = untrained.model.terms(dataset.test.window(0, 6), torch.Generator().manual_seed(0))
    assert bound["reconstruction"] == pytest.approx(terms.reconstruction.mean().item(), rel=1e-5)
    assert bound["kl"] == pytest.approx(terms.rate.mean().item(), rel=1e-5)
    assert bound["weight_kl"] == pytest.approx(terms.weight_kl.item() / (4 * 7), rel=1e-5)


def test_the_same_seed_gives_the_same_metrics_and_the_mode_is_restored(
    evaluation, untrained, dataset
):
    untrained.model.train()
    again = evaluate(
        untrained, dataset, train_steps=6, horizon=10, targets=pendulum.targets, progress=False
    )
    assert untrained.model.training
    untrained.model.eval()
    assert again.metrics == evaluation.metrics


def test_states_are_named_by_number_unless_the_caller_knows_better(untrained, dataset):
    assert set(evaluate(untrained, dataset, train_steps=6).metrics["r2"]) == {"state_0", "state_1"}


def test_without_ground_truth_there_is_no_identification(untrained, dataset):
    blind = replace(dataset, splits={"test": replace(dataset.test.padded(), states=None)})
    evaluation = evaluate(untrained, blind, train_steps=6)
    assert not {"r2", "loglik", "filter_r2_by_frames"} & evaluation.metrics.keys()
    assert len(evaluation.metrics["prediction_mse"]) == 12, "as far as the episodes go"
    assert evaluation.truth == evaluation.fitted == {}


def test_padding_changes_nothing(untrained, dataset):
    """Frames that were never recorded, whatever they hold, leave all metrics as they are."""
    test = dataset.test.padded()
    mask = test.mask.clone()
    mask[:, 14:] = False
    noise = torch.randint(0, 256, test.observations[:, 15:].shape, dtype=torch.uint8)
    padded = replace(test, mask=mask, observations=torch.cat([test.observations[:, :15], noise], 1))
    short = replace(dataset, splits={"test": test.window(0, 14)})
    long = replace(dataset, splits={"test": padded})
    assert (
        evaluate(untrained, long, train_steps=6).metrics
        == evaluate(untrained, short, train_steps=6).metrics
    )


@pytest.mark.parametrize("longest, filtered", [(2, 2), (3, 2), (6, 4), (7, 7), (18, 7)])
def test_of_episodes_no_longer_than_a_window_the_second_half_is_predicted(
    untrained, dataset: Dataset, longest, filtered
):
    short = replace(dataset, splits={"test": dataset.test.window(0, longest)})
    evaluation = evaluate(untrained, short, train_steps=6)
    assert evaluation.filtered == filtered
    assert len(evaluation.metrics["prediction_mse"]) == longest + 1 - filtered


def test_episodes_that_leave_nothing_to_predict_are_refused(untrained, dataset: Dataset):
    short = replace(dataset, splits={"test": dataset.test.window(0, 1)})
    with pytest.raises(SpecError, match=r"at least 2 steps.* the longest has 1"):
        evaluate(untrained, short)


@pytest.mark.parametrize("shade", [0, 90])
def test_frames_that_never_change_are_refused(untrained, dataset: Dataset, shade):
    """Errors are told as fractions of a variance, which there is none of."""
    test = dataset.test.padded()
    still = replace(test, observations=torch.full_like(test.observations, shade))
    with pytest.raises(SpecError, match="all frames of the test episodes are the same"):
        evaluate(untrained, replace(dataset, splits={"test": still}), train_steps=6)


def test_a_dataset_of_another_system_is_refused(untrained, dataset: Dataset):
    other = replace(dataset, action_spec=box(-1.0, 1.0))
    with pytest.raises(SpecError, match="actions"):
        evaluate(untrained, other, train_steps=6)
