"""Machines behind a network of their own: namespaces on this machine (`netlab.sh`)."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

NETLAB = Path(__file__).parent / "netlab.sh"
CANNOT = 77  # exit code of scripts that this machine cannot run
HUB, DEVICE = "10.77.0.1", "10.77.0.1{}"


def netlab(*arguments: str) -> None:
    done = subprocess.run(
        [NETLAB, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode == CANNOT:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def network(count: int, rate: str, delay_ms: int):
    netlab("up", count, rate, delay_ms)
    try:
        yield
    finally:
        netlab("down")


def inside(name: str, *command: str) -> list[str]:
    return [str(NETLAB), "exec", name, sys.executable, "-m", *map(str, command)]
