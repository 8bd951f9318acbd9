"""Sensors of their own, in a process of their own: two runtimes with TensorFlow's symbols, the
tests' and the fusion's, do not live in one.
"""

import os
import subprocess
import sys
from pathlib import Path

WITHOUT_TENSORFLOW = Path(__file__).with_name("sensors_in_their_process.py")


def test_sensors_of_their_own():
    """Every test of `sensors_in_their_process.py`."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider"]

    done = subprocess.run(
        [*command, str(WITHOUT_TENSORFLOW)],
        env=environment,
        cwd=WITHOUT_TENSORFLOW.parents[2],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout
