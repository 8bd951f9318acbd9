"""--quiet, --json, --version, completions, and the log beside a run."""

import json

import pytest

from edvit_tf.cli.main import main
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


def test_an_error_is_in_the_log_and_the_last_event(tmp_path):
    out = tmp_path / "bundle"
    done = run_host("recipes/mnist.py", "--data-dir", tmp_path, "--json", "--out", out)
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["event"] == "error" and last["exit_code"] == done.returncode != 0
    assert "error: " in done.stderr and "error: " in (tmp_path / "bundle.log").read_text()


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
