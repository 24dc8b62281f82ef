"""Work in processes, by whichever engine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from worldmodel.errors import ConfigError, MissingExtraError, WorkerError
from worldmodel.parallel import run_all


def square(number: int) -> int:
    if number == 7:
        raise ConfigError("seven")
    return number**2


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def linger(folder: Path, number: int) -> None:
    (folder / f"{os.getpid()}").touch()
    time.sleep(60)


def test_one_at_a_time_is_done_here_and_in_order():
    assert list(run_all(square, [1, 2, 3])) == [1, 4, 9]
    assert list(run_all(lambda _: os.getpid(), [0])) == [os.getpid()]


def test_joblib_gives_all_and_the_error_of_one():
    assert sorted(run_all(square, range(5), 2)) == [0, 1, 4, 9, 16]
    with pytest.raises(ConfigError, match="seven"):
        list(run_all(square, [1, 7], 2))


def test_a_process_that_dies_is_said():
    with pytest.raises(WorkerError, match="a process has died"):
        list(run_all(die, [0, 1], 2))


def test_a_missing_engine_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for engine, extra in (("ray", "ray"), ("joblib", "sweep")):
        with pytest.raises(MissingExtraError, match=rf"'{engine}' .*worldmodel\[{extra}\]"):
            list(run_all(square, [1, 2], 2, engine))
    with pytest.raises(ConfigError, match="parallel must be at least 1, got 0"):
        list(run_all(square, [1], 0))


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_processes_end_with_the_one_that_asked(tmp_path):
    here = str(Path(__file__).parent)
    code = (
        f"import sys; sys.path.insert(0, {here!r})\n"
        "from functools import partial; from pathlib import Path\n"
        "from test_parallel import linger; from worldmodel.parallel import run_all\n"
        f"list(run_all(partial(linger, Path({str(tmp_path)!r})), [0, 1], 2))"
    )
    asking = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 120
    while len(working := [int(p.name) for p in tmp_path.iterdir()]) < 2:
        assert time.monotonic() < deadline and asking.poll() is None
        time.sleep(0.1)
    asking.kill()
    asking.wait()
    while any(map(_lives, working)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _lives(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_ray_cluster_of_this_machine_gives_all_and_the_error_of_one(monkeypatch):
    ray = pytest.importorskip("ray")
    # Whoever started the cluster ends it; its workers must find this module.
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, *sys.path]))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        assert sorted(run_all(square, [1, 2, 3, 4], 2, "ray")) == [1, 4, 9, 16]
        with pytest.raises(ConfigError, match="seven"):
            list(run_all(square, [7], 1, "ray"))
        assert ray.is_initialized()
    finally:
        ray.shutdown()
