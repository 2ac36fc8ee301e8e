"""What results were made with stands beside them, and finding it out never gets in the way."""

import json
import os
import platform
import subprocess

import numba
import numpy as np
import pytest
import torch

import dln
from dln.base.provenance import ROOT, commit_of, linear_algebra, processor, provenance
from dln.results import sweep
from dln.results.frames import merge_sweeps
from dln.results.sweep import SweepStore
from dln.sweeps.driver import run_sweep
from dln.sweeps.jobs import JOBS, made_with
from tests.sweeps.test_driver import plan_of


def git(folder, *arguments):
    who = ["-c", "user.name=x", "-c", "user.email=x", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_versions_are_those_in_use():
    """But for what torch says of its build, which packages of some registries keep to themselves: 2.13.0+cu130."""
    told = provenance()
    for name, module in {"numpy": np, "torch": torch, "numba": numba, "dln": dln}.items():
        assert told[name].partition("+")[0] == module.__version__.partition("+")[0]
    assert told["python"] == platform.python_version()
    assert told["processor"]
    assert "openblas" in told["blas"] or "mkl" in told["blas"] or told["blas"] == "unknown"
    assert (told["commit"] is not None) == (ROOT / ".git").exists()


def test_linear_algebra_is_numpys_whatever_else_is_loaded(monkeypatch):
    """Scipy brings one of its own, loaded before numpy's in some processes and after it in others."""
    numpys = {
        "internal_api": "openblas",
        "version": "0.3.31",
        "architecture": "Haswell",
        "filepath": "x/numpy.libs/a.so",
    }
    scipys = {
        "internal_api": "openblas",
        "version": "0.3.30",
        "architecture": "Haswell",
        "filepath": "x/scipy.libs/a.so",
    }
    systems = [{**lib, "filepath": f"/usr/lib/{i}.so"} for i, lib in enumerate([numpys, scipys])]
    for loaded, named in [
        ([numpys], "openblas 0.3.31 Haswell"),
        ([numpys, scipys], "openblas 0.3.31 Haswell"),
        ([scipys, numpys], "openblas 0.3.31 Haswell"),
        (systems, "openblas 0.3.30 Haswell, openblas 0.3.31 Haswell"),
        (systems[::-1], "openblas 0.3.30 Haswell, openblas 0.3.31 Haswell"),
        ([], "unknown"),
    ]:
        monkeypatch.setattr("threadpoolctl.ThreadpoolController.info", lambda self, found=loaded: found)
        monkeypatch.setattr("threadpoolctl.ThreadpoolController.select", lambda self, **kw: self)
        assert linear_algebra() == named


def test_a_commit_and_what_differs_from_it(tmp_path, monkeypatch):
    assert commit_of(tmp_path) == (None, None)
    git(tmp_path, "init", "-q")
    assert commit_of(tmp_path) == (None, None)  # nothing is committed yet
    (tmp_path / "file").write_text("1", encoding="utf-8")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "x")
    git(tmp_path, "tag", "-am", "x", "v1")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert commit_of(tmp_path) == (commit, False)
    (tmp_path / "file").write_text("2", encoding="utf-8")
    assert commit_of(tmp_path) == (commit, True)
    assert commit_of(tmp_path / "inner") == (None, None)  # somebody else's repository
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit_of(tmp_path) == (None, None)  # there is no git


def test_a_processor_has_a_name_everywhere(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor: 0\nmodel name\t: Fast One\nmodel name\t: Other\n", encoding="utf-8")
    assert processor(tmp_path / "cpuinfo") == "Fast One"
    (tmp_path / "cpuinfo").write_text("processor: 0\nCPU part: 0xd0c\n", encoding="utf-8")  # as on ARM
    assert processor(tmp_path / "cpuinfo") in (platform.processor(), platform.machine())
    assert processor(tmp_path / "nothing") in (platform.processor(), platform.machine())


@pytest.mark.parametrize("engine", ["autograd", "compiled"])
def test_a_run_says_what_it_was_made_with(tmp_path, engine):
    dln.run_experiment({"max_steps": 1, "engine": engine}, directory=tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["provenance"] == provenance()


def test_a_sweep_lists_all_that_computed_it(tmp_path, monkeypatch):
    def signed(directory="here"):
        return SweepStore(tmp_path / directory).description()["provenance"]

    def elsewhere():
        return {**provenance(), "processor": "another"}

    run_sweep(plan_of("training.lr=0.1,0.2"), tmp_path / "here")
    assert signed() == [provenance()]
    monkeypatch.setattr("dln.sweeps.driver.provenance", elsewhere)
    run_sweep(plan_of("training.lr=0.1,0.2"), tmp_path / "here")
    assert signed() == [provenance()]  # nothing was computed
    for _ in range(2):
        run_sweep(plan_of("training.lr=0.1,0.2,0.3"), tmp_path / "here")
        assert signed() == [provenance(), elsewhere()]
    run_sweep(plan_of("training.lr=0.4"), tmp_path / "there")
    merge_sweeps([tmp_path / "there", tmp_path / "here"], tmp_path / "both")
    assert signed("both") == [elsewhere(), provenance()]


def test_a_sweep_of_an_earlier_version_goes_on(tmp_path):
    run_sweep(plan_of("training.lr=0.1"), tmp_path)
    path = tmp_path / sweep.SWEEP
    told = json.loads(path.read_text(encoding="utf-8"))
    del told["provenance"], told["digest"]
    path.write_text(json.dumps(told), encoding="utf-8")
    run_sweep(plan_of("training.lr=0.1,0.2"), tmp_path)
    now = SweepStore(tmp_path).description()
    assert now["provenance"] == [provenance()]
    assert now["fixed"].items() < told["fixed"].items()  # the rate is not fixed any more


@pytest.mark.long
def test_workers_of_a_launcher_sign_for_themselves(door, tmp_path):
    argv = ["-m", "training.lr=0.1,0.2", "max_steps=2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1"]
    result = door.run(tmp_path, *argv, "hydra.sweep.dir=s", **{k: v for k, v in os.environ.items() if "BLAS" in k})
    assert result.status == 0, result.err
    (each,) = SweepStore(tmp_path / "s").description()["provenance"]
    assert each == provenance()
    sign, *others = sorted((tmp_path / "s" / JOBS).glob("*.alive"))
    sign.write_text(sign.read_text(encoding="utf-8")[:20], encoding="utf-8")  # of a worker that died while it wrote
    assert made_with(tmp_path / "s") == [provenance()] * len(others)
