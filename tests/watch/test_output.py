"""What is printed where nobody reads, or no disk has room."""

import errno
import os
import subprocess
import sys
import threading

import pytest

from edvit_tf.cli import whole_lines
from edvit_tf.cli.whole_lines import WholeLines
from tests.support.commands import ROOT
from tests.support.worker_process import wait_for

# A stream of answers into a pipe that is not read, for a short while.
UNREAD = """
import sys
from edvit_tf.cli.watch_output import Printed
from edvit_tf.watch.item import Item
from edvit_tf.watch.watch import WatchOptions, watch

class Hub:
    def ask(self, values, say):
        said = {"degraded": False, "missing": ""}
        return {"label": "a" * 2000, "probability": 1.0, "probabilities": [1.0], "labels": ["a"],
                "windows": 1, "parameters": said}
    def close(self):
        pass

class Files:
    unit, keeps, lost = "files", True, 0
    def run(self, give, stop, say):
        while give(Item("a", lambda: [1])):
            pass

watch(Hub(), Files(), WatchOptions(seconds=0.5), Printed(sys.argv[1] == "json"))
"""


@pytest.mark.parametrize("form", ["plain", "json"])
def test_a_stream_whose_reader_has_stopped_still_ends(form):
    process = subprocess.Popen(
        [sys.executable, "-c", UNREAD, form],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.wait(60) == 0
        err = process.stderr.read()
        assert (b"ended without its summary" in err) if form == "json" else (b"answered" in err)
    finally:
        process.kill()
        process.communicate()


def test_a_line_is_written_whole_or_counted_and_one_that_was_cut_is_ended(monkeypatch, tmp_path):
    room = 0
    write = os.write

    def on_a_small_disk(descriptor: int, data) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(descriptor, bytes(data[:room]))
        room -= written
        return written

    with open(tmp_path / "log", "w") as log:
        lines = WholeLines(log)
        monkeypatch.setattr(whole_lines.os, "write", on_a_small_disk)
        assert lines.write("lost").errno == errno.ENOSPC
        room = 3
        assert lines.write("cut off").errno == errno.ENOSPC
        assert lines.write("lost too").errno == errno.ENOSPC
        room = 1000
        assert lines.write("there") is None
        assert lines.write("and there") is None
        monkeypatch.undo()
    assert (tmp_path / "log").read_text() == "cut\nthere\nand there\n"


def test_one_that_waits_for_a_reader_holds_nobody_up_for_longer_than_he_likes():
    reading, writing = os.pipe()
    with open(reading, "rb") as reader, open(writing, "w") as stream:
        lines = WholeLines(stream)
        long = "x" * (1 << 20)
        thread = threading.Thread(target=lines.write, args=(long,), daemon=True)
        thread.start()
        wait_for(lambda: lines._lock.locked())
        assert isinstance(lines.write("summary", 0.1), TimeoutError)
        assert reader.read(len(long) + 1) == long.encode() + b"\n"
        thread.join(60)
        assert lines.write("after", 30.0) is None
        assert reader.read(6) == b"after\n"
