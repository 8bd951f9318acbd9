"""A finished smoke run, made once a session the way a user makes it: by a recipe, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run_python(*arguments: str | Path, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess:
    """`python ARGUMENTS...` in the project's folder, without EDVIT_DATA; output as text."""
    kept = {k: v for k, v in os.environ.items() if k != "EDVIT_DATA"}
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, env={**kept, **environment}, text=True,
                          capture_output=True, timeout=timeout, check=False)


SMOKE = ("recipes/mnist.py", "--smoke", "--synthetic")


@pytest.fixture(scope="session")
def smoke_bundle(tmp_path_factory) -> Path:
    """Bundle of `recipes/mnist.py --smoke --synthetic`: two sub-models, made in one unbroken run."""
    out = tmp_path_factory.mktemp("smoke") / "mnist"
    done = run_python(*SMOKE, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out
