"""A server that starts `python run.py ...` processes quickly: run as a script by the `door` fixture of conftest.py.

Importing what others wrote takes seconds; this process does it once and forks itself for every command. Nothing of dln
is loaded before the fork, and nothing of Hydra used, so that a command runs as from a shell: its own process, working
directory, environment, streams and exit status.

One JSON object a line comes in: argv, cwd, env, stdout, stderr (paths), report (a path without suffix). The command's
process id is written to report.pid and, when it has ended, its exit status (negative: a signal) to report.status.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import sys
from pathlib import Path

MODULES = ("hydra.main", "hydra._internal.hydra", "rich.progress", "torch._dynamo", "pyarrow.dataset")
"""What commands import, sooner or later, and what starts no threads, which a fork would lose; jemalloc, which pyarrow
brings, does without its own from then on."""


def preload() -> None:
    import torch
    from numba.core.registry import cpu_target

    for name in MODULES:
        importlib.import_module(name)
    torch.set_num_threads(1)
    cpu_target.target_context.refresh()  # numba's tables of what it can compile
    gc.collect()
    gc.freeze()  # no command looks for rubbish in what was here before it


def serve(bytecode: str) -> None:
    """Serve what comes in; what commands import is compiled once, to a directory, whatever the environment says."""
    preload()
    sys.dont_write_bytecode, sys.pycache_prefix = False, bytecode
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors need nobody to wait for them
    for line in sys.stdin:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _supervise(json.loads(line))
            os._exit(0)
    os._exit(0)  # torch takes its time to leave otherwise


def _supervise(request: dict) -> None:
    worker = os.fork()
    if worker == 0:
        _become(request)
    _write(request["report"] + ".pid", worker)
    _write(request["report"] + ".status", os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]))


def _write(path: str, number: int) -> None:
    Path(path + "~").write_text(str(number), encoding="utf-8")
    Path(path + "~").rename(path)


def _become(request: dict) -> None:
    """Turn this process into the command, as if Python had just been started with it."""
    for descriptor, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["stdout"], os.O_WRONLY | os.O_CREAT | os.O_NOCTTY),
        (2, request["stderr"], os.O_WRONLY | os.O_CREAT | os.O_NOCTTY),
    ):
        os.dup2(os.open(path, flags, 0o644), descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = request["argv"]
    extra = [p for p in request["env"].get("PYTHONPATH", "").split(os.pathsep) if p]
    sys.path[:] = [str(Path(sys.argv[0]).parent), *extra, *sys.path[1:]]
    status = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    loky = sys.modules.get("joblib.externals.loky.reusable_executor")
    if loky is not None and loky._executor is not None:  # what joblib does when Python ends, its workers with it
        loky._executor.shutdown(kill_workers=True)
    os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
