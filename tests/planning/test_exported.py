"""Cost figures against really exported files, and against counts over the operators and tensors of
their graphs.
"""

import numpy as np
import pytest

from edvit_tf.models.vit import cost
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.models.vit.presets import vit_config
from tests.support.tflite_count import count

CONFIGS = {
    "tiny": ViTConfig(
        (32, 24, 3), 8, 2, 20, 3, 8, 28, 4, input_mean=(90.0,), input_std=(40.0,)
    ),  # 3 * 8 is not 20
    "one block": ViTConfig((32, 32, 1), 8, 1, 36, 2, 16, 40, 3),
    "many tokens": ViTConfig((96, 96, 1), 8, 2, 24, 4, 8, 16, 3),  # attention is the peak
    "a picture": ViTConfig((64, 64, 3), 32, 2, 16, 2, 8, 32, 3),  # the input is the peak
    "narrow": ViTConfig((64, 64, 1), 8, 3, 64, 1, 8, 16, 3),  # LayerNorm is the peak
    "the paper's": vit_config("vit_base", (224, 224, 3), 10).pruned(2, 10),
    "audio": vit_config("vit_small", (224, 224, 1), 10).pruned(1, 3),
    "a DINOv2 base": vit_config("vit_smoke", (64, 64, 3), 10, pool="cls_mean"),
    "its like of one block": ViTConfig((32, 24, 3), 8, 1, 20, 3, 8, 28, 4, pool="cls_mean"),
}


CONSTANTS = 5  # epsilon, the least root, three of GELU


def export(config: ViTConfig, path, flavour: str = "float32"):
    """The deployment graph over random weights, none of them equal."""
    from edvit_tf.export.convert import convert
    from edvit_tf.models.vit.deployed import graph
    from edvit_tf.models.vit.keras_model import build_vit
    from edvit_tf.models.weights import get_weights

    rng, start = np.random.default_rng(0), get_weights(build_vit(config))
    weights = {n: (w + rng.normal(0, 0.1, w.shape)).astype(np.float32) for n, w in start.items()}
    given = ("image", "uint8") if config.image_shape[2] == 3 else ("mel", "float32")
    convert(*graph(config, weights, *given), path, weights, flavour)


def folded(config: ViTConfig) -> int:
    """Numbers that a file has fewer than the config: the blocks' LayerNorms."""
    return 4 * config.hidden_dim * config.num_layers


@pytest.mark.parametrize("name", CONFIGS)
def test_the_float32_file_holds_and_computes_what_the_config_says(name, tmp_path):
    config, path = CONFIGS[name], tmp_path / "m.tflite"
    export(config, path)
    found = count(path)
    assert found.macs == cost.macs_deployed(config)
    assert found.weights.pop("INT32") < 64 and set(found.weights) == {"FLOAT32"}  # shapes, axes
    assert found.weight_bytes == cost.size_bytes(config) - 4 * (folded(config) - CONSTANTS)
    assert found.peak_bytes == cost.peak_activation_bytes(
        config, 1 if config.image_shape[2] == 3 else 4
    )
    check_file(config, path, "float32")


def check_file(config: ViTConfig, path, flavour: str):
    size, bound = path.stat().st_size, cost.file_bytes(config, flavour)
    assert size <= bound <= size + 8_192


@pytest.mark.parametrize("name", ["tiny", "the paper's"])
@pytest.mark.parametrize("flavour", ["float16", "int8"])
def test_the_smaller_flavours_hold_what_the_config_says(name, flavour, tmp_path):
    config, path = CONFIGS[name], tmp_path / "m.tflite"
    export(config, path, flavour)
    found = count(path)
    rest = 2 if flavour == "float16" else 4  # bytes of LayerNorms and constants
    assert found.weight_bytes == cost.size_bytes(config, flavour) - rest * (
        folded(config) - CONSTANTS
    )
    assert ("INT8" in found.weights) == (flavour == "int8")
    assert found.macs == cost.macs_deployed(config)
    check_file(config, path, flavour)


def test_what_the_last_block_leaves_out_is_all_that_differs_from_the_full_count():
    config = CONFIGS["the paper's"]  # d = a = 128, c = 512, T = 197
    assert cost.macs_full(config) - cost.macs_deployed(config) == 196 * (
        2 * 128 * 128 + 2 * 128 * 512 + 2 * 197 * 128
    )


def test_figures_of_the_papers_two_head_sub_model():
    config = CONFIGS["the paper's"]
    assert cost.peak_activation_bytes(config) == 1_311_232  # GELU: 197 * (128 + 3 * 512) float32
    assert cost.file_bytes(config) == 10_062_332
