"""Every kind of fusion: the Keras model and the device's graph say the same, of what is present."""

import numpy as np
import pytest

from edvit_tf.config import FUSIONS, DataConfig, DeviceSpec, RunConfig, TrainConfig
from edvit_tf.export.fusion import KINDS, Fusion, fusion_of
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.models.weights import get_weights, set_weights
from edvit_tf.planning.plan import plan

BASE = ViTConfig((8, 8, 1), 4, 2, 16, 8, 2, 32, 5)
GROUPS = [(0, 1), (2, 3), (4,)]


@pytest.fixture(params=FUSIONS)
def fusion(request):
    return made(request.param)


def made(kind: str) -> Fusion:
    """The fusion of three sub-models of BASE."""
    fit = TrainConfig(1)
    config = RunConfig(
        "x",
        DataConfig("mnist", (8, 8)),
        "vit_smoke",
        fit,
        fit,
        fit,
        fusion=kind,
        joint_training=fit if kind == "joint" else None,
    )
    planned = plan(BASE, GROUPS, [DeviceSpec(name) for name in "abc"])
    return fusion_of(config, planned, 5)


def test_a_further_kind_is_a_class_and_its_name(monkeypatch):
    class Nothing(Fusion):
        is_fitted = False
        macs = 3

    monkeypatch.setattr("edvit_tf.config.FUSIONS", (*FUSIONS, "nothing"))
    monkeypatch.setitem(KINDS, "nothing", Nothing)
    found = made("nothing")
    assert isinstance(found, Nothing) and found.macs == 3
    assert found.groups == tuple(GROUPS) and len(found.widths) == 3


def test_every_name_of_a_configuration_has_its_kind():
    assert set(KINDS) == set(FUSIONS)


def test_the_graph_says_what_the_keras_model_says(fusion):
    rng = np.random.default_rng(0)
    heads = []
    for width, group in zip(fusion.widths, fusion.groups, strict=True):
        kernel = rng.normal(size=(width, len(group) + 1)).astype(np.float32)
        heads.append({"head.kernel": kernel, "head.bias": np.zeros(len(group) + 1, np.float32)})
    model = fusion.build()
    if not fusion.is_fitted:
        set_weights(model, fusion.weights_from(heads))

    graph, signature = fusion.graph(get_weights(model))
    assert [tuple(spec.shape) for spec in signature] == [(1, sum(fusion.widths)), (1, 3)]
    features = rng.normal(size=(1, sum(fusion.widths))).astype(np.float32)
    for present in ([[1, 1, 1]], [[1, 0, 1]]):
        inputs = {"features": features, "present": np.array(present, np.float32)}
        said = graph(**inputs)["probabilities"].numpy()
        np.testing.assert_allclose(said, np.asarray(model(inputs)), atol=1e-6)
        assert said.sum() == pytest.approx(1, abs=1e-5)


def test_what_is_not_fitted_costs_no_training(fusion):
    width = sum(fusion.widths)
    hidden = -(-width // 2)
    assert fusion.macs == (hidden * (width + 5) if fusion.is_fitted else 0)
