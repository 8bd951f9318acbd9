"""Wheels that a machine without internet is brought: `edvit deploy --wheels FOLDER`."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

PLATFORMS = ("2014", *(f"_2_{glibc}" for glibc in (17, 24, 26, 27, 28, 31, 34)))


def requirements(extra: str, python: str, machine: str) -> list[str]:
    """What pip installs beside edvit_tf[extra] on a machine of this Python and processor."""
    where = {"extra": extra, "python_version": python, "sys_platform": "linux"}
    where["platform_machine"] = machine
    wanted = map(Requirement, metadata.requires("edvit_tf") or ())
    return [
        f"{one.name}{one.specifier}"
        for one in wanted
        if one.marker is None or one.marker.evaluate(where)
    ]


def wheels(folder: Path, *requirements: str, python: str, machine: str = "aarch64") -> Path:
    """The wheels that a machine without internet is brought, by this machine's pip."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", python, "-d", str(folder)]
    for platform in PLATFORMS:
        command += ["--platform", f"manylinux{platform}_{machine}"]
    done = subprocess.run(
        [*command, *requirements], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder
