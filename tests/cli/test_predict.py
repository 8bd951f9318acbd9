"""`edvit predict` on files and folders as people have them: what can be answered is, and what
cannot is named.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edvit_tf.aggregate import client
from edvit_tf.cli.given_files import GivenFile, given_files, given_texts, read
from edvit_tf.device.terminal import printable
from edvit_tf.errors import ConfigError, RequestFailed
from tests.support.aggregator_process import aggregator, wait_ready, with_one_device
from tests.support.commands import ROOT, run_command
from tests.support.forked import DEVICE, Forked
from tests.support.worker_process import wait_for, worker

RNG = np.random.default_rng(4)


@pytest.fixture(scope="module")
def fleet(tiny_bundle, tmp_path_factory):
    """(aggregator, its only worker)."""
    with with_one_device(tiny_bundle, tmp_path_factory.mktemp("fleet")) as both:
        yield both


@pytest.fixture
def predict(fleet):
    """predict(*arguments) -> (exit code, lines of standard output, standard error)."""

    def run(*arguments):
        server = ["--server", fleet[0].address, "--insecure", "--timeout-ms", "30000"]
        code, out, err = run_command(["predict", *server, *arguments])
        return code, out.splitlines(), err

    return run


def picture(path):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (16, 16), np.uint8)).save(path, "PNG")
    return path


def names(lines) -> list[str]:
    return [json.loads(line)["file"] for line in lines]


def test_a_bad_file_in_a_folder_ends_nothing_and_is_named(predict, tmp_path):
    for name in ("a.png", "c.png", "inner/a.png", "inner/deep/a.png", "z.png"):
        picture(tmp_path / name)
    (tmp_path / "b_notes.txt").write_text("hello")
    (tmp_path / "inner" / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:50])
    (tmp_path / "broken link.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "pipe")
    for hidden in (".DS_Store", ".cache/x.png"):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / hidden).write_bytes(b"\0\0\0\1Bud1")
    (tmp_path / "inner" / "loop").symlink_to(tmp_path)

    code, lines, err = predict("--json", tmp_path)

    assert names(lines) == ["a.png", "c.png", "inner/a.png", "inner/deep/a.png", "z.png"]
    told = err.splitlines()
    assert [line.split(": ")[1] for line in told[:-1]] == [
        "b_notes.txt",
        "broken link.png",
        "inner/cut.png",
        "pipe",
    ]
    assert "INVALID_ARGUMENT" in told[0] and "encoded file: got 5 bytes" in told[0]
    assert "cannot be read (No such file or directory)" in told[1]
    assert "neither a file nor a folder" in told[3]
    assert told[-1] == "error: 4 of 9 files have no answer; see above."
    assert code == 19  # the first one's


def test_a_file_that_is_not_there_ends_nothing_either(predict, tmp_path):
    first, last = picture(tmp_path / "1.png"), picture(tmp_path / "3.png")
    code, lines, err = predict("--json", first, tmp_path / "2.png", last)
    assert (code, names(lines)) == (6, ["1.png", "3.png"])
    assert err.startswith("error: 2.png: the file cannot be read (No such file")


def test_files_of_one_name_are_told_apart(predict, tmp_path):
    """Two folders, two files in two folders: the way from what they have in common."""
    files = [picture(tmp_path / one / "x" / "0.png") for one in ("left", "right")]
    ways = ["left/x/0.png", "right/x/0.png"]
    for arguments in ([tmp_path / "left", tmp_path / "right"], files):
        code, lines, _ = predict("--json", *arguments)
        assert (code, names(lines)) == (0, ways)

    _, lines, _ = predict(*files)
    assert [line.split(":")[0] for line in lines] == ways
    assert names(predict("--json", files[0])[1]) == ["0.png"]  # one alone: its name


def test_names_that_are_no_text_keep_to_their_line(predict, tmp_path):
    """As cameras and old disks have them: a byte that is not UTF-8, a line end."""
    raw = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    picture(tmp_path / "x.png").rename(raw)
    picture(tmp_path / "new\nline.png")
    (tmp_path / "not\na.txt").write_text("x")

    code, lines, err = predict(tmp_path)

    assert code == 19 and len(lines) == 2 and len(err.splitlines()) == 2
    assert lines[0].startswith("caf\\udce9.png: ") and lines[1].startswith("new\\nline.png: ")
    assert err.startswith("error: not\\na.txt: ")
    assert names(predict("--json", raw)[1]) == ["caf\udce9.png"]


def test_a_terminal_without_a_letter_gets_it_escaped(fleet, tmp_path):
    picture(tmp_path / "größe.png")
    command = [sys.executable, "-m", "edvit_tf.cli", "predict", "--server", fleet[0].address]
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [*command, "--insecure", tmp_path],
        env={**os.environ, **ascii_only},
        cwd=ROOT,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0 and done.stdout.startswith(b"gr\\xf6\\xdfe.png: "), done.stderr


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
def test_a_proxy_for_the_web_is_not_asked(fleet, tmp_path, variable):
    picture(tmp_path / "one.png")
    command = [sys.executable, "-m", "edvit_tf.cli", "predict", "--server", fleet[0].address]
    done = subprocess.run(
        [*command, "--insecure", tmp_path],
        env={**os.environ, variable: "http://127.0.0.1:9", "no_proxy": ""},
        cwd=ROOT,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_an_empty_folder_is_said_to_be_one(predict, tmp_path):
    """And standard input is not read in its place."""
    (tmp_path / "none" / "deeper").mkdir(parents=True)
    (tmp_path / "none" / ".hidden").write_text("")
    code, lines, err = predict(tmp_path / "none")
    assert (code, lines) == (3, []) and "the folder holds no files" in err

    picture(tmp_path / "one.png")
    code, lines, _ = predict(tmp_path / "none", tmp_path / "one.png")
    assert code == 3 and len(lines) == 1


def test_a_file_that_no_input_takes_is_not_sent(predict, tmp_path):
    with open(tmp_path / "film.mkv", "wb") as film:
        film.truncate(5 << 30)  # sparse: 5 GiB that nobody reads
    picture(tmp_path / "one.png")
    code, lines, err = predict("--json", tmp_path)
    assert (code, names(lines)) == (3, ["one.png"])
    assert "film.mkv: it has 5120 MiB; what is sent as it is has 64 MiB at most" in err


def test_a_file_without_an_end_is_not_read_to_it(monkeypatch):
    """A device, as the pipe of `<(...)`, tells no size; sent as it is, and cut here."""
    zeros = GivenFile("zero", Path("/dev/zero"))
    with pytest.raises(ConfigError, match="it has more than 2 MiB; .* has 2 MiB at most"):
        read(zeros, 2 << 20)

    monkeypatch.setattr(client, "bundle_input", lambda bundle: SimpleNamespace(from_file=None))
    monkeypatch.setattr(client, "MOST_DECODED_BYTES", 2 << 20)
    with pytest.raises(RequestFailed, match="got more than 2 MiB; expected 2 MiB") as error:
        client.predict_windows(None, zeros.path, None)
    assert error.value.status == "INVALID_ARGUMENT"  # of this file: the others are asked for


def test_a_large_file_is_not_decoded_for_its_windows(monkeypatch, tmp_path):
    monkeypatch.setattr(client, "bundle_input", lambda bundle: SimpleNamespace(from_file=None))
    with open(tmp_path / "film.png", "wb") as film:
        film.truncate(5 << 30)
    with pytest.raises(RequestFailed, match="got 5120 MiB; expected 512 MiB at most"):
        client.predict_windows(None, tmp_path / "film.png", None)


def test_a_pipe_is_read_to_its_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    data = bytes(range(256)) * 8192  # 2 MiB: more than a pipe holds
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data,), daemon=True)
    writer.start()
    assert read(GivenFile("pipe", tmp_path / "pipe"), 2 << 20) == data
    writer.join()


@pytest.mark.parametrize(
    "server",
    [
        "127.0.0.1",
        "hub.local",
        ":8000",
        "hub.local:",
        "hub.local:http",
        "127.0.0.1:99999",
        "127.0.0.1:0",
        "http://127.0.0.1:8000",
        "grpc://hub.local:8000",
        "127.0.0.1:8000/v2",
        "::1:8000",
        "fe80::1",
        "127.0.0.1:8000:8000",
        "",
    ],
)
def test_a_server_that_is_no_address(tmp_path, server):
    picture(tmp_path / "one.png")
    code, out, err = run_command(["predict", "--server", server, "--insecure", tmp_path])
    assert (code, out) == (3, "")
    assert err.startswith(f"error: --server is {server!r}; it must be HOST:PORT")


def test_after_a_few_that_the_fleet_did_not_answer_it_stops(tiny_bundle, tmp_path):
    """Nobody wants a thousand lines that say the same, each after a deadline."""
    for n in range(8):
        picture(tmp_path / "pictures" / f"{n}.png")
    with (
        worker(tiny_bundle, tmp_path) as device,
        aggregator(tiny_bundle, tmp_path, [device.address]) as hub,
        hub.channel() as channel,
    ):
        wait_ready(channel)
        device.stop(signal.SIGKILL)
        server = ["--server", hub.address, "--insecure"]
        code, out, err = run_command(["predict", *server, tmp_path / "pictures"])

    assert (code, out) == (19, "")
    told = err.splitlines()
    assert [line.split(": ")[1] for line in told[:3]] == ["0.png", "1.png", "2.png"]
    assert "the 5 behind them were not asked for" in told[3] and "begin again at 0.png" in told[3]


def test_a_reader_that_has_seen_enough_ends_it_quietly(fleet, tmp_path):
    """`edvit predict ... | head -1`."""
    for n in range(3):
        picture(tmp_path / f"{n}.png")
    command = [sys.executable, "-m", "edvit_tf.cli", "predict", "--server", fleet[0].address]
    with Forked(
        [*command, "--insecure", str(tmp_path)],
        modules=DEVICE,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        err = process.stderr.read()
        wait_for(lambda: process.poll() is not None)
    assert (process.returncode, err) == (0, b"")


def test_names_count_from_what_paths_have_in_common(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = picture(tmp_path / "a" / "b" / "one.png").relative_to(tmp_path)
    two = picture(tmp_path / "a" / "two.png")  # absolute, beside a relative one
    assert [file.name for file in given_files([one, two])] == ["b/one.png", "two.png"]
    assert [file.name for file in given_files([one.parent, two.parent])] == [
        "b/one.png",
        "b/one.png",
        "two.png",
    ]
    assert given_files([]) == []


def test_a_text_stands_in_the_place_of_a_file_where_it_names_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good day").write_text("of a file")
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "a.txt").write_text("a")
    long = "a text of more characters than a line shows of it"
    found = given_texts(
        ["good day", "Good, day!", "all", long, "lost.txt", "http://x y", "x" * 9999]
    )
    assert [(one.path.as_posix(), one.text) for one in found[:3]] == [
        ("good day", None),
        ("all/a.txt", None),
        ("lost.txt", None),
    ]
    assert [one.text for one in found[3:]] == ["Good, day!", long, "http://x y", "x" * 9999]
    assert [one.name for one in found[3:5]] == ["Good, day!", f"{long[:37]}..."]


def test_a_path_that_cannot_be_looked_at_is_named_and_the_others_are_answered(tmp_path):
    """Too long a name, and a folder that may not be entered (not for root, who may)."""
    good = tmp_path / "good.png"
    good.touch()
    long = tmp_path / ("x" * 300)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    files = given_files([long, good, closed / "inner.png"])
    assert [file.path for file in files] == [long, good, closed / "inner.png"]
    assert files[1].trouble is None
    assert "cannot be read (File name too long)" in str(files[0].trouble)
    if os.geteuid() != 0:
        assert "cannot be read (Permission denied)" in str(files[2].trouble)
    assert printable("plain größe.png") == "plain größe.png"
    assert printable("a\x1b[31m\u202e") == "a\\x1b[31m\\u202e"
