"""A killed worker costs nothing: sweeps on a real Slurm and a real Ray, which the tests start on this machine.

Skipped where those are not installed. Slurm: Debian's slurmctld, slurmd and slurm-client, beside requirements-dev.txt.
Ray: an environment of its own with requirements-ray.txt.
"""

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from dln.results.frames import load_sweep
from dln.sweeps.jobs import JOBS
from tests.sweeps.test_driver import SMALL, children

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[1]

GRID = ["-m", *SMALL, "training.model_seed=0..799", "max_steps=20000", "evaluate_every=1000"]


def assert_as_without_a_launcher(door, directory):
    undisturbed = door.run(directory, *GRID, "hydra.sweep.dir=there")
    assert undisturbed.status == 0, undisturbed.err
    frame = load_sweep(directory / "here")
    assert len(frame) == 800
    assert_frame_equal(frame, load_sweep(directory / "there"))


# --- Slurm

CONF = """
ClusterName=dln
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
SlurmdUser={user}
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
NodeName={host} NodeAddr=127.0.0.1 CPUs=2
PartitionName=cpu Nodes=ALL Default=YES
"""
"""Two cores, no accounting; heard on 127.0.0.1 only, and by nobody without the munge key, which we alone can read."""


@pytest.fixture
def slurm(waiting, monkeypatch):
    """A Slurm of this test's own; returns the environment in which its commands find it."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"Slurm is not installed: no {', '.join(missing)}")
    started = []
    with tempfile.TemporaryDirectory(prefix="dln-slurm-") as name:  # mode 700; a short path, for the socket's sake
        folder = Path(name)
        names = {"host": socket.gethostname().partition(".")[0], "user": getpass.getuser(), "ports": free_ports(2)}
        (folder / "slurm.conf").write_text(CONF.format(folder=folder, **names), encoding="utf-8")
        (folder / "state").mkdir()
        (folder / "spool").mkdir()
        (folder / "munge.key").write_bytes(secrets.token_bytes(128))
        (folder / "munge.key").chmod(0o600)
        environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        monkeypatch.setenv("SLURM_CONF", environment["SLURM_CONF"])

        def start(*command):
            with (folder / f"{command[0]}.out").open("wb") as out:
                started.append(subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL))

        def said():
            return "\n".join(path.read_text(encoding="utf-8") for path in folder.glob("*.out"))

        def ready(command, answer):
            assert all(process.poll() is None for process in started), said()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            return done.returncode == 0 and done.stdout.strip() == answer

        places = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid"}
        places |= {"log-file": "munge.log", "seed-file": "munge.seed"}
        # --force: that only we reach the socket is what munged would refuse
        start("munged", "--foreground", "--force", *(f"--{option}={folder / at}" for option, at in places.items()))
        try:
            waiting(lambda: (folder / "munge.socket").exists() or started[0].poll() is not None, "munged")
            start("slurmctld", "-D")
            start("slurmd", "-D")
            waiting(lambda: ready(["sinfo", "--noheader", "--format=%T"], "idle"), "Slurm")
            yield environment
            subprocess.run(["scancel", f"--user={names['user']}"], check=False)  # what a failed test has left
            waiting(lambda: ready(["squeue", "--noheader"], ""), "Slurm's jobs to end")
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait(30)


def free_ports(count):
    """Numbers of ports of 127.0.0.1 that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def slurm_worker(directory):
    """Some process of a job of the sweep in `directory` that has given a sign of life and is not done, or None."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().split(b"\0")
            variables = (path / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if b"submitit.core._submit" not in command or b"python" not in command[0]:
            continue  # srun's command holds the worker's
        if not any(argument.startswith(bytes(directory)) for argument in command):
            continue
        (number,) = (v.partition(b"=")[2].decode() for v in variables if v.startswith(b"SLURM_ARRAY_TASK_ID="))
        alive = list((directory / JOBS).glob(f"*.{number}.alive"))
        if alive and not any(sign.with_suffix(".done").exists() for sign in alive):
            return int(path.name)
    return None


def test_slurm(slurm, door, waiting, tmp_path):
    argv = ["hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.sweeper.members=200"]
    process = door.start(tmp_path, *GRID, *argv, "hydra.sweeper.patience=15", "hydra.sweep.dir=here", **slurm)
    here, found = tmp_path / "here", []
    waiting(lambda: list((here / "parts").glob("*.parquet")), "a part")
    waiting(lambda: found.append(slurm_worker(here)) or found[-1], "a job at work")
    os.kill(found[-1], signal.SIGKILL)
    result = process.wait()
    assert result.status == 0, result.err + result.out
    assert "1 of 4 jobs died" in result.out + result.err
    assert "launched again" in result.out + result.err
    assert (result.out + result.err).count("accounts") == 1  # there are none, which is said once
    assert_as_without_a_launcher(door, tmp_path)


# --- Ray


def ray_worker(driver):
    """Some worker of the driver's Ray that computes a job, or None."""
    for pid, title in children(driver).items():
        if title.startswith(b"ray::_run_job"):  # an idle one is called ray::IDLE
            return pid
    return None


def test_ray(door, waiting, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed (requirements-ray.txt, in an environment of its own)")
    with tempfile.TemporaryDirectory(prefix="dln-ray-") as folder, (tmp_path / "said").open("wb") as said:
        settings = {"num_cpus": 2, "include_dashboard": "false", "_temp_dir": folder}  # short, for its sockets' sake
        argv = ["hydra/launcher=ray", *(f"+hydra.launcher.ray.init.{key}={value}" for key, value in settings.items())]
        # a token, else Ray writes one to our home; no statistics sent to its makers
        ours = {"RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(ROOT / "run.py"), *GRID, *argv, "hydra.sweeper.members=50"]
        # not through the door, whose processes leave without the last words by which Ray's daemons end
        process = subprocess.Popen(
            [*command, "hydra.sweep.dir=here"], cwd=tmp_path, env=os.environ | ours, stdout=said, stderr=said
        )
        try:
            waiting(lambda: list((tmp_path / "here" / "parts").glob("*.parquet")), "a part")
            found = []
            waiting(lambda: found.append(ray_worker(process.pid)) or found[-1], "a worker at work")
            os.kill(found[-1], signal.SIGKILL)
            status = process.wait(300)
        finally:
            process.terminate()
            process.wait(30)
    assert status == 0, (tmp_path / "said").read_text(encoding="utf-8")
    assert_as_without_a_launcher(door, tmp_path)
