"""Clustered files are asked, and their centroids trained, under the views of their sub-models."""

from types import SimpleNamespace

import numpy as np

from edvit_tf.device.model.view import AS_IT_IS, View
from edvit_tf.study import clusters
from edvit_tf.study.clusters import _Fleet

VIEWS = (AS_IT_IS, View(mirrored=True))


def _fleet(folder) -> _Fleet:
    fleet = object.__new__(_Fleet)  # no bundle to open
    fleet.bundle = SimpleNamespace(
        sub_models=[SimpleNamespace(view=view) for view in VIEWS],
        input=SimpleNamespace(name="image", dtype="float32"),
    )
    fleet.folder, fleet.seed = folder, 0
    fleet.configs, fleet.weights = ["a", "b"], [{}, {}]
    fleet.held_out = folder / "inputs.npy", np.zeros(2, int), np.arange(2)
    fleet.train = np.arange(12, dtype=np.float32).reshape(1, 2, 3, 2)
    fleet._made = ()
    return fleet


def test_each_file_is_asked_and_trained_under_its_view(tmp_path, monkeypatch):
    asked, trained = [], []

    def answers(file, inputs, runtime, view):
        asked.append(view)
        return {"features": np.zeros((2, 1)), "logits": np.zeros((2, 2))}, {}

    def clustered(config, weights, train, answers, **_):
        trained.append((train, answers))
        return weights, None

    graph = SimpleNamespace(graph=lambda *_: (None, None))
    monkeypatch.setattr(clusters, "architecture", lambda config: graph)
    monkeypatch.setattr(clusters, "fuse", lambda bundle, answers: (np.ones((2, 2)), None))
    monkeypatch.setattr("edvit_tf.export.process.run_in_process", answers)
    monkeypatch.setattr(
        "edvit_tf.export.convert.convert", lambda graph, signature, file, *_: file.write_bytes(b"x")
    )
    monkeypatch.setattr("edvit_tf.training.train.predict", lambda config, weights, x: x)
    monkeypatch.setattr("edvit_tf.models.vit.clustering.cluster", clustered)

    fleet = _fleet(tmp_path)
    fleet.figures(16, 1, "float32")
    assert asked == list(VIEWS)
    for view, (train, said) in zip(VIEWS, trained, strict=True):
        np.testing.assert_array_equal(train, view.applied(fleet.train))
        np.testing.assert_array_equal(said, train)
