"""``worldmodel collect`` with what is said about it on the command line."""

import numpy as np
import pytest

from worldmodel.cli import main
from worldmodel.data import load

TINY = ["--episodes", "20", "--steps", "5", "--test-steps", "6"]


def refused(words, capsys) -> str:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    assert caught.value.code == 1
    return " ".join(capsys.readouterr().err.split())


def test_a_tenth_is_held_out_of_what_is_not_ours(tmp_path):
    for env_id, held_out in (("CartPole-v1", 2), ("worldmodel/Pendulum-v0", 20)):
        main(["collect", env_id, "--out", str(tmp_path / "data"), *TINY])
        found = load(tmp_path / "data")
        assert [len(found.split(n)) for n in ("train", "validation", "test")] == [
            20,
            held_out,
            held_out,
        ]


def test_a_run_acts_through_its_filter(tmp_path):
    words = ["collect", "worldmodel/Pendulum-v0", "--out", str(tmp_path / "data"), "--steps", "40"]
    options = ["--reset-options", '{"state": [3.1, 0.0]}', "--episodes", "2", "--held-out", "1"]
    main([*words, *options, "--test-steps", "2", "--policy", "pendulum", "--workers", "2"])
    found = load(tmp_path / "data")
    assert {e.told["actor"] for e in found.train} == {"pendulum"}
    # It swings up, and so takes torques that chance does not hold for so long.
    assert np.abs(found.train.actions.numpy()).mean() > 3
    starts = found.train.states[:, 0].numpy()
    assert np.ptp(starts, 0).max() == 0 and found.provenance.options == {"state": [3.1, 0.0]}


def test_an_algorithm_of_stable_baselines_acts(tmp_path, capsys):
    sb3 = pytest.importorskip("stable_baselines3", reason="needs worldmodel[agents]")
    agent = sb3.PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu")
    path = tmp_path / "ppo.zip"
    agent.save(path)
    words = ["collect", "CartPole-v1", "--out", tmp_path / "data", *TINY, "--policy", path]
    main([str(word) for word in words])
    for episode in load(tmp_path / "data").train:
        expected = agent.predict(episode.observations[:-1], deterministic=True)[0]
        np.testing.assert_array_equal(episode.actions.argmax(1), expected)
    words[1] = "Pendulum-v1"
    assert "ppo.zip observes Box" in refused(words, capsys)
    path.write_bytes(b"no zip")
    assert "truncated, corrupt or foreign" in refused(words, capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--hold", "3"], "--hold is for --process held or sticky, not uniform"),
        (["--process", "held", "--hold", "0"], "Held.steps must be at least 1, got 0"),
        (["--policy-share", "0.5"], "--policy-share and --exploration are of a --policy"),
        (["--policy", "math:tau"], "math:tau is 6.28"),
        (["--policy", "no-such-run"], "no-such-run"),
        (["--reset-options", "[1]"], "expected a JSON object, got '[1]'"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, capsys, words, message):
    told = refused(["collect", "CartPole-v1", "--out", tmp_path / "data", *TINY, *words], capsys)
    assert message in told
    assert not (tmp_path / "data").exists()


def test_held_actions_last_as_long_as_is_said(tmp_path):
    words = ["collect", "Pendulum-v1", "--out", str(tmp_path / "data"), *TINY]
    main([*words, "--steps", "12", "--process", "held", "--hold", "3"])
    for episode in load(tmp_path / "data").train:
        ends = np.flatnonzero(np.diff(episode.actions[:, 0])) + 1
        assert (np.diff(ends) == 3).all() and ends[0] <= 3
