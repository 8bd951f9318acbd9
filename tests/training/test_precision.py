"""What precision="auto" stands for, by the processor's flags or the GPU."""

import pytest

from edvit_tf.config import TrainConfig
from edvit_tf.errors import ConfigError


@pytest.fixture
def fresh():
    from edvit_tf.training import precision

    precision.has_fast_bfloat16.cache_clear()
    yield precision
    precision.has_fast_bfloat16.cache_clear()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512f amx_bf16 amx_tile", "bfloat16"),
        ("flags\t\t: fpu avx2 avx512f avx512_bf16", "bfloat16"),
        ("flags\t\t: fpu avx2 avx512f", "float32"),
        ("Features\t: fp asimd bf16", "float32"),
        (None, "float32"),
    ],
)
def test_auto_is_bfloat16_where_the_processor_multiplies_matrices_in_it(
    fresh, tmp_path, monkeypatch, flags, expected
):
    path = tmp_path / "cpuinfo"
    if flags is not None:
        path.write_text(f"processor\t: 0\n{flags}\n")
    monkeypatch.setattr(fresh, "CPU_INFO", path)
    monkeypatch.setattr(fresh.tf.config, "list_physical_devices", lambda kind: [])
    assert fresh.resolved("auto") == expected
    assert fresh.resolved("float32") == "float32" and fresh.resolved("bfloat16") == "bfloat16"


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")]
)
def test_auto_asks_the_gpu_where_there_is_one(fresh, monkeypatch, capability, expected):
    monkeypatch.setattr(
        fresh.tf.config, "list_physical_devices", lambda kind: ["gpu"] if kind == "GPU" else []
    )
    monkeypatch.setattr(
        fresh.tf.config.experimental,
        "get_device_details",
        lambda device: {"compute_capability": capability},
    )
    assert fresh.resolved("auto") == expected


def test_an_unknown_precision_is_refused():
    with pytest.raises(ConfigError, match="float16"):
        TrainConfig(epochs=1, precision="float16")
