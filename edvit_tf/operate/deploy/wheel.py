"""The wheel of this edvit_tf that devices install: built once for a state of the sources, so that a
device needs no clone and builds nothing.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edvit_tf.errors import PushFailed
from edvit_tf.operate.deploy.on_device import digest_of

_SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE")
_BUILD_SECONDS = 600


@dataclass(frozen=True)
class Wheel:
    """A wheel, and the digest of the package's files in it: what a device has installed is
    compared by that.
    """

    file: Path
    digest: str


def read_wheel(file: Path) -> Wheel:
    """A wheel that is there. Raises PushFailed for a file that is none of edvit_tf."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.startswith("edvit_tf/")]
            files = [(name, archive.read(name)) for name in names if not name.endswith("/")]
    except (OSError, zipfile.BadZipFile) as error:
        raise PushFailed(
            f"{file} is no wheel ({error}). Leave --wheel out to build one."
        ) from error
    if not files or file.suffix != ".whl":
        raise PushFailed(f"{file} is no wheel of edvit_tf. Leave --wheel out to build one.")
    return Wheel(file, digest_of(files))


def build_wheel(say: Callable[[str], None]) -> Wheel:
    """A wheel of the clone that this package is imported from, kept in the user's cache for as long
    as the sources do not change. `say` gets a sentence where one is built. Raises PushFailed.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / "setup.py").is_file():
        raise PushFailed(
            f"{root} is no clone of edvit_tf, so no wheel can be built here. Give one: --wheel "
            "edvit_tf-VERSION-py3-none-any.whl (pip wheel --no-deps CLONE makes it)."
        )
    kept = _cache() / _sources_digest(root)[:16]
    there = sorted(kept.glob("*.whl"))
    if there:
        return read_wheel(there[0])

    say(f"Building a wheel of {root}; it is kept in {kept.parent}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix="build-") as folder:
        # what setuptools leaves beside the sources would end up in later wheels
        source, out = Path(folder) / "source", Path(folder) / "wheels"
        source.mkdir()
        for name in _SOURCES:
            shutil.copy(root / name, source)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / "edvit_tf", source / "edvit_tf", ignore=ignored)
        _build(source, out)
        if not kept.exists():
            out.rename(kept)
    return read_wheel(next(iter(sorted(kept.glob("*.whl")))))


def _build(source: Path, out: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(out), str(source)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PushFailed(
            f"the wheel of edvit_tf is not built after {_BUILD_SECONDS} s; pip fetches what builds "
            "it. Is this machine online? Or give one: --wheel FILE."
        ) from error
    if done.returncode != 0:
        raise PushFailed(
            f"the wheel of edvit_tf cannot be built: {done.stdout.strip()[-500:]}\nMend that, or "
            "give one: --wheel FILE."
        )


def _sources_digest(root: Path) -> str:
    files = [root / name for name in _SOURCES]
    files += [path for path in (root / "edvit_tf").rglob("*") if "__pycache__" not in path.parts]
    named = ((str(file.relative_to(root)), file.read_bytes()) for file in files if file.is_file())
    return digest_of(named)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "edvit_tf" / "wheels"
