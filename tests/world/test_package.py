import subprocess
import sys

import gymnasium as gym
import pytest

import worldmodel
from worldmodel.errors import FileFormatError, SpecError


def test_public_names_are_there():
    for name in worldmodel.__all__:
        assert getattr(worldmodel, name)
    assert worldmodel.__version__[0].isdigit()


def test_importing_registers_and_leaves_the_extras_alone():
    script = (
        "import sys, worldmodel, gymnasium as gym\n"
        "heavy = {'pygame', 'stable_baselines3', 'matplotlib', 'tensorboard', 'envs', 'agents'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert gym.spec('worldmodel/Latent-v0')\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_gymnasium_can_import_the_package_by_itself(checkpoint):
    env = gym.make("worldmodel:worldmodel/Latent-v0", checkpoint=checkpoint)
    assert isinstance(env.unwrapped, worldmodel.LatentEnv)
    world = worldmodel.load(checkpoint)
    assert world.model.latent_size == env.observation_space.shape[0]


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_a_dream_of_nothing_says_what_to_pass(make):
    with pytest.raises(SpecError, match=r"checkpoint must be a world, its folder, or one of"):
        make("worldmodel/Latent-v0")


def test_a_damaged_checkpoint_is_said(checkpoint, tmp_path):
    folder = tmp_path / "damaged"
    worldmodel.load(checkpoint).save(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    for make in (gym.make, gym.make_vec):
        with pytest.raises(FileFormatError):
            make("worldmodel/Latent-v0", checkpoint=str(folder))


def test_an_unknown_id_is_said():
    with pytest.raises(gym.error.NameNotFound, match="LatentPendulum"):
        gym.make("worldmodel/LatentPendulums-v0")
