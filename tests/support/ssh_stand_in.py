"""A stand-in for ssh that runs the command here, for `edvit push` with the real rsync and the real
update.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.commands import ROOT, run_host

SSH = """#!/bin/sh
# The only host is "pi", whose home is $PI_HOME.
if [ "$1" != pi ]; then echo "ssh: Could not resolve hostname $1" >&2; exit 255; fi
shift
cd "$PI_HOME" && exec sh -c "$*"
"""
needs_rsync = pytest.mark.skipif(
    shutil.which("rsync") is None, reason="rsync is not installed here"
)


def device_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Home of a device "pi"; `ssh` on PATH leads there until the end of the test."""
    home, programs = folder / "home", folder / "bin"
    home.mkdir()
    programs.mkdir()
    (programs / "ssh").write_text(SSH)
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PI_HOME", str(home))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return home


def push(bundle, device, *arguments, python=sys.executable):
    return run_host("-m", "edvit_tf.cli", "push", bundle, device, "--python", python, *arguments)
