"""``worldmodel compare``, on data and with models that take no time."""

import dataclasses
import json

import pytest
from small import BOX, VECTOR, as_dataset, random_batch

from worldmodel import data
from worldmodel.cli import main
from worldmodel.cli.compare import candidate
from worldmodel.errors import SpecError
from worldmodel.evaluation.identification import state_targets
from worldmodel.models.registry import MODELS
from worldmodel.systems import preset
from worldmodel.training.comparison import OBJECTIVES, Run, plan
from worldmodel.training.trainer import Trainer

SIZES = "codec.hidden=8,recurrent=4,head_hidden=4"  # and what each model has beside
MODELS_GIVEN = [
    f"dvbf:{SIZES},transition.base_matrices=2,transition.mixing_hidden=4",
    f"dkf:{SIZES},hidden=8,leak=0.1",
]
SPLITS = ("train", "validation", "test")
ARMS = ["elbo", "constrained+dropout"]
BUDGET = {"updates": 4, "batch_size": 4}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    splits = {s: random_batch(steps=18, seed=i) for i, s in enumerate(SPLITS)}
    dataset = as_dataset(VECTOR, BOX, **splits)
    path = tmp_path_factory.mktemp("data") / "data"
    data.save(dataset, path)
    return path


def compare(recorded, out, *more, models=MODELS_GIVEN):
    line = ["compare", str(recorded), "--out", str(out), "--models", *models]
    line += ["--updates", "4", "--batch-size", "4", "--seeds", "1", *more]
    main([*line, "--objectives", *ARMS])


def planned(recorded, out, given=MODELS_GIVEN, arms=ARMS, seeds=1) -> list[Run]:
    dataset = data.load(recorded)
    candidates = [candidate(label, preset("vectors"), dataset) for label in given]
    mark = dataset.provenance.fingerprint
    return plan(candidates, arms, seeds, BUDGET, recorded, mark, out, state_targets)


@pytest.fixture(scope="module")
def made(recorded, tmp_path_factory):
    """A comparison in which the first run had been killed after two updates."""
    out = tmp_path_factory.mktemp("comparison")
    run, dataset = planned(recorded, out)[0], data.load(recorded)
    model = MODELS["dvbf"](run.config, dataset.observation_spec, dataset.action_spec, 0)
    killed = Trainer(model, dataset, run.train, run.folder)
    killed.step(), killed.step(), killed.validate(), killed.checkpoint()
    compare(recorded, out)
    return out


def test_every_run_is_planned_with_one_budget_and_its_own_settings(recorded, tmp_path):
    runs = planned(recorded, tmp_path, arms=list(OBJECTIVES), seeds=3)
    assert len(runs) == 2 * len(OBJECTIVES) * 3 == len({run.folder for run in runs})
    assert {(run.train.updates, run.train.batch_size) for run in runs} == {(4, 4)}
    assert [run.train.seed for run in runs] == sorted(run.train.seed for run in runs)
    for run in runs:
        assert run.train.objective == run.objective.split("+")[0]
        assert (run.train.dropout_fraction > 0) == run.objective.endswith("+dropout")
        assert run.config.codec.hidden == 8
    first, second = (run.config for run in runs if run.objective == "elbo" and not run.train.seed)
    assert first.transition.leak == 0.2 and second.leak == 0.1


def test_a_models_words_may_say_how_it_is_to_dream(recorded, tmp_path):
    given = [*MODELS_GIVEN, "ekvae:denoise=0.03", "dvbf:transition.leak=0.1,denoise=0.1"]
    runs = planned(recorded, tmp_path, given, ["elbo"])
    assert [run.train.dreaming.denoise for run in runs] == [0.0, 0.0, 0.03, 0.1]
    assert runs[-1].config.transition.leak == 0.1 and len({run.folder for run in runs}) == 4


def test_it_leaves_numbers_of_every_run_a_table_and_figures(made):
    runs = json.loads((made / "comparison.json").read_text())["runs"]
    assert [(r["identity"]["model"], r["identity"]["objective"]) for r in runs] == [
        (model, objective) for model in MODELS_GIVEN for objective in ARMS
    ]
    for run in runs:
        assert set(run["r2"]) == {"state_0", "state_1"}
        assert run["parameters"] > 0 and run["seconds"] > 0
        assert run["history"][-1]["update"] == 4
    assert runs[0]["parameters"] != runs[2]["parameters"]
    assert "objective/multiplier" in runs[1]["history"][-1]
    table = (made / "comparison.md").read_text()
    assert all(model in table for model in MODELS_GIVEN) and "diverged" not in table
    assert (made / "comparison.png").stat().st_size > 10_000
    assert len(list(made.glob("course_*.png"))) == 4


def test_a_run_that_was_killed_is_resumed(made):
    runs = json.loads((made / "comparison.json").read_text())["runs"]
    assert [run["resumed_at"] for run in runs] == [2, 0, 0, 0]


def test_finished_runs_are_not_run_again(made, recorded, capsys):
    before = {p: p.stat().st_mtime_ns for p in made.glob("runs/*/metrics.json")}
    assert len(before) == 4
    compare(recorded, made)
    assert "4 of 4 runs are already finished" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in made.glob("runs/*/metrics.json")} == before


@pytest.mark.parametrize(
    "budget, said",
    [
        (["--updates", "5"], "updates 4, not 5"),
        (["--learning-rate", "0.01"], "learning_rate 0.003, not 0.01"),
    ],
)
def test_runs_of_another_budget_are_not_mixed_in(made, recorded, capsys, budget, said):
    with pytest.raises(SystemExit) as exit:
        compare(recorded, made, *budget)
    assert exit.value.code == 1
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_run_begun_for_another_budget_is_not_gone_on_with(recorded, tmp_path):
    run, dataset = planned(recorded, tmp_path)[0], data.load(recorded)
    model = MODELS["dvbf"](run.config, dataset.observation_spec, dataset.action_spec, 0)

    def interrupt(trainer):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(model, dataset, run.train, run.folder).fit(progress=False, watch=interrupt)
    assert not run.finished
    other = dataclasses.replace(run, train=dataclasses.replace(run.train, updates=9))
    with pytest.raises(SpecError, match="unfinished run with updates 4, not 9"):
        _ = other.finished


@pytest.mark.parametrize(
    "model, named",
    [("nothing", "'nothing'"), ("dvbf:layers=3", "'layers'"), ("dkf:leak=2", "leak")],
)
def test_models_that_there_are_not_are_refused_before_any_training(
    recorded, tmp_path, capsys, model, named
):
    with pytest.raises(SystemExit) as exit:
        compare(recorded, tmp_path, models=[MODELS_GIVEN[0], model])
    assert exit.value.code in (1, 2)
    assert named in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_runs_in_processes_are_those_of_one(made, recorded, tmp_path):
    compare(recorded, tmp_path, "--parallel", "2")
    ours, theirs = (
        json.loads((out / "comparison.json").read_text())["runs"] for out in (tmp_path, made)
    )
    assert [run["identity"] for run in ours] == [run["identity"] for run in theirs]
    # The first of the others had been killed, and was validated where it was.
    assert [run["history"] for run in ours[1:]] == [run["history"] for run in theirs[1:]]
