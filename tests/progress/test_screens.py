"""Who listens to a run: lines, JSON for programs, nothing but warnings, a log, a terminal."""

import io
import json
import math

import pytest
from rich.console import Console

from edvit_tf.progress import listening, tell, warn
from edvit_tf.progress.live import Live
from edvit_tf.progress.screens import JsonLines, LogFile, Quiet


def a_run():
    """What a run of one stage tells."""
    tell("photos: train 80")
    tell(kind="stage", name="base", title="the base", number=2, total=None)
    tell("base: 2 epochs of 5 x 16 samples", "fit", title="base", epochs=2, steps=5, batch_size=16)
    for epoch in range(2):
        tell(kind="step", title="base", done=5 * epoch + 3, total=10)
        facts = {"epoch": epoch + 1, "epochs": 2, "loss": 0.5, "accuracy": math.nan, "seconds": 1.0}
        tell(f"base: epoch {epoch + 1} of 2", "epoch", title="base", **facts)
    warn("a picture was left out")
    tell("[base] 3.2 s", "stage-end", name="base", title="the base", number=2, total=None)
    tell("bundle: exports/x", "result", bundle="exports/x")


def test_as_a_library_lines_are_printed_and_warnings_are_errors_lines(capsys):
    a_run()
    said = capsys.readouterr()
    assert said.out.splitlines()[:2] == ["photos: train 80", "base: 2 epochs of 5 x 16 samples"]
    assert said.err == "WARNING: a picture was left out\n" and "WARNING" not in said.out


def test_quiet_shows_warnings_alone(capsys):
    with listening(Quiet()):
        a_run()
    said = capsys.readouterr()
    assert said.out == "" and said.err == "WARNING: a picture was left out\n"


def test_json_is_an_object_a_line_without_nan(capsys):
    with listening(JsonLines()):
        a_run()
    said = capsys.readouterr()
    events = [json.loads(line, parse_constant=pytest.fail) for line in said.out.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[:5] == ["note", "stage", "fit", "step", "epoch"] and kinds[-1] == "result"
    assert events[4]["accuracy"] is None and events[4]["loss"] == 0.5
    assert events[-1]["bundle"] == "exports/x" and said.err == ""


def test_a_log_has_every_word_with_its_time_and_is_gone_on_with(tmp_path):
    log = tmp_path / "run.log"
    for _ in range(2):
        with listening(LogFile(log)):
            a_run()
            tell("two\nlines \ud800")
    lines = log.read_text("utf-8").splitlines()
    assert len(lines) == 2 * 9 and lines[0].endswith(" photos: train 80")
    assert lines[8].endswith(r"lines \ud800") and lines[0][:2] == "20"


def test_a_log_that_cannot_be_written_is_said_once_and_ends_nothing(tmp_path, capsys):
    with listening(LogFile(tmp_path / "nowhere" / "run.log")):
        a_run()
    assert capsys.readouterr().err.count("no log is kept") == 1


def test_a_terminal_shows_what_is_at_work_and_keeps_what_has_ended():
    file = io.StringIO()
    live = Live(Console(file=file, force_terminal=True, width=100, color_system=None))
    shown = []
    with live.shown(), listening(live):
        tell(kind="stage", name="base", title="the base [1]", number=2, total=None)
        shown.append([task.description for task in live.progress.tasks])
        tell("base", "fit", title="base", epochs=2, steps=5, batch_size=16)
        tell(kind="step", title="base", done=7, total=10)
        shown.append([(task.completed, task.total) for task in live.progress.tasks])
        tell("[base] 3.2 s [1]", "stage-end", name="base")
        shown.append(list(live.progress.tasks))
    assert shown == [["  2/? the base [1]"], [(7, 10)], []]
    assert "[base] 3.2 s [1]" in file.getvalue()


def test_a_trial_of_a_search_has_its_words_and_a_bar():
    file = io.StringIO()
    live = Live(Console(file=file, force_terminal=True, width=100, color_system=None))
    with live.shown(), listening(live):
        facts = {"title": "settings, searched", "total": None, "settings": {}}
        tell("tune: trial 3: rate 1e-3", "trial", number=3, **facts)
        assert [task.description for task in live.progress.tasks] == ["  3/? settings, searched"]
        tell("base", "fit", title="base", epochs=2, steps=5, batch_size=16)
        assert [task.total for task in live.progress.tasks] == [10]
        tell("tune: trial 3: 91.0 %", "trial-end", number=3)
        assert list(live.progress.tasks) == []
    said = file.getvalue()
    assert said.count("tune: trial 3: rate 1e-3") == 1 and "tune: trial 3: 91.0 %" in said


def test_stages_at_work_elsewhere_have_a_bar_each():
    live = Live(Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None))
    facts = {"total": None, "node": "a", "process": 1}
    with live.shown(), listening(live):
        for number, name in enumerate(("single.ffn", "submodel-00.ffn"), 1):
            tell(kind="stage", name=name, title=name, number=number, **facts)
        tell("", "fit", title="single.ffn", epochs=2, steps=5, batch_size=16, node="a")
        tell(kind="step", title="single.ffn", done=7, total=10, node="a")
        tell("", "fit", title="submodel-00.ffn", epochs=1, steps=3, batch_size=16, node="b")
        tell("", "epoch", title="submodel-00.ffn", epoch=1, epochs=1, loss=None)
        bars = {task.description: (task.completed, task.total) for task in live.progress.tasks}
        assert bars == {"  1/? single.ffn": (7, 10), "  2/? submodel-00.ffn": (0, 3)}

        # begun again, on another node
        tell(kind="stage", name="single.ffn", title="single.ffn", number=1, **facts)
        assert len(live.progress.tasks) == 2
        tell("[submodel-00.ffn] 1.0 s", "stage-end", name="submodel-00.ffn")
        assert [task.description for task in live.progress.tasks] == ["  1/? single.ffn"]
        # the run's own stage comes next
        tell(kind="stage", name="features", title="features", number=3, total=None)
        assert [task.description for task in live.progress.tasks] == ["  3/? features"]
