"""Which fleets run here: files of processes that have ended mislead nobody."""

import json
import os
from pathlib import Path

import pytest

from edvit_tf.errors import OutputError
from edvit_tf.operate import running

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "edvit_tf"


def test_a_number_that_came_back_is_another_process(folder):
    with running.announced("127.0.0.1:5", Path("bundle"), "abc"):
        (found,) = running.running()
        assert (found.pid, found.server) == (os.getpid(), "127.0.0.1:5")
        assert found.bundle == str(Path("bundle").absolute())

        (file,) = folder.glob("*.json")
        told = json.loads(file.read_text())
        file.write_text(json.dumps({**told, "started": str(int(told["started"]) - 1)}))
        assert running.running() == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"pid": "x"}', "\0"])
def test_a_file_that_says_nothing_is_no_fleet(folder, text):
    running.runtime_folder()
    (folder / "up-1.json").write_text(text)
    assert running.running() == []


def test_a_folder_that_others_may_write_into_is_refused(folder):
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(OutputError, match="a folder of your own"):
        running.running()


def test_without_a_runtime_folder_it_is_a_private_one(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(running.tempfile, "gettempdir", lambda: str(tmp_path))
    place = running.runtime_folder()
    assert place.parent == tmp_path and place.stat().st_mode & 0o777 == 0o700
