"""Systems other than Linux: what is installed there, and that it imports there."""

import numpy as np
import pytest
from packaging.markers import Marker

from tests.support.commands import ROOT, run_host, run_python

SYSTEMS = ("linux", "darwin", "win32")
PYTHONS = ("3.11", "3.12", "3.13")

# Modules, functions and signals that only Unix has, or only Linux. numpy, asyncio and TensorFlow
# are loaded before those of the system go: they have forms of their own for each.
HIDE = """
import asyncio, importlib, multiprocessing, os, shutil, signal, ssl, subprocess, sys, tempfile
import grpc, numpy
import librosa, scipy.optimize
for name in ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
for name in ("O_DIRECTORY", "O_NOFOLLOW", "chown", "fork", "geteuid", "getpgid", "getuid", "killpg",
             "mkfifo", "posix_fadvise", "POSIX_FADV_DONTNEED", "sched_getaffinity", "setsid",
             "statvfs", "uname"):
    vars(os).pop(name, None)
for name in ("SIGALRM", "SIGBUS", "SIGCONT", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGSTOP", "SIGUSR1",
             "pthread_sigmask", "setitimer"):
    vars(signal).pop(name, None)
"""


def extra(name: str, **options) -> list[str]:
    """What `pip install edvit-tf[NAME]` asks for on a system, without the versions."""
    import setuptools

    given = {}
    patched = pytest.MonkeyPatch()
    with patched.context() as patch:
        patch.setattr(setuptools, "setup", given.update)
        patch.chdir(ROOT)
        exec(
            compile((ROOT / "setup.py").read_text("utf-8"), ROOT / "setup.py", "exec"),
            dict(__file__=str(ROOT / "setup.py")),
        )

    wanted = []
    for line in given["extras_require"][name]:
        requirement, _, marker = line.partition(";")
        if not marker or Marker(marker).evaluate(options):
            wanted.append(requirement.strip())
    return wanted


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("name", ["device", "aggregator", "host"])
def test_every_system_gets_a_runtime_that_has_wheels_for_it(name, system, python):
    """tflite-runtime has them for Linux and Python 3.11 alone."""
    wanted = extra(name, sys_platform=system, python_version=python)
    tflite = "tflite-runtime==2.14.0" in wanted
    litert = any(line.startswith("ai-edge-litert") for line in wanted)
    assert tflite == (system == "linux" and python == "3.11")
    assert litert or tflite


def hidden(code: str) -> str:
    """What code prints where TensorFlow is loaded, and what only Unix has is not."""
    done = run_host("-c", f"{HIDE}\n{code}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_imports_on_every_system():
    """Training, `edvit plan`, `audit` and `report` are for macOS and Windows too; servers that need
    Unix say so when they start.
    """
    code = """
from pathlib import Path
count = 0
for path in sorted(Path("edvit_tf").rglob("*.py")):
    name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    # a command, which runs when it is imported
    if name.endswith("__main__"):
        continue
    try:
        importlib.import_module(name)
        count += 1
    except ModuleNotFoundError as error:
        if error.name != "torch":  # of an extra that few install
            raise
print(count)
"""
    assert int(hidden(code)) > 150


@pytest.mark.parametrize("option", [(), ("--unprivileged",)])
def test_a_model_runs_where_there_is_no_proc(option, tiny_bundle, tmp_path):
    """There an open file has no name by which a runtime could open it again."""
    np.savez(tmp_path / "in.npz", image=np.zeros((2, 16, 16, 1), np.uint8))
    words = [tiny_bundle / "submodel-00.tflite", tmp_path / "in.npz", tmp_path / "out.npz", *option]
    done = run_python(
        "-c",
        f"""
from edvit_tf.device.model import runtime, subprocess_main
found = runtime.interpreter_class

class Interpreter(found()):
    def __init__(self, model_path=None, **options):
        assert not str(model_path).startswith("/proc"), model_path
        super().__init__(model_path=model_path, **options)

runtime.interpreter_class = lambda name=None: Interpreter
raise SystemExit(subprocess_main.main({[str(word) for word in words]}))
""",
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out.npz") as answers:
        assert len(answers["logits"]) == 2


def test_a_plan_is_made_on_every_system():
    code = """
from edvit_tf.cli.main import main
raise SystemExit(main(["plan", "--model", "vit_base", "--devices", "5", "--budget", "180MiB"]))
"""
    assert "submodel-04" in hidden(code)
