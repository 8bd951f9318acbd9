"""The root file systems of emulated Pis, each made once for all tests."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.pi_machine import SUITES, script

DECODERS = ("pillow", "soundfile")


@pytest.fixture(scope="session")
def pi_root(tmp_path_factory) -> Iterator[Callable[[str], Path]]:
    """`pi_root(suite)`: a root file system, which tests do not change ($PI_DISK keeps what one
    writes).
    """
    made: dict[str, Path] = {}

    def get(suite: str) -> Path:
        if suite not in made:
            folder = tmp_path_factory.mktemp("pi") / suite
            done = script("make", folder, suite, *SUITES[suite], *DECODERS)
            assert done.returncode == 0, done.stderr
            made[suite] = folder
        return made[suite]

    yield get
    for folder in made.values():
        script("forget", folder)
        shutil.rmtree(folder)
