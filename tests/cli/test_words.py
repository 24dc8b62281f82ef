"""What is typed wrong is said in the words of whoever typed it, without secrets of ours."""

import pytest
from small import random_dataset

from worldmodel import data
from worldmodel.cli import COMMANDS, main
from worldmodel.cli.words import understood
from worldmodel.systems import DEMOS, PRESETS


def refused(words: str, capsys, status: int = 2) -> str:
    with pytest.raises(SystemExit) as exit:
        main(words.split())
    assert exit.value.code == status
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("demo --train.updates -1", "error: updates must be at least 1, got -1\n"),
        ("demo --model.latent-size 0", "error: latent_size must be at least 1, got 0\n"),
        ("demo ball --agent.horizon 0", "error: horizon must be at least 1, got 0\n"),
        (
            "calibrate pendulum --trust.coverage 2",
            "error: coverage must lie in [0.5, 1), got 2.0\n",
        ),
    ],
)
def test_a_setting_out_of_range_is_one_line(words, said, capsys):
    assert refused(words, capsys) == said


@pytest.mark.parametrize(
    ("words", "meant", "known"),
    [
        ("trainn data", "train", COMMANDS),
        ("data", "data show", COMMANDS),
        ("data sho x", None, COMMANDS),
        ("demo pendulun", "pendulum", DEMOS),
        ("demo cart", None, DEMOS),
    ],
)
def test_a_name_that_there_is_not_is_answered_by_those_that_there_are(words, meant, known, capsys):
    said = refused(words, capsys)
    assert ", ".join(known) in said
    if meant:
        assert f"did you mean {meant!r}?" in said


def test_presets_are_named_in_their_order_and_none_is_none_of_them(capsys):
    said = refused("presets pendulun", capsys, status=1)
    assert f"{', '.join(PRESETS)}, got 'pendulun'; did you mean 'pendulum'?" in said
    assert "None" not in said


def test_choices_stand_in_their_order(tmp_path, monkeypatch, capsys):
    """Not in one that depends on hashes."""
    monkeypatch.setenv("COLUMNS", "300")
    said = refused(f"compare {tmp_path} --out {tmp_path / 'x'} --preset nope", capsys)
    assert f"Expected one of {tuple(PRESETS)}." in said


def test_a_number_that_may_be_none_is_refused_in_the_words_of_a_number(capsys, tmp_path):
    said = refused(f"collect CartPole-v1 --out {tmp_path / 'x'} --resize big", capsys)
    assert "--resize" in said and "'big'" in said and "NoneType" not in said
    with pytest.raises(SystemExit):
        main(["collect", "CartPole-v1", "--out", str(tmp_path / "y"), "--resize", "None", "--nope"])
    assert "--nope" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [
        "--map actions=a --map rewards=b c=d --format tables",
        "--map actions=a --format tables --map=rewards=b --map c=d",
        "--map actions=a rewards=b c=d --format tables",
    ],
)
def test_a_flag_of_several_that_is_given_again_adds_to_what_it_had(flags):
    asked = understood(["import", "source", "--out", "data", *flags.split()], COMMANDS)
    assert asked.keywords["map"] == ("actions=a", "rewards=b", "c=d")
    assert asked.keywords["format"] == "tables"


def test_models_of_a_comparison_too(tmp_path):
    data.save(random_dataset(), tmp_path / "data")
    words = ["compare", str(tmp_path / "data"), "--out", "x", "--models", "dvbf", "--models", "dkf"]
    assert understood(words, COMMANDS).keywords["models"] == ("dvbf", "dkf")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "demo --updates 5",
            "worldmodel demo pendulum has no --updates; did you mean --train.updates or "
            "--agent.updates?",
        ),
        (
            "demo ball --train_updates=5",
            "worldmodel demo ball has no --train-updates; did you mean --train.updates",
        ),
        (
            "collect CartPole-v1 --ou x",
            "worldmodel collect has no --ou; did you mean --out or --hold?\n",
        ),
        ("data show x --nothing-like-it", "worldmodel data show has no --nothing-like-it\n"),
        ("agent pendulum --goall 1", "worldmodel agent has no --goall; did you mean --goal"),
    ],
)
def test_a_flag_that_there_is_not_is_answered_by_those_that_may_be_meant(words, said, capsys):
    told = refused(words, capsys)
    assert told.startswith(f"error: {said}") and told.count("\n") == 1
