"""Costs from a config alone, against the paper's figures and against the weights counted one by
one.

The printed digits come out with 10 rows in every head, sub-models too (a sub-model of a plan has
|C_j| + 1 rows and is a few hundred bytes smaller). MiB are 2**20 bytes, MACs are in units of 1e9.
"""

import pytest

from edvit_tf.errors import ConfigError
from edvit_tf.models.vit import cost
from edvit_tf.models.vit.config import ViTConfig

BASES = {"small": (12, 384, 6), "base": (12, 768, 12), "large": (24, 1024, 16)}


def vit(name: str, channels: int = 3, num_classes: int = 10, **changes) -> ViTConfig:
    layers, d, heads = BASES[name]
    return ViTConfig((224, 224, channels), 16, layers, d, heads, 64, 4 * d, num_classes).replace(
        **changes
    )


def sub(name: str, kept_heads: int, channels: int = 3) -> ViTConfig:
    return vit(name, channels).pruned(kept_heads, 10)


# config, widths, then (computed as printed, the paper's) of MACs p, MACs f, MiB; None: not printed
ROWS = [
    (vit("small"), (384, 6, 1536), ("4.24", 4.25), ("4.60", None), ("82.66", 82.71)),
    (vit("base"), (768, 12, 3072), ("16.85", 16.86), ("17.56", None), ("327.33", 327.38)),
    (vit("base", 1), (768, 12, 3072), ("16.77", 16.79), None, ("325.83", 325.88)),
    (vit("large"), (1024, 16, 4096), ("59.65", 59.69), ("61.55", None), ("1157.04", 1157)),
    (sub("base", 6), (384, 6, 1536), ("4.24", 4.25), ("4.60", None), ("82.66", None)),
    (sub("base", 6, 1), (384, 6, 1536), ("4.20", 4.20), None, None),
    (sub("base", 4), (256, 4, 1024), ("1.90", 1.90), ("2.14", None), ("37.11", 37.16)),
    (sub("base", 4, 1), (256, 4, 1024), ("1.87", 1.88), None, None),
    (sub("base", 3), (192, 3, 768), ("1.07", 1.08), ("1.25", None), ("21.08", 21.13)),
    (sub("base", 3, 1), (192, 3, 768), ("1.06", 1.059), None, None),
    (sub("base", 2), (128, 2, 512), ("0.48", 0.48), ("0.603", None), ("9.55", 9.6)),
    (sub("base", 2, 1), (128, 2, 512), ("0.47", 0.46), None, ("9.30", 9.35)),
    (sub("small", 1), (64, 1, 256), None, None, ("2.53", 2.58)),
    (sub("large", 2), (128, 2, 512), None, None, ("18.63", 18.73)),
]


@pytest.mark.parametrize("config, widths, macs_p, macs_f, mib", ROWS)
def test_the_papers_table(config, widths, macs_p, macs_f, mib):
    assert (config.hidden_dim, config.num_heads, config.mlp_dim) == widths
    values = (
        cost.macs(config) / 1e9,
        cost.macs_full(config) / 1e9,
        cost.size_bytes(config) / 2**20,
    )
    for value, expected in zip(values, (macs_p, macs_f, mib), strict=True):
        if expected is not None:
            printed, paper = expected
            assert f"{value:.{len(printed.split('.')[1])}f}" == printed
            assert paper is None or value == pytest.approx(paper, rel=0.025)


@pytest.mark.parametrize(
    "name, printed, paper",
    [("small", "22.05", 22.1), ("base", "86.57", 86.6), ("large", "304.33", 304.4)],
)
def test_parameters_of_full_models_with_1000_classes(name, printed, paper):
    millions = cost.params(vit(name, num_classes=1000)) / 1e6
    assert f"{millions:.2f}" == printed
    assert millions == pytest.approx(paper, rel=0.025)


@pytest.mark.parametrize(
    "name, channels, kept_heads, printed, paper",
    [
        ("base", 3, 2, "34.26", 34.1),
        ("base", 1, 2, "35.02", 34.85),
        ("small", 3, 1, "32.71", 32.06),
        ("large", 3, 2, "62.11", 61.77),
    ],
)
def test_size_reductions_with_ten_devices(name, channels, kept_heads, printed, paper):
    ratio = cost.size_bytes(vit(name, channels)) / cost.size_bytes(sub(name, kept_heads, channels))
    assert f"{ratio:.2f}" == printed
    assert ratio == pytest.approx(paper, rel=0.025)


@pytest.mark.parametrize("pool", ["cls", "cls_mean"])
@pytest.mark.parametrize("num_heads", [3, 1])  # 3 heads of 5: attention_dim 15 beside hidden_dim 7
def test_every_weight_and_product_is_counted(pool, num_heads):
    config = ViTConfig((12, 8, 2), 4, 2, 7, num_heads, 5, 11, 3, pool)
    tokens, a, pooled = 7, 5 * num_heads, {"cls": 7, "cls_mean": 14}[pool]
    dense = [(4 * 4 * 2, 7, 6)]  # inputs, outputs, rows: the patch embedding on the 6 patches
    for _ in range(2):
        dense += [(7, a, tokens)] * 3 + [(a, 7, tokens), (7, 11, tokens), (11, 7, tokens)]
    dense += [(pooled, 3, 1)]
    norms = 2 * 7 * (2 * 2 + 1)
    assert cost.params(config) == sum(i * o + o for i, o, _ in dense) + norms + 7 + tokens * 7
    assert cost.macs(config) == sum(i * o * rows for i, o, rows in dense)
    assert cost.macs_full(config) - cost.macs(config) == 2 * 2 * num_heads * (tokens * tokens * 5)
    assert cost.size_bytes(config, "float16") == 2 * cost.params(config)


def test_int8_counts_a_byte_for_matrices_of_1024_values_and_four_for_the_rest():
    config = ViTConfig(
        (12, 8, 2), 4, 2, 32, 1, 32, 31, 3
    )  # 32 * 32 is 1,024; the patch kernel too; 32 * 31 is less
    assert cost.params(config) * 4 - cost.size_bytes(config, "int8") == 3 * (2 * 4 * 1024 + 32 * 32)
    assert cost.size_bytes(sub("base", 2), "int8") / 2**20 == pytest.approx(2.52, abs=0.005)


@pytest.mark.parametrize("function", [cost.size_bytes, cost.file_bytes])
def test_an_unknown_flavour_is_named(function):
    with pytest.raises(ConfigError, match="flavour is 'int4'.*float32, float16, int8"):
        function(vit("small"), "int4")


@pytest.mark.parametrize("flavour, per_weight", [("float32", 4), ("float16", 2), ("int8", 1)])
def test_a_file_is_its_weights_and_a_small_graph(flavour, per_weight):
    config = vit("base")
    assert cost.size_bytes(config, flavour) == pytest.approx(
        per_weight * cost.params(config), rel=0.01
    )
    assert cost.file_bytes(config, flavour) == pytest.approx(
        cost.size_bytes(config, flavour), rel=0.012 if flavour == "int8" else 0.002
    )  # int8: a scale a channel


def test_peak_activations_of_the_bases():
    tokens, d, c = 197, 768, 3072
    assert cost.peak_activation_bytes(vit("base")) == 4 * tokens * (
        d + 3 * c
    )  # GELU beside the residual
    assert cost.peak_activation_bytes(vit("base", mlp_dim=64)) == 4 * (
        2 * tokens * d + 2 * 12 * tokens * tokens
    )
