"""The table of a recipe on clusters of several sizes, by runs that were told."""

from typing import ClassVar

import pytest

from edvit_tf.bench import scaling
from edvit_tf.bench.scaling import Row, bench_scaling, rows_told, scaling_text
from edvit_tf.cli.main import _split
from edvit_tf.errors import ConfigError, OutputError

RECIPE = """
import json, pathlib, sys
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
def say(event, at, **facts): print(json.dumps({"event": event, "at": at, "text": "", **facts}))
on_ray = "--ray" in sys.argv
say("stage", 1.0, name="base")
say("stage", 10.0, name="single.head")
say("fit", 11.0, title="single.head", process=1)
say("stage-end", 14.0 if on_ray else 18.0, name="single.head")
say("stage-end", 30.0, name="measure")
out.mkdir()
(out / "fusion.tflite").write_text("same" if "--odd" not in sys.argv or not on_ray else "other")
if "--fail" in sys.argv:
    say("error", 31.0)
    sys.exit(24)
"""


class _Node:
    def __init__(self, processes):
        self.killed = False
        self._processes = processes

    def processes(self):
        return self._processes

    def kill(self):
        self.killed = True


class _Nodes:
    made: ClassVar[list] = []

    def __init__(self, count, port):
        self.nodes = [_Node({n}) for n in range(count)]
        self.address = f"127.0.0.1:{port}"
        self.made.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "Nodes", _Nodes)
    monkeypatch.setattr(_Nodes, "made", [])
    path = tmp_path / "recipe.py"
    path.write_text(RECIPE)
    return path


def test_a_row_is_of_the_parallel_part_and_a_node_dies_in_a_fit_once(recipe):
    rows = bench_scaling(recipe, (1, 2), (), kill=True)
    found = [(row.nodes, row.killed, row.seconds, row.stages, row.same_files) for row in rows]
    assert found == [
        (0, None, 8.0, 1, True),
        (1, None, 4.0, 1, True),
        (2, None, 4.0, 1, True),
        (2, "single.head", 4.0, 1, True),
    ]
    killed = [[node.killed for node in nodes.nodes] for nodes in _Nodes.made]
    assert killed == [[False], [False, False], [False, True]]


def test_a_node_that_cannot_be_killed_is_said(recipe, monkeypatch):
    with pytest.raises(ConfigError, match="--kill with --nodes ending in 1: the first node is"):
        bench_scaling(recipe, (2, 1), (), kill=True)
    assert _Nodes.made == []
    monkeypatch.setattr(_Node, "processes", lambda node: set())
    with pytest.raises(OutputError, match="no node but the first one had a fit"):
        bench_scaling(recipe, (2,), (), kill=True)


def test_other_files_are_said(recipe):
    rows = bench_scaling(recipe, (1,), ("--odd",), kill=False)
    assert [row.same_files for row in rows] == [True, False]
    assert "OTHER" in scaling_text(rows)


def test_a_run_that_fails_ends_it(recipe):
    with pytest.raises(OutputError, match="ended with 24"):
        bench_scaling(recipe, (1,), ("--fail",), kill=False)


def test_the_table():
    rows = [
        Row(0, None, 8.0, 12, True, 1.0),
        Row(1, None, 9.0, 12, True, 1.0),
        Row(2, "single.ffn", 6.0, 12, True, 2.5),
    ]
    lines = scaling_text(rows).splitlines()
    assert lines[1].split() == ["no", "Ray", "-", "8.0", "-", "same", "1.0"]
    assert lines[2].split() == ["1", "-", "9.0", "1.00", "same", "1.0"]
    assert lines[3].split() == ["2", "single.ffn", "6.0", "1.50", "same", "2.5"]
    assert "12 stages of members" in lines[5] and max(map(len, lines)) <= 80
    assert rows_told(rows)[2]["killed"] == "single.ffn"


def test_what_follows_two_dashes_is_the_recipes():
    given = ["bench", "scaling", "r.py", "--kill", "--", "--devices", "3"]
    assert _split(given) == (given[:4], ["--devices", "3"])
