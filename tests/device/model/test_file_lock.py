"""A file that one process holds: for how long another waits for it."""

import fcntl
import os
import subprocess
import sys
import time

import pytest

from edvit_tf.device.model.file_lock import hold

# holds the file that is its standard input, as a child does that shares it
CHILD = "import sys, time; print('ready', flush=True); time.sleep(float(sys.argv[1]))"


@pytest.fixture
def shared(tmp_path):
    """Starts a child that shares the lock of a process which is gone, for so many seconds."""
    children = []

    def start(seconds: float):
        path = tmp_path / "lock"
        with open(path, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            command = [sys.executable, "-c", CHILD, str(seconds)]
            children.append(subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE))
        assert children[-1].stdout.readline() == b"ready\n"
        return path

    yield start
    for child in children:
        child.kill()
        child.stdout.close()
        child.wait()


def test_a_lock_that_a_killed_process_left_to_its_child_is_waited_for(shared):
    with open(shared(0.5)) as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert hold(file, patience_seconds=30)


@pytest.mark.parametrize("patience", [0.0, 0.2])
def test_a_lock_that_another_process_keeps_is_refused_in_time(shared, patience):
    with open(shared(60)) as file:
        started = time.monotonic()
        with pytest.raises(BlockingIOError):
            hold(file, patience_seconds=patience)
        assert time.monotonic() - started >= patience


def test_a_descriptor_is_held_as_a_file_is(tmp_path):
    opened = os.open(tmp_path, os.O_RDONLY)
    try:
        assert hold(opened)
    finally:
        os.close(opened)
