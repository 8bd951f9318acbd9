"""Pretrained weights: every layout against a plain numpy ViT and against transformers; resampling;
what is refused.
"""

import json
import os
import re
import sys
import types
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edvit_tf.config import RunConfig, TrainConfig
from edvit_tf.errors import ConfigError
from edvit_tf.models.sources import base_origin, find_base
from edvit_tf.models.vit.presets import vit_config
from edvit_tf.models.vit.pretrained import load_base, load_pretrained
from edvit_tf.models.vit.resample import (
    bicubic_matrix,
    resample_channels,
    resample_patch_kernel,
    resample_positions,
)
from tests.support.checkpoint_files import AST, D, huggingface, kerashub, plain_tokens, save
from tests.support.commands import run_host
from tests.support.fake_hub import Repo, fake_hub

TOLERANCE = 1e-4  # max|a - b| / max|b|
KINDS = ["vit", "dinov2", AST]


def error(a, b) -> float:
    return float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(b)).max())


def answers(base, x):
    """(features, logits) of the Keras model of a loaded base."""
    from edvit_tf.models.weights import from_weights

    out = from_weights(base.config, base.weights)(x)
    return np.asarray(out["features"]), np.asarray(out["logits"])


def pixels(shape, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (2, *shape)).astype(np.float32)


def normalised(base, x):
    return (x - np.float64(base.config.input_mean)) / np.float64(base.config.input_std)


def pooled(tokens, kind):
    return (
        np.concatenate([tokens[:, 0], tokens[:, 1:].mean(1)], 1)
        if kind == "dinov2"
        else tokens[:, 0]
    )


# Layouts, against the plain numpy ViT of checkpoint_files.py


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", [{}, {"prefix": ""}, {"qkv_bias": False}], ids=str)
def test_features_and_logits_are_those_of_a_plain_vit(tmp_path, kind, changes):
    config, tensors = huggingface(tmp_path, kind, **changes)
    base = load_pretrained(tmp_path, num_classes=5)
    assert base.config.image_shape == ((24, 40, 1) if kind == AST else (32, 32, 3))
    assert base.config.input_mean == pytest.approx(
        {"vit": (127.5,), "dinov2": (123.675, 116.28, 103.53), AST: (-4.2677393,)}[kind]
    )
    x = pixels(base.config.image_shape)
    features, logits = answers(base, x)
    expected = pooled(plain_tokens(config, tensors, normalised(base, x)), kind)
    assert error(features, expected) < 1e-5
    assert base.new_head == (kind == AST)  # AST's head does not carry over
    if kind == AST:
        assert not logits.any()
    else:
        assert (
            error(logits, expected @ tensors["classifier.weight"].T + tensors["classifier.bias"])
            < 1e-5
        )


@pytest.mark.parametrize("classes", [5, None])
def test_kerashub_presets(tmp_path, classes):
    config, tensors = kerashub(tmp_path, classes)
    base = load_pretrained(tmp_path, num_classes=5)
    x = pixels((32, 32, 3))
    mean, std = (
        ((100, 90, 70), (50, 60, 70)) if classes else (127.5, 127.5)
    )  # as image_converter.json has it
    expected = plain_tokens(config, tensors, (x - np.float64(mean)) / np.float64(std))[:, 0]
    features, logits = answers(base, x)
    assert error(features, expected) < 1e-5 and base.new_head == (classes is None)
    if classes:
        assert (
            error(logits, expected @ tensors["classifier.weight"].T + tensors["classifier.bias"])
            < 1e-5
        )


def test_half_precision_becomes_float32(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 in numpy comes from ml_dtypes")
    for dtype in (np.float16, ml_dtypes.bfloat16):
        _, tensors = huggingface(tmp_path, dtype=dtype)
        weights = load_pretrained(tmp_path).weights
        assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}
        np.testing.assert_array_equal(
            weights["head.kernel"], tensors["classifier.weight"].T.astype(np.float32)
        )


def test_shards(tmp_path):
    from safetensors.numpy import save_file

    config, tensors = huggingface(tmp_path / "one")
    names = sorted(tensors)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "config.json").write_text(json.dumps(config))
    shards = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(names)}
    for file in set(shards.values()):
        save_file({n: tensors[n] for n in names if shards[n] == file}, tmp_path / "two" / file)
    (tmp_path / "two" / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": shards})
    )
    one, two = load_pretrained(tmp_path / "one"), load_pretrained(tmp_path / "two")
    assert one.config == two.config and all(
        (one.weights[k] == two.weights[k]).all() for k in one.weights
    )
    (tmp_path / "two" / "model-1.safetensors").unlink()
    with pytest.raises(ConfigError, match="model-1.safetensors.*not a file"):
        load_pretrained(tmp_path / "two")


def test_preprocessor_config_says_how_to_normalise(tmp_path):
    huggingface(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}))
    config = load_pretrained(tmp_path).config
    assert config.input_mean == pytest.approx(
        (25.5, 51, 76.5)
    ) and config.input_std == pytest.approx((102, 127.5, 153))
    file.write_text(json.dumps({"do_normalize": False, "rescale_factor": 0.5}))
    config = load_pretrained(tmp_path).config
    assert config.input_mean == (0,) and config.input_std == (2,)
    file.write_text(json.dumps({"image_mean": "bright"}))
    with pytest.raises(ConfigError, match="preprocessor_config.json.*image_mean"):
        load_pretrained(tmp_path)


# The head


def test_head_is_kept_reordered_or_new(tmp_path):
    _, tensors = huggingface(tmp_path, classes=3, labels=["Cat", "dog", "owl"])
    weight = tensors["classifier.weight"]
    kept = load_pretrained(tmp_path, num_classes=3)
    assert not kept.new_head and "kept" in kept.notes[-1]
    np.testing.assert_array_equal(kept.weights["head.kernel"], weight.T)
    ordered = load_pretrained(tmp_path, num_classes=3, labels=("owl", "cat", "dog"))
    assert not ordered.new_head
    np.testing.assert_array_equal(ordered.weights["head.kernel"], weight[[2, 0, 1]].T)
    np.testing.assert_array_equal(
        ordered.weights["head.bias"], tensors["classifier.bias"][[2, 0, 1]]
    )
    for other in (
        load_pretrained(tmp_path, num_classes=3, labels=("owl", "cat", "ant")),
        load_pretrained(tmp_path, num_classes=4),
    ):
        assert (
            other.new_head
            and "new head" in other.notes[-1]
            and not other.weights["head.kernel"].any()
        )
    assert other.weights["head.kernel"].shape == (D, 4)
    huggingface(tmp_path, "dinov2", classes=None, prefix="")
    with pytest.raises(ConfigError, match="no head.*num_classes"):
        load_pretrained(tmp_path)
    assert load_pretrained(tmp_path, num_classes=4).weights["head.kernel"].shape == (2 * D, 4)


# Resampling


def test_bicubic_is_an_interpolation():
    for old, new in ((37, 7), (4, 9), (5, 5), (1, 3)):
        np.testing.assert_allclose(bicubic_matrix(old, new).sum(1), 1)
    np.testing.assert_array_equal(bicubic_matrix(5, 5), np.eye(5))
    line = bicubic_matrix(12, 24) @ np.arange(
        12.0
    )  # a straight line stays one, apart from the edges
    np.testing.assert_allclose(line[4:-4], (np.arange(24) + 0.5)[4:-4] / 2 - 0.5, atol=0.05)


def test_positions_keep_the_class_token_and_the_axes():
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(1, 1 + 4 * 6, 8)).astype(np.float32)
    assert resample_positions(embedding, (4, 6), (4, 6)) is embedding
    new = resample_positions(embedding, (4, 6), (3, 9))
    assert new.shape == (1, 28, 8) and new.dtype == np.float32
    np.testing.assert_array_equal(new[0, 0], embedding[0, 0])
    embedding[0, 1:] = np.repeat(np.arange(4.0), 6)[:, None]  # differs by rows only
    rows = resample_positions(embedding, (4, 6), (4, 12))[0, 1:].reshape(4, 12, 8)
    np.testing.assert_allclose(
        rows, np.broadcast_to(np.arange(4.0)[:, None, None], (4, 12, 8)), atol=1e-6
    )


@pytest.mark.parametrize("old, new", [(8, 14), (7, 8), (14, 16), (4, 4)])
def test_a_larger_patch_gives_the_same_embedding_of_the_resized_picture(old, new):
    from edvit_tf.device.model.resize import resize

    rng = np.random.default_rng(old)
    kernel, patch = (
        rng.normal(size=(old, old, 3, 5)).astype(np.float32),
        rng.normal(size=(old, old, 3)),
    )
    larger = resample_patch_kernel(kernel, new)
    assert larger.shape == (new, new, 3, 5)
    embedding = np.einsum("hwc,hwcd->d", patch, kernel)
    resized = np.einsum("hwc,hwcd->d", resize(patch, new, new), larger)
    np.testing.assert_allclose(resized, embedding, rtol=1e-3, atol=1e-3 * np.abs(embedding).max())


def test_a_smaller_patch_is_the_best_of_its_size():
    """No exact kernel exists; that of least squares leaves no error that a change of it could
    mend.
    """
    from edvit_tf.device.model.resize import resize

    kernel = np.random.default_rng(0).normal(size=(14, 14, 1, 2)).astype(np.float32)
    smaller = resample_patch_kernel(kernel, 8)
    matrix = resize(np.eye(14)[:, :, None], 8, 14)[..., 0]  # (8, 14)
    left = np.einsum("yh,yxcd,xw->hwcd", matrix, smaller, matrix) - kernel
    np.testing.assert_allclose(np.einsum("yh,xw,hwcd->yxcd", matrix, matrix, left), 0, atol=1e-4)


def test_channels_are_folded_exactly():
    rng = np.random.default_rng(0)
    kernel, bias = (
        rng.normal(size=(4, 4, 3, 5)).astype(np.float32),
        rng.normal(size=5).astype(np.float32),
    )
    mean, std, grey = (120.0, 110.0, 100.0), (60.0, 50.0, 70.0), rng.integers(0, 256, (4, 4, 1))

    def embed(kernel, bias, mean, std, x):
        return np.einsum("hwc,hwcd->d", (x - np.array(mean)) / np.array(std), kernel) + bias

    expected = embed(kernel, bias, mean, std, np.repeat(grey, 3, -1))
    one = resample_channels(kernel, bias, mean, std, 1)
    assert one[0].shape == (4, 4, 1, 5) and len(one[2]) == len(one[3]) == 1
    np.testing.assert_allclose(embed(*one, grey), expected, rtol=1e-4)
    np.testing.assert_allclose(
        embed(*resample_channels(*one, 3), np.repeat(grey, 3, -1)), expected, rtol=1e-4
    )
    with pytest.raises(ConfigError, match="3 channels and the data have 4"):
        resample_channels(kernel, bias, mean, std, 4)


def test_a_grey_picture_and_its_rgb_copy_get_the_same_answer(tmp_path):
    huggingface(tmp_path, "dinov2")
    grey = pixels((32, 32, 1))
    one, three = load_pretrained(tmp_path, (32, 32, 1)), load_pretrained(tmp_path)
    assert "channels 3 -> 1" in one.notes
    assert error(answers(one, grey)[0], answers(three, np.repeat(grey, 3, -1))[0]) < 1e-5


# What is refused


def _write(edit):
    """A checkpoint folder that `edit(config, tensors)` has changed."""

    def make(folder):
        config, tensors = huggingface(folder, write=False)
        edit(config, tensors)
        save(folder, config, tensors)

    return make


def _file(name, content=b"", remove=()):
    def make(folder):
        huggingface(folder)
        for other in remove:
            (folder / other).unlink()
        (folder / name).write_bytes(content)

    return make


def _truncated(folder):
    huggingface(folder)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-2000])


def _set(tensors, name, value):
    tensors[name] = value


@pytest.mark.parametrize(
    "make, message",
    [
        (
            _write(lambda c, t: t.pop("vit.layernorm.bias")),
            r"no tensor vit.layernorm.bias.*shape \(24,\)",
        ),
        (
            _write(
                lambda c, t: _set(
                    t, "vit.encoder.layer.1.output.dense.weight", np.zeros((24, 47), np.float32)
                )
            ),
            r"vit.encoder.layer.1.output.dense.weight has shape \(24, 47\).*asks for \(24, 48\)",
        ),
        (
            _write(lambda c, t: c.update(image_size=40)),
            r"position_embeddings has shape \(1, 17, 24\).*\(1, 26, 24\)",
        ),
        (
            _write(lambda c, t: c.update(num_hidden_layers=1)),
            r"encoder.layer.1.* of shape .*no place",
        ),
        (_write(lambda c, t: c.update(num_hidden_layers=3)), r"no tensor vit.encoder.layer.2"),
        (
            _write(lambda c, t: c.update(id2label={"0": "a"})),
            r"classifier.weight has shape \(5, 24\).*asks for \(1, 24\)",
        ),
        (
            _write(lambda c, t: _set(t, "classifier.bias", np.full(5, np.nan, np.float32))),
            r"classifier.bias.* 5 .*NaN",
        ),
        (
            _write(lambda c, t: _set(t, "classifier.bias", np.zeros(5, np.int8))),
            r"classifier.bias is int8.*quantised",
        ),
        (_write(lambda c, t: c.update(hidden_act="gelu_new")), r"hidden_act = 'gelu_new'.*gelu"),
        (_write(lambda c, t: c.update(use_swiglu_ffn=True)), r"use_swiglu_ffn = True"),
        (
            _write(lambda c, t: c.update(num_attention_heads=5)),
            r"num_attention_heads = 5.*divisor of hidden_size = 24",
        ),
        (_write(lambda c, t: c.update(hidden_size="wide")), r"hidden_size = 'wide'.*whole number"),
        (
            _write(lambda c, t: c.update(model_type="swin")),
            r"'swin'.*vit, dinov2, audio-spectrogram-transformer",
        ),
        (_truncated, r"cut off: tensor vit.* of shape \(.*\) ends at byte \d+, the file at \d+"),
        (_file("model.safetensors", b"no tensors at all"), r"not a safetensors file"),
        (_file("model.safetensors"), r"not a safetensors file.*0 bytes"),
        (_file("config.json", b"{"), r"config.json is not readable JSON"),
        (_file("config.json", b"[]"), r"config.json holds a list"),
        (_file("README.md", remove=["config.json"]), r"no config.json"),
        (_file("README.md", remove=["model.safetensors"]), r"no model.safetensors"),
        (
            _file("pytorch_model.bin", remove=["model.safetensors"]),
            r"pytorch_model.bin.*pickled.*safetensors",
        ),
        (_file("model.weights.h5", b"no", remove=["model.safetensors"]), r"not an HDF5 file"),
    ],
)
def test_a_wrong_checkpoint_is_named(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(ConfigError, match=message):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.pt", "model.pth", "last.ckpt"])
def test_pickled_files_are_refused(tmp_path, file):
    (tmp_path / file).write_bytes(b"\x80\x04.")
    with pytest.raises(
        ConfigError, match=f"{file} is a pickled file: .* any code.*Convert it to safetensors"
    ):
        find_base(tmp_path / file)


def test_kerashub_errors_name_the_tensor(tmp_path):
    import h5py

    kerashub(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for key, value, message in (
        ("mlp_dim", 47, r"mlp/dense_1/vars/0 has shape \(24, 48\).*\(24, 47\)"),
        ("use_class_token", False, "use_class_token = False"),
    ):
        changed = {**config, "config": {**config["config"], key: value}}
        (tmp_path / "config.json").write_text(json.dumps(changed))
        with pytest.raises(ConfigError, match=message):
            load_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with h5py.File(tmp_path / "model.weights.h5", "a") as stored:
        del stored["layers/vi_t_encoder/layer_norm/vars/1"]
    with pytest.raises(
        ConfigError, match=r"no tensor layers/vi_t_encoder/layer_norm/vars/1.*\(24,\)"
    ):
        load_pretrained(tmp_path)
    content = (tmp_path / "model.weights.h5").read_bytes()
    (tmp_path / "model.weights.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(ConfigError, match="model.weights.h5 is not an HDF5 file, or is damaged"):
        load_pretrained(tmp_path)


def test_keras_files_are_checked(tmp_path):
    from edvit_tf.models.vit.keras_model import build_vit
    from edvit_tf.models.weights import from_weights, get_weights

    config = vit_config("vit_smoke", (32, 32, 1), 4)
    weights = get_weights(build_vit(config))
    file = tmp_path / "base.keras"
    from_weights(config, {**weights, "head.bias": np.full(4, np.inf, np.float32)}).save(file)
    with pytest.raises(ConfigError, match=r"head.bias of shape \(4,\) holds NaN or infinite"):
        load_base(file, config)
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(ConfigError, match="base.keras is cut off or damaged"):
        load_base(file, config)


# Names on the hub


def test_a_hub_name_is_fetched_once(tmp_path, capsys):
    folder = tmp_path / "given"
    huggingface(folder)
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    with fake_hub(tmp_path / "cache") as hub:
        hub.repos["someone/tiny-vit"] = Repo({**files, "pytorch_model.bin": b"code"})
        assert load_pretrained("someone/tiny-vit").config.hidden_dim == D
        size = sum(len(files[name]) for name in ("config.json", "model.safetensors")) / 1e3
        assert f"someone/tiny-vit is fetched from the hub, {size:.0f} kB" in capsys.readouterr().out
        assert "pytorch_model.bin" not in hub.fetched()
        hub.asked.clear()
        told = base_origin("someone/tiny-vit", "splits")
        assert told.startswith("someone/tiny-vit at ") and " (sha256 " in told
        assert hub.asked == []


def test_a_hub_name_that_gives_no_base_says_why_before_its_weights_are_fetched(tmp_path):
    with fake_hub(tmp_path / "cache") as hub:
        hub.repos["someone/t5"] = Repo(
            {"config.json": b'{"model_type": "t5"}', "model.safetensors": b"x" * 50_000}
        )
        hub.repos["someone/pickled"] = Repo(
            {"config.json": b'{"model_type": "vit"}', "pytorch_model.bin": b"x"}
        )
        with pytest.raises(ConfigError, match="a model of type 't5'; read are "):
            find_base("someone/t5")
        with pytest.raises(ConfigError, match="no weights as safetensors.*pytorch_model.bin, whi"):
            find_base("someone/pickled")
        with pytest.raises(ConfigError, match="the hub has no such repository.*config.json and"):
            find_base("someone/nothing")
        assert set(hub.fetched()) == {"config.json"}


def test_without_network_or_package_it_says_what_to_do(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="someone/vit is no folder here.*HF_HUB_OFFLINE is set"):
        find_base("someone/vit")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="did not answer.*Check the network.*config.json"):
        find_base("someone/vit")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match="someone/vit.*pip install huggingface-hub"):
        find_base("someone/vit")


@pytest.mark.parametrize(
    "source", ["nowhere/base.keras", "x.h5", "/nowhere/at/all", "a/b/c", "../checkpoint"]
)
def test_what_is_no_hub_name_is_not_looked_for_there(source, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match="is not there.*facebook/dinov2-small"):
        find_base(source)


# In a run


def test_a_base_takes_the_runs_shape_and_the_checkpoints_widths(tmp_path):
    huggingface(tmp_path, "dinov2")
    divided = load_base(tmp_path, vit_config("vit_smoke", (40, 24, 1), 7, patch_size=4)).config
    assert (divided.image_shape, divided.patch_size, divided.num_classes) == ((40, 24, 1), 8, 7)
    assert (divided.hidden_dim, divided.num_heads, divided.mlp_dim, divided.pool) == (
        D,
        3,
        48,
        "cls_mean",
    )
    other = load_base(tmp_path, vit_config("vit_smoke", (28, 28, 3), 7, patch_size=7))
    assert other.config.patch_size == 7 and other.notes[0] == "patch size 8 -> 7"
    assert answers(other, pixels((28, 28, 3)))[1].shape == (2, 7)


def test_sound_is_normalised_by_its_own_statistics(tmp_path):
    expected = vit_config(
        "vit_smoke", (24, 40, 1), 4, patch_size=8, input_mean=(-40.0,), input_std=(20.0,)
    )
    decibels = np.random.default_rng(0).normal(-40, 20, (2, 24, 40, 1)).astype(np.float32)
    for kind, std in (("dinov2", 20.0), (AST, 40.0)):
        config, tensors = huggingface(
            tmp_path / kind, kind, **({} if kind == AST else {"image_size": 40})
        )
        base = load_base(tmp_path / kind, expected, decibels=True)
        assert base.config.input_mean == (-40.0,) and base.config.input_std == (std,)
    tokens = plain_tokens(config, tensors, (decibels + 40) / 40)
    assert error(answers(base, decibels)[0], tokens[:, 0]) < 1e-5


def test_where_a_base_comes_from_is_said(tmp_path):
    huggingface(tmp_path / "tiny")
    first = base_origin(tmp_path / "tiny", "splits")
    assert first.startswith("tiny (sha256 ") and "may have seen the test split" in first
    huggingface(tmp_path / "tiny", seed=1)
    assert base_origin(tmp_path / "tiny", "splits") != first


def test_a_base_whose_name_is_not_utf_8_is_told_in_words_that_can_be_stored(tmp_path):
    """No manifest may hold the lone surrogate as which Python keeps such a byte."""
    base = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.keras"))
    base.write_bytes(b"weights")
    assert base_origin(base, "splits").startswith("caf\\xe9.keras (sha256 ")

    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/th\xe9"))
    huggingface(folder)
    assert base_origin(folder, "splits").startswith("th\\xe9 (sha256 ")


@pytest.mark.parametrize("record", [None, "", '{"description": {"spl', "[]", '{"description": {}}'])
def test_a_base_whose_run_cannot_be_told_is_of_unknown_origin(tmp_path, record):
    base = tmp_path / "run.work" / "base" / "base.keras"
    base.parent.mkdir(parents=True)
    base.write_bytes(b"weights")
    if record is not None:
        (tmp_path / "run.work" / "run.json").write_text(record)
    assert "origin unknown" in base_origin(base, "splits")


@pytest.mark.parametrize("classes, trained", [(3, False), (4, True)])
def test_a_new_head_is_fine_tuned_and_a_kept_one_is_not(tmp_path, classes, trained):
    from edvit_tf.config import DataConfig
    from edvit_tf.device.model.image import ImageSpec
    from edvit_tf.pipeline import steps
    from edvit_tf.pipeline.stage import Run, Stage
    from edvit_tf.pipeline.store import Stages

    huggingface(tmp_path / "checkpoint", classes=classes)
    once = TrainConfig(epochs=1, batch_size=2)
    config = RunConfig(
        name="t",
        data=DataConfig("mnist", (32, 32)),
        model="vit_smoke",
        base_training=once,
        stage_training=once,
        fusion_training=once,
    )

    def inputs(folder):
        np.save(folder / "train.npy", pixels((32, 32, 3)).astype(np.uint8))
        two = np.array([0, 1])
        np.savez(folder / "index.npz", train_labels=two, train_recordings=two)
        return {"description": {"labels": ["a", "b", "c"]}, "mean": [127.5], "std": [127.5]}

    stages, expected = Stages(tmp_path / "work", "key"), vit_config("vit_smoke", (32, 32, 3), 3)
    stages.run("data", inputs)
    run = Run(stages, config)
    pictures = types.SimpleNamespace(
        spec=ImageSpec(32, 32, 3), labels=["a", "b", "c"], input_files={}
    )
    build = partial(steps.base, dataset=pictures, given=tmp_path / "checkpoint")
    run.make(Stage("base", ("data",), build))
    result = stages.result("base")
    start = load_base(tmp_path / "checkpoint", expected).weights
    same = {
        name: bool((value == start[name]).all()) for name, value in stages.arrays("base").items()
    }
    assert bool(result["history"]) == trained and all(same.values()) != trained
    assert (
        same["block_00.mlp.expand.kernel"] != trained
        and ("new head" in result["notes"][-1]) == trained
    )


def test_a_recipe_plans_from_a_checkpoint(tmp_path):
    huggingface(tmp_path / "tiny", "dinov2")
    done = run_host("recipes/mnist.py", "--smoke", "--dry-run", "--base", tmp_path / "tiny")
    assert done.returncode == 0, done.stderr
    assert "patch size 8 -> 7" in done.stdout and "new head of 10 classes" in done.stdout
    assert re.search(
        r"^base +3 +24 +48 ", done.stdout, re.M
    )  # the checkpoint's widths, not the preset's


# Parity with transformers


@pytest.fixture(scope="module")
def transformers():
    """transformers, quiet; the test is skipped where it or torch is missing."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    reason = "needs the [reference] extra: torch and transformers"
    pytest.importorskip("torch", reason=reason)
    module = pytest.importorskip("transformers", reason=reason)
    module.logging.disable_progress_bar()
    return module


def _model(module, kind, classifier, **changes):
    import torch

    torch.manual_seed(0)
    small = {
        "hidden_size": D,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "layer_norm_eps": 1e-6,
        **changes,
    }
    if classifier:
        small["num_labels"] = 5
    if kind == "vit":
        config = module.ViTConfig(image_size=32, patch_size=8, intermediate_size=48, **small)
        model = (module.ViTForImageClassification if classifier else module.ViTModel)(config)
    elif kind == "dinov2":
        config = module.Dinov2Config(image_size=40, patch_size=8, mlp_ratio=2, **small)
        model = (module.Dinov2ForImageClassification if classifier else module.Dinov2Model)(config)
    else:
        config = module.ASTConfig(
            patch_size=8, intermediate_size=48, num_mel_bins=24, max_length=40, **small
        )
        model = (module.ASTForAudioClassification if classifier else module.ASTModel)(config)
    for (
        parameter
    ) in model.parameters():  # transformers' start is near zero: no layer would be missed
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


def _their_answers(model, base, x, **arguments):
    """(last hidden states, logits or None) of a transformers model for raw inputs x (B, H, W,
    C).
    """
    import torch

    encoder = getattr(model, model.base_model_prefix, model)
    z = torch.tensor(normalised(base, x).astype(np.float32))
    with torch.no_grad():
        z = z[..., 0].transpose(1, 2) if base.config.image_shape[2] == 1 else z.permute(0, 3, 1, 2)
        tokens = encoder(z, **arguments).last_hidden_state.numpy()
        return tokens, None if encoder is model else model(z, **arguments).logits.numpy()


@pytest.mark.reference
@pytest.mark.parametrize("classifier", [False, True], ids=["encoder", "classifier"])
@pytest.mark.parametrize("kind", ["vit", "dinov2"])
def test_images_agree_with_transformers(transformers, tmp_path, kind, classifier):
    model = _model(transformers, kind, classifier)
    model.save_pretrained(tmp_path)
    for shape in (
        ((32, 32, 3), (56, 24, 3)) if kind == "vit" else ((40, 40, 3), (32, 32, 3), (24, 64, 3))
    ):
        base = load_pretrained(tmp_path, shape, 5)
        x = pixels(shape)
        tokens, logits = _their_answers(
            model, base, x, **({"interpolate_pos_encoding": True} if kind == "vit" else {})
        )
        features, ours = answers(base, x)
        assert error(features, pooled(tokens, kind)) < TOLERANCE
        assert base.new_head != classifier and (not classifier or error(ours, logits) < TOLERANCE)


@pytest.mark.reference
@pytest.mark.parametrize("classifier", [False, True], ids=["encoder", "classifier"])
def test_ast_agrees_with_transformers_without_its_distillation_token(
    transformers, tmp_path, classifier
):
    """The whole AST, strides equal to the patch, its second token hidden from the others: that much
    is one model.
    """
    import torch

    model = _model(transformers, AST, classifier, frequency_stride=8, time_stride=8)
    model.save_pretrained(tmp_path)
    base = load_pretrained(tmp_path, num_classes=5)
    x = np.random.default_rng(0).normal(-4, 9, (2, 24, 40, 1)).astype(np.float32)
    mask = torch.ones(2, 2 + 15, dtype=torch.long)
    mask[:, 1] = 0
    encoder = getattr(model, model.base_model_prefix, model)
    tokens, _ = _their_answers(encoder, base, x, attention_mask=mask)
    assert error(answers(base, x)[0], tokens[:, 0]) < TOLERANCE
    # the patch tokens too: a base that pools them
    both = base.config.replace(pool="cls_mean")
    weights = {**base.weights, "head.kernel": np.zeros((2 * D, 5), np.float32)}
    features, _ = answers(types.SimpleNamespace(config=both, weights=weights), x)
    assert error(features[:, D:], tokens[:, 2:].mean(1)) < TOLERANCE


@pytest.mark.reference
def test_overlapping_ast_positions_are_interpolated_as_torch_does(transformers, tmp_path):
    import torch

    model = _model(transformers, AST, False, frequency_stride=5, time_stride=5)  # a grid of 4 x 7
    model.save_pretrained(tmp_path)
    ours = load_pretrained(tmp_path, num_classes=5).weights["position_embedding.embedding"]
    theirs = model.embeddings.position_embeddings.detach()
    grid = theirs[:, 2:].reshape(1, 4, 7, D).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, size=(3, 5), mode="bicubic", align_corners=False)
    np.testing.assert_allclose(
        ours[0, 1:], grid[0].permute(1, 2, 0).reshape(15, D).numpy(), atol=1e-5
    )
    np.testing.assert_array_equal(ours[0, 0], theirs[0, 0].numpy())


@pytest.mark.reference
@pytest.mark.parametrize("name", ["dinov2-small-cifar10", "dinov2-small"])
def test_real_dinov2_weights_agree_with_transformers(transformers, name):
    """98 x 98 pixels: the fine-tuned ones at their own size, the general ones from a grid of 37 x
    37.
    """
    import torch

    folder = Path(os.environ.get("EDVIT_WEIGHTS", "")) / name
    if "EDVIT_WEIGHTS" not in os.environ or not folder.is_dir():
        pytest.skip(f"needs EDVIT_WEIGHTS, a folder that holds {name}")
    base = load_base(folder, vit_config("vit_small", (98, 98, 3), 10, patch_size=14))
    kind = transformers.Dinov2Model if base.new_head else transformers.Dinov2ForImageClassification
    model = kind.from_pretrained(folder, dtype=torch.float32).eval()
    x = pixels((98, 98, 3))
    x[1] = np.repeat(
        np.repeat(x[1, ::14, ::14], 14, 0), 14, 1
    )  # a picture of coarse squares beside noise
    tokens, logits = _their_answers(model, base, x)
    features, ours = answers(base, x)
    assert error(features, pooled(tokens, "dinov2")) < TOLERANCE
    assert base.new_head == (name == "dinov2-small") and (
        base.new_head or error(ours, logits) < TOLERANCE
    )
