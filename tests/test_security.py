"""What SECURITY.md promises: a pickle in the place of a file of ours is never unpickled."""

import base64
import contextlib
import io
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from old_files import write_old, written_before
from PIL import Image
from small import BOX, PIXELS, VECTOR, random_dataset, tiny_model

from agents.learner import ActorCritic
from agents.planning import Planner
from agents.policy import Policy
from agents.sac import DreamtSAC, SACConfig
from agents.saved import load_agent
from worldmodel import data
from worldmodel.cli.goals import read_observation
from worldmodel.cli.runs import policy_of
from worldmodel.data.readers import mapping
from worldmodel.data.requests import Requests
from worldmodel.errors import FileFormatError, FolderInUse
from worldmodel.evaluation.snapshots import Snapshots
from worldmodel.files import locked, read_json, write_json
from worldmodel.plots import page
from worldmodel.plots.learning import read_progress
from worldmodel.training.config import TrainConfig
from worldmodel.training.growing import read_beside
from worldmodel.training.settings import read_settings
from worldmodel.training.state import read_history
from worldmodel.training.trainer import Trainer
from worldmodel.world.calibration import new_trust
from worldmodel.world.trust import TrustConfig
from worldmodel.world.world import World, load


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def pickled(evil: Evil, whole: bytes) -> bytes:
    return pickle.dumps(evil)


def saved_by_torch(evil: Evil, whole: bytes) -> bytes:
    file = io.BytesIO()
    torch.save({"model": evil, "identity": evil}, file)
    return file.getvalue()


def saved_by_torch_of_old(evil: Evil, whole: bytes) -> bytes:
    file = io.BytesIO()
    torch.save(evil, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def array(evil: Evil, whole: bytes) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([evil, None], object), allow_pickle=True)
    return file.getvalue()


def within(evil: Evil, whole: bytes) -> bytes:
    """The archive that is there, each array of which is of objects now; or an archive of one."""
    file = io.BytesIO()
    entries = {"latents.npy": b""}
    if zipfile.is_zipfile(io.BytesIO(whole)):
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            objects = name.endswith((".npy", ".pkl"))
            replaced = array(evil, b"") if name.endswith(".npy") else pickle.dumps(evil)
            archive.writestr(name, replaced if objects else content)
    return file.getvalue()


DISGUISES = [pickled, saved_by_torch, saved_by_torch_of_old, array, within]


def algorithms(evil: Evil, weights: bool = False) -> bytes:
    """An algorithm of Stable-Baselines3 with other pickled settings, or other weights, too."""
    pytest.importorskip("stable_baselines3")
    from stable_baselines3 import SAC

    file, result = io.BytesIO(), io.BytesIO()
    space = gym.spaces.Box(-1, 1, (3,), np.float32)
    SAC("MlpPolicy", Still(space), device="cpu", buffer_size=1).save(file)
    content = base64.b64encode(pickle.dumps(evil)).decode()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(result, "w") as new:
        for name in old.namelist():
            told = old.read(name)
            if name == "data":
                settings = json.loads(told)
                for value in settings.values():
                    if isinstance(value, dict) and ":serialized:" in value:
                        value[":serialized:"] = content
                told = json.dumps(settings).encode()
            elif weights and name.endswith(".pth"):
                told = saved_by_torch(evil, b"")
            new.writestr(name, told)
    return result.getvalue()


class Still(gym.Env):
    """Has the spaces of a tiny model."""

    def __init__(self, space):
        self.observation_space = space
        self.action_space = BOX.space()


@pytest.mark.parametrize("reader", ["of a run", "going on"])
def test_an_algorithm_of_a_run_is_not_unpickled(reader, tmp_path):
    mark, file = tmp_path / "mark", tmp_path / "sac.zip"
    file.write_bytes(algorithms(Evil(mark)))
    world = World(tiny_model(VECTOR, BOX))
    if reader == "of a run":
        agent = policy_of(tmp_path, world)
    else:
        agent = DreamtSAC(SACConfig(), 0).restore(file.read_bytes(), world)
    action, _ = agent.predict(np.zeros((2, 3), np.float32), deterministic=True)
    assert action.shape == (2, 2) and not mark.exists()
    stable_baselines3 = pytest.importorskip("stable_baselines3")
    with contextlib.suppress(Exception):  # whatever follows from a folder in the place of a space
        stable_baselines3.SAC.load(file, device="cpu")
    assert mark.exists()  # by what we do not call


@pytest.mark.parametrize("disguise", [*DISGUISES, "weights"])
def test_a_pickle_in_the_place_of_an_algorithm_is_refused(disguise, tmp_path):
    mark, file = tmp_path / "mark", tmp_path / "sac.zip"
    evil, world = Evil(mark), World(tiny_model(VECTOR, BOX))
    content = algorithms(evil, True) if disguise == "weights" else disguise(evil, b"")
    file.write_bytes(content)
    with pytest.raises(FileFormatError):
        policy_of(tmp_path, world)
    with pytest.raises(FileFormatError):
        DreamtSAC(SACConfig(), 0).restore(content, world)
    assert not mark.exists()


def test_of_a_lock_nothing_is_unpickled(tmp_path):
    """Whoever holds it may have written anything."""
    with locked(tmp_path):
        (tmp_path / ".lock").write_bytes(pickle.dumps(Evil(tmp_path / "mark")))
        with pytest.raises(FolderInUse, match="another process"), locked(tmp_path):
            pass
    assert not (tmp_path / "mark").exists()


def trainer(folder):
    config = TrainConfig(updates=2, batch_size=4, window=3, validate_every=1, tensorboard=False)
    return Trainer(tiny_model(VECTOR, BOX), random_dataset(VECTOR, BOX), config, folder)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A folder with one of each file."""
    tmp_path = tmp_path_factory.mktemp("original")
    trainer(tmp_path).fit(progress=False)
    data.save(random_dataset(VECTOR, BOX), tmp_path / "data")
    Policy(torch.zeros(3), torch.ones(3), BOX, *torch.zeros(2, 2), 4).save(
        tmp_path / "policy.safetensors"
    )
    (tmp_path / "snapshots").mkdir()
    np.savez(tmp_path / "snapshots" / "0000001.npz", latents=np.zeros((2, 3)))
    np.save(tmp_path / "actions.npy", np.zeros((2, 2), np.float32))
    np.save(tmp_path / "goal.npy", np.zeros(3, np.float32))
    for name in ("goal.png", "strips.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    timed = {"timestamps": np.arange(6) / 10, "seen": np.arange(6) != 3}
    timed |= {"observations": np.zeros((6, 3), np.float32), "actions": np.zeros((5, 2), np.float32)}
    timed |= {"terminated": np.arange(5) == 4, "truncated": np.zeros(5, bool)}
    data.from_episodes([timed], out=tmp_path / "timed", splits={"train": 1.0})
    write_json(tmp_path / "mapping.json", {"actions": ["a"]})
    for name in ("metrics.json", "verdict.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "progress.jsonl").write_text('{"round": 0}\n')
    (tmp_path / "beside" / "training").mkdir(parents=True)
    torch.save({"beside": {}}, tmp_path / "beside" / "training" / "state.pt")
    source = data.Source("worldmodel/Pendulum-v0")
    Requests(source, True, 0.1, ()).write(tmp_path / "requests.json")
    write_old(written_before(random_dataset(VECTOR, BOX)), tmp_path / "old.npz")
    world = load(tmp_path)
    world.trust = new_trust(world, 3, TrustConfig())
    world.save(tmp_path / "trusted")
    Planner(world, "cem").save(tmp_path / "planner.safetensors")
    ActorCritic.begin(world, 4, 0).save(tmp_path / "learner.safetensors")
    return tmp_path


@pytest.fixture
def run(original, tmp_path) -> Path:
    return shutil.copytree(original, tmp_path / "run")


def dataset(run: Path, name: str = "data") -> None:
    data.load(run / name).verify()


# Of each split of a dataset.
PART = ["part.json", "lengths.npy", "digests.npy"]
PART += [
    f"{name}.npy" for name in "observations.observation actions rewards terminated states".split()
]
TIMED = ["part.json", "lengths.npy", "digests.npy", "observations.observation.npy"]
TIMED += [f"{name}.npy" for name in "actions terminated truncated timestamps seen".split()]
READERS = {
    "checkpoint/config.json": load,
    "checkpoint/model.safetensors": load,
    "checkpoint/metrics.json": load,
    "settings.json": read_settings,
    "metrics.json": lambda run: read_json(run / "metrics.json"),
    "training/state.pt": trainer,
    "training/state.pt ": read_history,
    "data/dataset.json": dataset,
    **{f"data/parts/{n:06d}/{name}": dataset for n in range(2) for name in PART},
    "timed/dataset.json": partial(dataset, name="timed"),
    **{f"timed/parts/000000/{name}": partial(dataset, name="timed") for name in TIMED},
    "goal.png": lambda run: read_observation(run / "goal.png", PIXELS),
    "strips.png": lambda run: page.picture(run / "strips.png", ""),
    "old.npz": lambda run: data.load(run / "old.npz"),
    "requests.json": lambda run: Requests.read(run / "requests.json"),
    "policy.safetensors": lambda run: Policy.load(run / "policy.safetensors"),
    "planner.safetensors": lambda run: load_agent(run / "planner.safetensors", load(run)),
    "learner.safetensors": lambda run: ActorCritic.load(run / "learner.safetensors"),
    "trusted/config.json": lambda run: load(run / "trusted"),
    "trusted/model.safetensors": lambda run: load(run / "trusted"),
    "trusted/metrics.json": lambda run: load(run / "trusted"),
    "verdict.json": lambda run: read_json(run / "verdict.json"),
    "progress.jsonl": read_progress,
    "mapping.json": lambda run: mapping.parse([str(run / "mapping.json")]),
    "goal.npy": lambda run: read_observation(run / "goal.npy", VECTOR),
    "beside/training/state.pt": lambda run: read_beside(run / "beside"),
    "snapshots/0000001.npz": lambda run: Snapshots.read(run / "snapshots"),
    "actions.npy": lambda run: data.Given.read(run / "actions.npy", BOX),
}
# README.md is for people; of a lock only JSON is read, to say whose it is.
UNREAD = {"checkpoint/README.md", "trusted/README.md", "training/.lock"}
UNREAD |= {"data/.lock", "timed/.lock"}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_the_disguises_would_run(disguise, tmp_path):
    """Else the others would prove nothing."""
    mark = tmp_path / "mark"
    content = disguise(Evil(mark), b"")
    if disguise is array or disguise is within:
        loaded = np.load(io.BytesIO(content), allow_pickle=True)
        if disguise is within:
            loaded["latents"]
    else:
        torch.load(io.BytesIO(content), weights_only=False) if disguise is not pickled else (
            pickle.loads(content)
        )
    assert mark.exists()


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("name", READERS)
def test_a_disguised_pickle_is_refused_and_not_run(name, disguise, run, tmp_path):
    READERS[name](run)
    file, mark = run / name.strip(), tmp_path / "mark"
    file.write_bytes(disguise(Evil(mark), file.read_bytes()))
    with pytest.raises(FileFormatError):
        READERS[name](run)
    assert not mark.exists()


def test_every_file_of_a_run_is_tried(run):
    written = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert written == {name.strip() for name in READERS} | UNREAD


JSON = [name for name in READERS if name.endswith(".json")]


@pytest.mark.parametrize("name", JSON)
def test_deep_json_is_refused(name, run):
    (run / name).write_text("[" * 100_000)
    with pytest.raises(FileFormatError):
        READERS[name](run)


@pytest.mark.parametrize("name", ["goal.png", "strips.png"])
def test_a_picture_that_would_fill_memory_or_is_cut_off_is_refused(name, run):
    """A bomb is small on the disk."""
    whole = (run / name).read_bytes()
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    for content in (whole[:8] + bomb + whole[33:], whole[:40]):
        (run / name).write_bytes(content)
        with pytest.raises(FileFormatError, match="truncated, corrupt or no picture"):
            READERS[name](run)
