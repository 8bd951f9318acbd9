"""Every kind of fusion: the Keras model and the device's graph say the same, of what is present."""

import numpy as np
import pytest

from edvit_tf.config import FUSIONS, DataConfig, DeviceSpec, RunConfig, TrainConfig
from edvit_tf.export.fusion import (
    AUTO,
    CHOSEN_FROM,
    KINDS,
    Fusion,
    chosen_kind,
    fusion_of,
)
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.models.weights import get_weights, set_weights
from edvit_tf.planning.plan import plan

BASE = ViTConfig((8, 8, 1), 4, 2, 16, 8, 2, 32, 5)
GROUPS = [(0, 1), (2, 3), (4,)]


@pytest.fixture(params=KINDS)
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

    monkeypatch.setattr("edvit_tf.config.runs.FUSIONS", (*FUSIONS, "nothing"))
    monkeypatch.setitem(KINDS, "nothing", Nothing)
    found = made("nothing")
    assert isinstance(found, Nothing) and found.macs == 3
    assert found.groups == tuple(GROUPS) and len(found.widths) == 3


def test_every_name_of_a_configuration_has_its_kind():
    assert {*KINDS, AUTO} == set(FUSIONS)
    assert set(CHOSEN_FROM) < set(KINDS)


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


def test_params_are_those_of_the_keras_model_and_macs_of_what_is_fitted(fusion):
    model = fusion.build()
    assert fusion.params == sum(value.size for value in get_weights(model).values())
    assert fusion.size_bytes == 4 * fusion.params

    fitted = get_weights(fusion.to_fit())
    matrices = sum(value.size for value in fitted.values() if value.ndim == 2)
    assert fusion.macs == (matrices if fusion.is_fitted else 0)


@pytest.mark.parametrize("kind", CHOSEN_FROM)
def test_the_converted_file_is_about_its_weights(kind, tmp_path):
    from edvit_tf.export.convert import convert

    made_of = KINDS[kind]((64,) * 4, ((0, 1, 2), (3, 4, 5), (6, 7), (8, 9)), 10, 0.5)
    weights = get_weights(made_of.build())
    convert(*made_of.graph(weights), tmp_path / "fusion.tflite", weights)
    found = (tmp_path / "fusion.tflite").stat().st_size
    assert made_of.size_bytes <= found < made_of.size_bytes + 8192


def test_copies_share_one_head_in_the_file(tmp_path):
    """Equal matrices are stored once, and the file is no smaller for it than it should be."""
    from edvit_tf.export.convert import convert

    everything = tuple(range(100))
    made_of = KINDS["average"]((64,) * 10, (everything,) * 10, 100, 0.5)
    weights = get_weights(made_of.build())
    for j in range(1, 10):
        weights[f"average.kernel_{j:02d}"] = weights["average.kernel_00"].copy()

    size = convert(*made_of.graph(weights), tmp_path / "fusion.tflite", weights)
    assert 4 * 64 * 100 <= size < 4 * 64 * 100 + 16384


def kinds(num_classes: int, members: int = 10, width: int = 64) -> dict[str, Fusion]:
    groups = tuple(tuple(part.tolist()) for part in np.array_split(np.arange(num_classes), members))
    return {kind: KINDS[kind]((width,) * members, groups, num_classes, 0.5) for kind in CHOSEN_FROM}


def test_the_smallest_kind_that_is_as_good_as_the_best_is_chosen():
    found = kinds(10)
    sizes = [found[kind].size_bytes for kind in ("average", "low_rank", "linear", "tower")]
    assert sizes == sorted(sizes)
    assert sizes[1] < sizes[2] / 1.9

    even = dict.fromkeys(CHOSEN_FROM, 0.9)
    assert chosen_kind(found, even, 1 << 20) == "average"
    assert chosen_kind(found, even | {"tower": 0.9011}, 1 << 20) == "tower"
    # within a tenth of a point
    assert chosen_kind(found, even | {"tower": 0.9011, "linear": 0.9001}, 1 << 20) == "linear"
    assert chosen_kind(found, even | {"tower": 0.901}, 1 << 20) == "average"


def test_a_fusion_larger_than_a_devices_file_is_not_chosen():
    found = kinds(10)
    best_is_large = {"average": 0.8, "low_rank": 0.85, "linear": 0.86, "tower": 0.95}
    under = found["tower"].size_bytes
    assert chosen_kind(found, best_is_large, under + 1) == "tower"
    assert chosen_kind(found, best_is_large, under) == "linear"
    assert chosen_kind(found, best_is_large, 10) == "average"  # none fits: the smallest


def test_of_a_device_of_the_papers_size_every_fusion_but_the_largest_towers_has_room():
    """ViT-Base at d = 64 of ten devices, as the recipes cut it: 100 classes, too."""
    from edvit_tf.models import architecture
    from edvit_tf.models.vit.presets import vit_config

    base = vit_config("vit_base", (224, 224, 3), 100)
    sub = base.pruned(1, 11, "keep")
    file = architecture(sub).file_bytes(sub)
    for num_classes in (10, 100):
        for kind, fused in kinds(num_classes, width=sub.feature_dim).items():
            assert fused.size_bytes < file, (kind, num_classes)
