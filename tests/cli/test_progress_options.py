"""--quiet, --json, --version, completions, and the log beside a run."""

import argparse
import json

import pytest

import edvit_tf
from edvit_tf.cli.main import main
from edvit_tf.cli.progress_options import shown
from edvit_tf.errors import DataError
from edvit_tf.progress import tell
from tests.support.commands import run_host

RECIPE = ("recipes/mnist.py", "--smoke", "--synthetic")


def test_a_run_for_programs_is_events_alone_and_its_log_has_the_words(tmp_path):
    out = tmp_path / "bundle"
    done = run_host(*RECIPE, "--json", "--out", out)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]

    stages = [event for event in events if event["event"] == "stage-end"]
    assert [stage["number"] for stage in stages] == list(range(1, len(stages) + 1))
    assert stages[-1]["name"] == "measure" and stages[-1]["total"] == len(stages)
    assert stages[0]["total"] is None and {stage["how"] for stage in stages} == {"made"}
    assert all(0 <= stage["figures"]["validation"] <= 1 for stage in stages if stage["figures"])
    assert {"fit", "epoch"} <= {event["event"] for event in events}
    assert events[-1]["event"] == "result" and events[-1]["bundle"] == str(out)

    log = (tmp_path / "bundle.log").read_text()
    assert "[measure]" in log and "bundle: " in log and "mnist.py --smoke" in log

    # the same again, quietly: nothing is left to do, and nothing to say but the warning
    done = run_host(*RECIPE, "--quiet", "--out", out)
    assert done.returncode == 0 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "SYNTHETIC" in done.stderr


def test_an_error_is_the_last_event_and_a_run_that_is_refused_leaves_no_log(tmp_path):
    out = tmp_path / "new" / "bundle"
    done = run_host("recipes/mnist.py", "--data-dir", tmp_path, "--json", "--out", out)
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["event"] == "error" and last["exit_code"] == done.returncode != 0
    assert "error: " in done.stderr and list(tmp_path.iterdir()) == []


def test_an_error_before_the_run_is_an_event_as_well(tmp_path, capsys):
    assert main(["train", str(tmp_path / "absent"), "--json"]) != 0
    told = capsys.readouterr()
    (event,) = [json.loads(line) for line in told.out.splitlines()]
    assert event["event"] == "error" and event["exit_code"] == 4
    assert "there is no such folder" in event["text"] and told.err.startswith("error: ")


def test_an_empty_path_is_not_the_folder_one_is_in(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for given in (["train", ""], ["train", ".", "--base", ""], ["up", " "]):
        with pytest.raises(SystemExit):
            main(given)
        assert "is no path; write . for the folder" in capsys.readouterr().err
    with pytest.raises(DataError, match="write . for the folder"):
        edvit_tf.train("")


@pytest.mark.parametrize("begun", [False, True])
def test_the_log_of_a_run_that_ends_in_a_stage_is_kept(tmp_path, capsys, begun):
    args = argparse.Namespace(json=False, quiet=True)
    log = tmp_path / "a" / "b" / "bundle.log"
    with pytest.raises(OSError, match="full"), shown(args, log):
        tell("before")
        if begun:
            tell(kind="stage", name="base", title="the base", number=1, total=None)
        raise OSError("the disk is full")
    assert list(tmp_path.iterdir()) == ([tmp_path / "a"] if begun else [])
    assert not begun or (
        "before" in (words := log.read_text()) and "error: the disk is full" in words
    )


def test_where_no_log_can_lie_the_run_says_so_itself(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for log in (tmp_path / "file" / "x" / "b.log", tmp_path / "file" / "b.log", tmp_path):
        with shown(argparse.Namespace(json=False, quiet=False), log):
            tell("goes on")
        said = capsys.readouterr()
        assert said.out == "goes on\n" and said.err == ""
        with pytest.raises(OSError, match="x"), shown(argparse.Namespace(json=0, quiet=0), log):
            raise OSError("x")


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "edvit_tf.cli"),
        ("recipes/mnist.py",),
        ("-m", "edvit_tf.device"),
        ("-m", "edvit_tf.device.update"),
    ],
)
def test_every_command_says_its_version(command):
    from edvit_tf import __version__

    done = run_host(*command, "--version")
    assert done.returncode == 0 and done.stdout.startswith(f"edvit_tf {__version__}, Python 3.")


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completions_of_a_shell_are_printed(shell, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", shell])
    said = capsys.readouterr().out
    assert ended.value.code == 0 and "advise" in said and "sweep" in said
