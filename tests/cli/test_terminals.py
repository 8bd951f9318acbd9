"""Terminals that cannot show every letter, and names that hold any."""

import os
import subprocess
import sys

import pytest

from edvit_tf.device.terminal import are, counted, flushed, print_anything
from tests.support.commands import ROOT, run_host, run_python

DEVICES = '[[device]]\nname = "K\u00fcche \u732b"\nmemory = "200 MiB"\n'


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "K\\xfcche \\u732b"),
        ("latin-1", "K\u00fcche \\u732b"),
        ("utf-8", "K\u00fcche \u732b"),
        ("ascii:replace", "K?che ?"),
    ],
)
def test_a_plan_is_printed_on_any_terminal(tmp_path, encoding, shown):
    path = tmp_path / "devices.toml"
    path.write_text(DEVICES, encoding="utf-8")
    code = (
        "import io, sys, runpy\n"
        f"sys.argv = ['edvit', 'plan', '--model', 'vit_tiny', '--devices', {str(path)!r}]\n"
        "runpy.run_module('edvit_tf.cli', run_name='__main__')"
    )
    # what is captured is text of the terminal's encoding
    wrapped = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {code!r}], "
    wrapped += "stdout=open(sys.argv[1], 'wb')).returncode)"
    out = tmp_path / "out"
    done = run_python("-c", wrapped, out, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert shown in out.read_bytes().decode(encoding.split(":")[0])


@pytest.mark.parametrize(
    ("given", "inherited"),
    [
        (None, ":backslashreplace"),
        ("latin-1", "latin-1:backslashreplace"),
        ("ascii:replace", "ascii:replace"),
    ],
)
def test_processes_that_are_started_print_anything_too(monkeypatch, given, inherited):
    if given is None:
        monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    else:
        monkeypatch.setenv("PYTHONIOENCODING", given)
    monkeypatch.setattr(sys, "stdout", None)  # a service may have none
    print_anything()
    assert os.environ["PYTHONIOENCODING"] == inherited


def test_a_folder_whose_name_is_not_utf_8_is_named(tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    done = run_python(
        "recipes/caltech256.py", "--data-dir", folder, "--out", tmp_path / "out", "--smoke"
    )
    assert done.returncode == 4, done.stderr
    assert "caf\\xe9" in done.stderr and "Traceback" not in done.stderr


def test_an_out_that_no_runtime_could_open_is_refused_before_anything_is_trained(tmp_path):
    out = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    done = run_host("tests/support/small_recipe.py", "--smoke", "--synthetic", "--out", out)
    assert done.returncode == 6 and "caf\\xe9, whose name is no UTF-8" in done.stderr
    assert "[data]" not in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        ["edvit_tf.cli", "plan", "--model", "vit_tiny", "--devices", "2"],
        ["edvit_tf.device.update", "STORE", "list"],
    ],
    ids=["edvit", "update"],
)
def test_a_reader_that_has_seen_enough_ends_a_command_quietly(command, tmp_path):
    """`edvit plan | head -1`: neither an error nor a traceback."""
    (tmp_path / "versions").mkdir()
    words = [str(tmp_path) if word == "STORE" else word for word in command]
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=ROOT, stdout=write, stderr=subprocess.PIPE
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    "command",
    [
        ["edvit_tf.cli", "advise", "no bundle"],
        ["edvit_tf.device", "no bundle", "--check"],
        ["edvit_tf.device.update", "no store", "list"],
    ],
    ids=["edvit", "device", "update"],
)
def test_an_error_that_nobody_reads_keeps_its_exit_code(command):
    """`edvit advise BUNDLE 2>&1 | head -0`: it was 1, a fault of ours."""
    read, write = os.pipe()
    os.close(read)
    try:
        words = [sys.executable, "-m", *command]
        unread = subprocess.run(words, cwd=ROOT, stdout=write, stderr=write).returncode
        heard = subprocess.run(words, cwd=ROOT, capture_output=True).returncode
    finally:
        os.close(write)
    assert unread == heard and heard > 1


def test_a_service_without_standard_output_is_done_all_the_same(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert flushed(3) == 3


@pytest.mark.parametrize(
    "count, words", [(0, "0 classes are"), (1, "1 class is"), (2, "2 classes are")]
)
def test_one_thing_is_not_told_as_many(count, words):
    assert f"{counted(count, 'class', 'classes')} {are(count)}" == words
    assert counted(count, "device") == ("1 device" if count == 1 else f"{count} devices")
