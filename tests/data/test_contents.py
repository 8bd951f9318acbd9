"""Digests of whole files, and the cache that saves reading them again."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edvit_tf.data import caches, contents
from edvit_tf.data.contents import file_digests
from tests.support.commands import ROOT


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Three files that were there for an hour, and an empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    now = time.time_ns() + 3600 * 10**9
    monkeypatch.setattr(contents.time, "time_ns", lambda: now)
    data = tmp_path / "data"
    data.mkdir()
    for n in range(3):
        (data / f"{n}.wav").write_bytes(bytes([n]) * 50_000)
    return data


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The names of the files that were read."""
    found = []
    real = hashlib.file_digest

    def counted(file, name):
        found.append(Path(file.name).name)
        return real(file, name)

    monkeypatch.setattr(contents.hashlib, "file_digest", counted)
    return found


def test_digests_are_of_the_whole_content(folder):
    paths = sorted(folder.iterdir())
    assert file_digests(paths) == [hashlib.sha256(p.read_bytes()).digest() for p in paths]
    assert file_digests([]) == []


def test_what_was_read_is_not_read_again(folder, reads):
    paths = sorted(folder.iterdir())
    first = file_digests(paths)
    assert reads == ["0.wav", "1.wav", "2.wav"]
    assert file_digests(paths) == first and len(reads) == 3


def change_in_place(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(25_000)
        file.write(b"!")


def replace(path: Path) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(path.read_bytes()[:-1] + b"!")
    os.replace(fresh, path)


@pytest.mark.parametrize("change", [change_in_place, replace])
@pytest.mark.parametrize("keeps_time", [False, True])
def test_another_content_of_the_same_size_is_read_again(folder, reads, change, keeps_time):
    """Also by a program that sets back the time of the content, as rsync and tar do."""
    paths = sorted(folder.iterdir())
    before = file_digests(paths)
    times = paths[1].stat()
    change(paths[1])
    if keeps_time:
        os.utime(paths[1], ns=(times.st_atime_ns, times.st_mtime_ns))
    reads.clear()

    after = file_digests(paths)
    assert reads == ["1.wav"]
    assert after[1] == hashlib.sha256(paths[1].read_bytes()).digest() != before[1]
    assert after[::2] == before[::2]


def test_a_file_that_was_changed_just_now_is_not_known_by_its_time(folder, reads, monkeypatch):
    monkeypatch.setattr(contents.time, "time_ns", lambda: (folder / "0.wav").stat().st_mtime_ns)
    paths = sorted(folder.iterdir())
    file_digests(paths)
    file_digests(paths)
    assert len(reads) == 6


def test_on_windows_all_is_read_each_time(folder, reads, monkeypatch):
    """st_ctime is the time of creation there: a change whose time was set back would not show."""
    monkeypatch.setattr(contents.sys, "platform", "win32")
    paths = sorted(folder.iterdir())
    assert file_digests(paths) == file_digests(paths)
    assert len(reads) == 6


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"x": 1}', b"\xff", b"[" * 100_000])
def test_a_damaged_cache_is_done_without(folder, reads, damage):
    paths = sorted(folder.iterdir())
    first = file_digests(paths)
    (cache,) = (folder.parent / "cache/edvit_tf/contents").iterdir()
    cache.write_bytes(damage)
    assert file_digests(paths) == first and len(reads) == 6


def test_an_entry_that_is_none_is_read_anew(folder, reads):
    paths = sorted(folder.iterdir())
    first = file_digests(paths)
    (cache,) = (folder.parent / "cache/edvit_tf/contents").iterdir()
    stored = json.loads(cache.read_text())
    stored[str(paths[0])][-1] = "short"
    stored[str(paths[1])] = None
    cache.write_text(json.dumps(stored))
    assert file_digests(paths) == first and reads[3:] == ["0.wav", "1.wav"]


def test_a_cache_that_cannot_be_written_is_done_without(folder, monkeypatch):
    def no_room():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(contents, "cache_folder", no_room)
    assert len(file_digests(sorted(folder.iterdir()))) == 3


def test_unreadable_files_and_names_that_are_not_utf_8(folder):
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.wav"))
    odd.write_bytes(b"x")
    for _ in range(2):
        digests = file_digests([folder / "gone.wav", odd])
        assert digests == [b"unreadable", hashlib.sha256(b"x").digest()]


def test_caches_of_other_folders_are_kept_up_to_a_number(folder, monkeypatch):
    monkeypatch.setattr(contents, "KEPT_CACHES", 2)
    for n in range(4):
        path = folder / f"part{n}" / "a.wav"
        path.parent.mkdir()
        path.write_bytes(b"x")
        file_digests([path])
    assert len(list((folder.parent / "cache/edvit_tf/contents").iterdir())) == 2


HOMELESS = {"HOME": "/nonexistent/home", "XDG_CACHE_HOME": ""}


def test_without_a_home_caches_lie_in_the_temporary_folder(tmp_path, monkeypatch):
    """Of this user alone, and the same folder at each call."""
    for name, value in HOMELESS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(caches.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(caches, "_usable", lambda f: f.is_relative_to(tmp_path) and _made(f))
    caches._temporary.cache_clear()
    place = caches.cache_folder()
    assert place.is_relative_to(tmp_path) and place.is_dir()
    assert place.parent.stat().st_mode & 0o777 == 0o700
    caches._temporary.cache_clear()
    assert caches.cache_folder() == place

    # Somebody else took the name: a folder that he can write into is not read.
    place.parent.chmod(0o777)
    caches._temporary.cache_clear()
    other = caches.cache_folder()
    assert other != place and other.is_dir()
    caches._temporary.cache_clear()


def _made(folder: Path) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    return True


def test_sound_is_loaded_without_a_home(tmp_path):
    """As `docker run -u` has it: no home, and packages that this user cannot write to. numba and
    pooch raise a RuntimeError when they are imported.
    """
    script = """
import os
import sys
from edvit_tf.data import caches, catalogue
# what a user without rights sees, also where root runs the tests
caches._usable = lambda folder, usable=caches._usable: (
    str(folder).startswith(os.environ["TMPDIR"]) and usable(folder)
)

class Closed:
    # numba reads its environment once: it is closed only when librosa is about to import it
    def find_spec(self, name, *rest):
        if name == "librosa":
            sys.meta_path.remove(self)
            import numba.core.caching as caching
            for locator in (caching.InTreeCacheLocator, caching.UserWideCacheLocator):
                locator.from_function = classmethod(lambda cls, *given: None)

sys.meta_path.insert(0, Closed())
data = catalogue.load("gtzan", image_size=(8, 8), synthetic="only", synthetic_per_class=3,
                      window_seconds=0.5, synthetic_seconds=0.5)
print(len(list(data.iterate("test"))), os.environ["NUMBA_CACHE_DIR"])
"""
    environment = {**os.environ, **HOMELESS, "TMPDIR": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    windows, place = done.stdout.split()
    assert windows == "10" and place.startswith(str(tmp_path))
