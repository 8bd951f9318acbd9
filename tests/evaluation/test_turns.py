"""Files that are compared are timed in turns, in a process without TensorFlow."""

import numpy as np
import pytest

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.errors import ExportError
from edvit_tf.evaluation import turns


def window(bundle) -> dict[str, np.ndarray]:
    """Two inputs of a bundle's sub-models, made up."""
    given = bundle.input
    return {given.name: np.zeros((2, *given.shape), given.dtype)}


def test_every_file_has_a_median_of_each_pass(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    files = {entry.name: bundle.path / entry.file for entry in bundle.sub_models}
    told = turns.take_turns(files, dict.fromkeys(files, window(bundle)), passes=3)
    assert told["passes"] == 3 and told["runs"] == turns.RUNS
    assert list(told["models"]) == list(files)
    for each in told["models"].values():
        assert len(each) == 3 and all(ms > 0 for ms in each)


def test_a_file_that_cannot_be_timed_is_named(tiny_bundle, tmp_path):
    bundle = open_bundle(tiny_bundle)
    (tmp_path / "broken.tflite").write_bytes(b"no model")
    with pytest.raises(ExportError, match=r"broken\.tflite.*stages are kept"):
        turns.take_turns({"a": tmp_path / "broken.tflite"}, {"a": window(bundle)}, passes=1)


def test_passes_go_there_and_back_so_that_none_is_always_the_first(monkeypatch):
    """Each file waits for the others between its turns: a slow minute is everybody's."""
    order = []
    monkeypatch.setattr(turns, "load", lambda file, threads: Stand(file, order))
    monkeypatch.setattr(turns.np, "load", lambda *_, **__: {"x": np.zeros((1, 1))})
    files = [{"name": n, "file": n, "inputs": ""} for n in "abc"]
    told = turns._passes({"passes": 3, "files": files})
    assert "".join(order[::1]) == "abc" + "".join(
        name * turns.RUNS for name in ("a", "b", "c", "c", "b", "a", "a", "b", "c")
    )
    assert {name: len(each) for name, each in told["models"].items()} == dict.fromkeys("abc", 3)


class Stand:
    """Takes the place of a loaded model; writes down when it is run."""

    runtime = "none"

    def __init__(self, name: str, order: list[str]):
        self.name, self.order = name, order

    def run(self, x) -> None:
        self.order.append(self.name)
