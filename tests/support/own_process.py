"""Tests that load a TFLite runtime of a device in their own process: TensorFlow, which others load,
has symbols of the same names, and either crashes the other.
"""

import os
import subprocess
import sys
from pathlib import Path


def passes_alone(file: Path) -> None:
    """Every test of a file passes, and none is skipped, in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", str(file)]

    done = subprocess.run(
        command,
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout
