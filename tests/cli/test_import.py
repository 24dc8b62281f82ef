"""``worldmodel import`` and ``worldmodel data export``, as a person calls them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import recordings

from worldmodel import data
from worldmodel.cli import main
from worldmodel.data.readers.recording import natural


@pytest.fixture
def episodes():
    return recordings.made(np.random.default_rng(3), (7, 5, 9, 6, 8))


def held(path):
    """All episodes of a dataset, in the order in which they were recorded."""
    dataset = data.load(path)
    found = [episode for name in dataset.splits for episode in dataset.split(name)]
    return dataset, sorted(found, key=lambda e: natural(e.told["origin"]))


def refused(words, capsys):
    with pytest.raises(SystemExit) as exit:
        main([str(word) for word in words])
    assert exit.value.code == 1
    return " ".join(capsys.readouterr().err.split())


def test_d4rl_is_a_dataset_bit_for_bit(tmp_path, episodes, capsys):
    path = recordings.write_d4rl(tmp_path / "x.hdf5", episodes)
    main(["import", str(path), "--out", str(tmp_path / "data"), "--seed", "1"])
    told = " ".join(capsys.readouterr().out.split())
    assert "hdf5, 5 episodes" in told and "observed observations from observations" in told
    assert "not used: infos/qpos" in told and "train 3 (" in told
    _, found = held(tmp_path / "data")
    for one, expected in zip(found, episodes, strict=True):
        np.testing.assert_array_equal(one.observations, expected["observations"])
        np.testing.assert_array_equal(one.actions, expected["actions"])
        np.testing.assert_array_equal(one.rewards, expected["rewards"].astype(np.float32))
        np.testing.assert_array_equal(one.terminated, expected["terminated"])
        np.testing.assert_array_equal(one.truncated, expected["truncated"])


def test_robomimic_with_a_mapping_that_is_saved_and_given_again(tmp_path, episodes, capsys):
    path = recordings.write_robomimic(tmp_path / "x.hdf5", episodes)
    asked = ["--map", "camera=obs/agentview_image", "terminated=dones"]
    saved = ["--save-map", str(tmp_path / "map.json")]
    main(["import", str(path), "--out", str(tmp_path / "a"), *asked, *saved, "--resize", "8x6"])
    assert json.loads((tmp_path / "map.json").read_text())["camera"] == ["obs/agentview_image"]
    again = ["--map", str(tmp_path / "map.json"), "--resize", "8x6"]
    main(["import", str(path), "--out", str(tmp_path / "b"), *again])
    (first, found), (second, _) = held(tmp_path / "a"), held(tmp_path / "b")
    assert first.provenance.fingerprint == second.provenance.fingerprint
    assert first.observation_spec.names == ("camera",)
    for one, expected in zip(found, episodes, strict=True):
        assert one.observations.shape == (len(expected["actions"]) + 1, 8, 6, 3)
        area = expected["picture"].reshape(-1, 8, 2, 6, 2, 3).mean((2, 4))
        np.testing.assert_allclose(one.observations, area, atol=1)
        assert one.terminated[-1] and not one.terminated[:-1].any()


def test_lerobot_leaves_out_the_last_action(tmp_path, episodes):
    rng = np.random.default_rng(0)
    for episode in episodes:
        episode["picture"] = recordings.smooth(rng, len(episode["observations"]))
    recordings.write_lerobot(tmp_path / "arm", episodes)
    main(["import", str(tmp_path / "arm"), "--out", str(tmp_path / "data")])
    dataset, found = held(tmp_path / "data")
    assert set(dataset.observation_spec.names) == {"state", "top"}
    assert any("outcome was not recorded" in note for note in dataset.provenance.notes)
    for one, expected in zip(found, episodes, strict=True):
        np.testing.assert_array_equal(one.observations["state"], expected["observations"][:-1])
        np.testing.assert_array_equal(one.actions, expected["actions"][:-1])
        error = one.observations["top"].astype(int) - expected["picture"][:-1]
        assert np.abs(error).max() < 12


def test_whole_numbers_are_indices_unless_they_are_amounts(tmp_path, capsys):
    gear = np.array([0, 2, 1, 3, 0, 1])
    arrays = {"obs": np.zeros((6, 2), np.float32), "actions": gear, "dones": np.zeros(6, bool)}
    np.savez(tmp_path / "x.npz", **arrays)
    words = ["import", str(tmp_path / "x.npz"), "--split", "train=1"]
    main([*words, "--out", str(tmp_path / "a")])
    assert "indices of as many values" in " ".join(capsys.readouterr().out.split())
    main([*words, "--out", str(tmp_path / "b"), "--amounts", "actions"])
    (first, (one,)), (second, (two,)) = held(tmp_path / "a"), held(tmp_path / "b")
    assert first.action_spec.kind == "discrete" and second.action_spec.kind == "box"
    np.testing.assert_array_equal(one.actions, np.eye(4)[gear[:-1]])
    np.testing.assert_array_equal(two.actions[:, 0], gear[:-1])


def test_nothing_stays_of_an_import_that_fails(tmp_path, episodes, capsys):
    episodes[4]["observations"][5, 1] = np.inf
    path = recordings.write_d4rl(tmp_path / "x.hdf5", episodes)
    told = refused(["import", path, "--out", tmp_path / "data"], capsys)
    assert "x.hdf5, episode 4: observations is inf at time 5" in told
    assert [p.name for p in tmp_path.iterdir()] == ["x.hdf5"]


def test_progress_is_told_without_a_terminal(tmp_path, episodes, capsys, monkeypatch):
    monkeypatch.setattr("worldmodel.progress.EVERY", 0.0)
    path = recordings.write_d4rl(tmp_path / "x.hdf5", episodes)
    main(["import", str(path), "--out", str(tmp_path / "data")])
    assert "imported 3 of 5 episodes, 21 steps" in capsys.readouterr().out


def test_a_dataset_that_is_there_is_not_replaced(tmp_path, episodes, capsys):
    path = recordings.write_d4rl(tmp_path / "x.hdf5", episodes)
    words = ["import", str(path), "--out", str(tmp_path / "data")]
    main(words)
    assert "there is a dataset at" in refused(words, capsys)
    assert len(held(tmp_path / "data")[1]) == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resize", "big"], "--resize takes HEIGHTxWIDTH in pixels, got 'big'"),
        (["--split", "train"], "--split takes NAME=SHARE, got 'train'"),
        (["--split", "train=0.5"], "must add up to 1"),
        (["--map", "camera"], "--map takes stream=column"),
        (["--map", "camera=eye"], "camera is to be column 'eye', which is missing"),
        (["--amounts", "speed"], "there is no 'speed' of amounts"),
        (["--resample", "20"], "--resample needs time stamps"),
    ],
)
def test_what_makes_no_sense_is_named(tmp_path, episodes, capsys, words, message):
    path = recordings.write_d4rl(tmp_path / "x.hdf5", episodes)
    assert message in refused(["import", path, "--out", tmp_path / "data", *words], capsys)
    assert not (tmp_path / "data").exists()


def test_resampling_masks_what_is_missing_and_a_model_is_trained_on_the_rest(tmp_path, capsys):
    """Rows that carry their number, early or late by a fifth of a period, one in ten lost."""
    rng, kept = np.random.default_rng(5), {}
    for run in range(5):
        rows = np.flatnonzero(rng.uniform(size=40) < 0.9)
        rows = np.unique([0, *rows, 39])
        times = (rows + rng.uniform(-0.2, 0.2, len(rows))) / 10
        columns = np.stack([times, np.sin(rows), rows, rows / 7], 1)
        kept[f"run{run}"] = rows
        (tmp_path / "log").mkdir(exist_ok=True)
        head = "time,action,obs_number,obs_other"
        path = tmp_path / "log" / f"run{run}.csv"
        np.savetxt(path, columns, "%.17g", ",", header=head, comments="")
    words = ["--resample", "10", "--map", "obs=obs_number,obs_other"]
    main(["import", str(tmp_path / "log"), "--out", str(tmp_path / "data"), *words])
    told = " ".join(capsys.readouterr().out.split())
    dataset, found = held(tmp_path / "data")
    missing = sum(40 - len(rows) for rows in kept.values())
    assert f"{missing} of 200 grid points" in told
    for episode, (run, rows) in zip(found, kept.items(), strict=True):
        assert run in episode.told["origin"] and len(episode) == 39
        present = np.isin(np.arange(40), rows)
        np.testing.assert_array_equal(episode.seen, present)
        last = np.maximum.accumulate(np.where(present, np.arange(40), 0))
        np.testing.assert_array_equal(episode.observations[:, 0], last)
        np.testing.assert_allclose(episode.actions[:, 0], np.sin(last[:-1]), rtol=1e-6)
    assert not dataset.train.padded().seen.all()
    small = ["--preset", "vectors", "--updates", "4", "--window", "12", "--batch-size", "4"]
    main(["train", str(tmp_path / "data"), "--run", str(tmp_path / "run"), *small])
    main(["evaluate", str(tmp_path / "run"), "--dataset", str(tmp_path / "data")])
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert np.isfinite(metrics["bound"]["lower_bound"])


@pytest.mark.filterwarnings("ignore::UserWarning:minari")
class TestMinari:
    @pytest.fixture(autouse=True)
    def home(self, tmp_path, monkeypatch):
        pytest.importorskip("minari", reason="needs worldmodel[minari]")
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))

    def exported(self, tmp_path, episodes):
        made = data.from_episodes(
            [
                {
                    "observations": {"eye": e["picture"], "joint": e["observations"]},
                    **{name: e[name] for name in ("actions", "rewards", "terminated")},
                    "states": e["observations"][:, :2],
                    "timestamps": np.arange(len(e["observations"])) / 10,
                }
                for e in episodes
            ],
            out=tmp_path / "made",
        )
        main(["data", "export", str(tmp_path / "made"), "--minari", "arm/push-v0"])
        return made

    def test_gaps_and_cut_recordings_come_back(self, tmp_path):
        rng, episodes = np.random.default_rng(0), []
        for i in range(3):
            seen = np.arange(8) % 3 != i
            seen[0] = True
            values = {"observations": rng.normal(size=(8, 2)), "actions": rng.normal(size=(7, 1))}
            episodes.append(values | {"seen": seen if i else np.ones(8, np.bool_)})
            episodes[-1]["truncated"] = False
        made = data.from_episodes(episodes, splits=["train"] * 3, out=tmp_path / "made")
        main(["data", "export", str(tmp_path / "made"), "--minari", "arm/gaps-v0"])
        mapped = ["--map", "seen=infos/seen", "--split", "train=1"]
        main(["import", "arm/gaps-v0", "--out", str(tmp_path / "back"), *mapped])
        _, found = held(tmp_path / "back")
        for one, expected, given in zip(found, made.train, episodes, strict=True):
            assert (one.seen is None) == given["seen"].all() == (expected.seen is None)
            np.testing.assert_array_equal(one.observations, expected.observations)
            assert one.truncated[-1] and not one.truncated[:-1].any()
            if one.seen is not None:
                np.testing.assert_array_equal(one.seen, given["seen"])

    def test_minari_reads_what_was_exported(self, tmp_path, episodes):
        import minari

        made = self.exported(tmp_path, episodes)
        there = minari.load_dataset("arm/push-v0")
        assert there.observation_space == made.observation_spec.space()
        assert there.total_steps == sum(len(e["actions"]) for e in episodes)
        assert "arm/push-v0" in minari.list_local_datasets()
        ours = [e for name in made.splits for e in made.split(name)]
        for one, expected in zip(there.iterate_episodes(), ours, strict=True):
            np.testing.assert_array_equal(one.observations["eye"], expected.observations["eye"])
            np.testing.assert_array_equal(one.observations["joint"], expected.observations["joint"])
            np.testing.assert_array_equal(one.actions, expected.actions)
            np.testing.assert_array_equal(one.rewards, expected.rewards)
            np.testing.assert_array_equal(one.terminations, expected.terminated)
            assert one.terminations[-1] or one.truncations[-1]

    def test_a_round_trip_loses_nothing(self, tmp_path, episodes):
        made = self.exported(tmp_path, episodes)
        main(["import", "arm/push-v0", "--out", str(tmp_path / "again")])
        _, found = held(tmp_path / "again")
        ours = [e for name in made.splits for e in made.split(name)]
        for one, expected in zip(found, ours, strict=True):
            for stream in ("eye", "joint"):
                np.testing.assert_array_equal(
                    one.observations[stream], expected.observations[stream]
                )
            for name in ("actions", "rewards", "terminated", "states", "timestamps"):
                np.testing.assert_array_equal(getattr(one, name), getattr(expected, name))

    def test_rewards_that_were_not_recorded_stay_so(self, tmp_path, episodes):
        plain = [{k: e[k] for k in ("observations", "actions")} for e in episodes]
        data.from_episodes(plain, out=tmp_path / "made")
        main(["data", "export", str(tmp_path / "made"), "--minari", "push-v0"])
        main(["import", "push-v0", "--out", str(tmp_path / "again")])
        _, found = held(tmp_path / "again")
        assert all(one.rewards is None for one in found)

    def test_nothing_stays_of_an_export_that_fails(self, tmp_path, episodes, capsys, monkeypatch):
        self.exported(tmp_path, episodes)
        words = ["data", "export", tmp_path / "made", "--minari"]
        assert "there is a Minari dataset arm/push-v0" in refused([*words, "arm/push-v0"], capsys)
        assert "Minari's ids are" in refused([*words, "no version"], capsys)

        def full(*_):
            raise OSError("no space left")

        monkeypatch.setattr(
            "minari.dataset._storages.hdf5_storage.HDF5Storage.update_episodes", full
        )
        assert "no space left" in refused([*words, "arm/other-v0"], capsys)
        assert [p.name for p in (Path(tmp_path) / "minari" / "arm").iterdir()] == ["push-v0"]


@pytest.mark.parametrize(
    ("white", "dtype", "shape"),
    [
        (1.0, np.float64, (9, 8, 3)),
        (255.0, np.float32, (3, 9, 8)),
        (4000, np.uint16, (9, 8)),
    ],
)
def test_pictures_of_other_dtypes_are_pictures(tmp_path, capsys, white, dtype, shape):
    frames = np.random.default_rng(0).random((6, 11, *shape))
    frames[0].flat[0] = 1
    frames = (frames * white).astype(dtype)
    np.savez(
        tmp_path / "x.npz", camera=frames, actions=np.ones((6, 10, 1)), rewards=np.ones((6, 10))
    )
    words = ["import", str(tmp_path / "x.npz"), "--map", "camera=camera"]
    main([*words, "--out", str(tmp_path / "out")])
    assert f"taken for pictures, white being {white:g}; --amounts camera" in capsys.readouterr().out
    dataset = data.load(tmp_path / "out")
    (stream,) = dataset.observation_spec.streams
    assert stream.kind == "pixels" and sorted(stream.shape[:2]) == [8, 9]
    shown = np.concatenate([e.observations for name in dataset.splits for e in dataset.split(name)])
    assert shown.max() == 1.0
    assert shown.mean() == pytest.approx(frames.mean() / white, abs=1e-5)
    main([*words, "--amounts", "camera", "--out", str(tmp_path / "numbers")])
    (stream,) = data.load(tmp_path / "numbers").observation_spec.streams
    assert stream.kind != "pixels"


def test_negative_arrays_are_no_pictures(tmp_path, capsys):
    field = np.random.default_rng(0).normal(size=(6, 11, 9, 8))
    np.savez(tmp_path / "x.npz", field=field, actions=np.ones((6, 10, 1)), rewards=np.ones((6, 10)))
    main(["import", str(tmp_path / "x.npz"), "--map", "f=field", "--out", str(tmp_path / "out")])
    assert "taken for numbers, not for pictures" in capsys.readouterr().out


def test_a_recording_that_is_no_dataset_yet_is_answered_by_import(tmp_path, capsys):
    """What a newcomer does first."""
    (tmp_path / "maze.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    for path in (tmp_path / "maze.hdf5", tmp_path):
        with pytest.raises(SystemExit):
            main(["train", str(path), "--run", str(tmp_path / "run")])
        assert "'worldmodel import' makes" in capsys.readouterr().err
