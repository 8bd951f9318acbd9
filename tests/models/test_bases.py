"""What is given as --base and is none: each says in one line what it is, and what to do."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edvit_tf.errors import ConfigError
from edvit_tf.models.sources import base_origin, find_base
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.models.vit.pretrained import load_base, load_pretrained
from tests.support.checkpoint_files import AST, huggingface, save

CONFIG = ViTConfig(
    (8, 8, 1),
    patch_size=4,
    num_layers=1,
    hidden_dim=8,
    num_heads=2,
    head_dim=4,
    mlp_dim=8,
    num_classes=3,
)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 500\n"


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    from edvit_tf.models.weights import from_weights, initial_weights

    file = tmp_path_factory.mktemp("base") / "base.keras"
    from_weights(CONFIG, initial_weights(CONFIG, 0)).save(file)
    return file


def rewritten(source: Path, file: Path, change=None, drop: tuple[str, ...] = ()) -> None:
    """The .keras file with `change(name, JSON)` of its parts, and some left out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if change and name.endswith(".json"):
                content = json.dumps(change(name, json.loads(content))).encode()
            if name not in drop:
                new.writestr(name, content)


def newer(name: str, value):
    """As a later Keras writes it: another version, and an option that this one does not know."""
    if name == "metadata.json":
        return {**value, "keras_version": "3.99.0"}
    for layer in value["config"]["layers"]:
        if layer["class_name"] == "Dense":
            layer["config"]["some_new_option"] = 1
    return value


def unknown_layer(name: str, value):
    if name == "config.json":
        for layer in value["config"]["layers"]:
            if layer["class_name"] == "Dense":
                layer.update(module="nowhere.layers", registered_name="pkg>Mine", class_name="Mine")
    return value


def flipped(content: bytes, name: str) -> bytes:
    """One bit of a member's bytes is another."""
    place = content.index(name.encode()) + len(name) + 600
    return content[:place] + bytes([content[place] ^ 0x40]) + content[place + 1 :]


DAMAGES = {
    "cut off": (
        lambda good, file: file.write_bytes(good.read_bytes()[:5000]),
        r"is cut off or damaged .*5000 bytes.*copy it again",
    ),
    "empty": (lambda good, file: file.write_bytes(b""), r"0 bytes do not begin as a zip does"),
    "one bit": (
        lambda good, file: file.write_bytes(flipped(good.read_bytes(), "model.weights.h5")),
        r"is (cut off or )?damaged.*copy it again",
    ),
    "page": (lambda good, file: file.write_bytes(b"\n<!DOCTYPE html><html>"), r"is a web page"),
    "LFS": (lambda good, file: file.write_bytes(POINTER), r"note of git-LFS.*`git lfs pull`"),
    "HDF5": (
        lambda good, file: file.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 900),
        r"HDF5 file, as Keras 2 wrote them",
    ),
    "without weights": (
        lambda good, file: rewritten(good, file, drop=("model.weights.h5",)),
        r"not whole: model.weights.h5 is missing",
    ),
    "newer": (
        lambda good, file: rewritten(good, file, newer),
        r"written by Keras 3.99.0, and here is 3\.[\d.]+ \(.*some_new_option.*install keras==3.99",
    ),
    "unknown layer": (
        lambda good, file: rewritten(good, file, unknown_layer),
        r"holds no model that can be opened here \(.*Mine",
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_keras_file_that_does_not_open_is_told_in_one_line(good, tmp_path, kind):
    make, words = DAMAGES[kind]
    file = tmp_path / "base.keras"
    make(good, file)
    with pytest.raises(ConfigError) as raised:
        load_base(file, CONFIG)
    told = str(raised.value)
    assert re.search(words, told), told
    assert "\n" not in told and str(file) in told and len(told) < 600


@pytest.mark.parametrize("name", ["metadata.json", "config.json", "model.weights.h5"])
def test_no_byte_that_was_overwritten_ends_in_a_traceback(good, tmp_path, name):
    content = bytearray(good.read_bytes())
    for place in range(content.index(name.encode()), len(content) - 60, 997):
        content[place] ^= 0x40
    (tmp_path / "base.keras").write_bytes(bytes(content))
    with pytest.raises(ConfigError, match="damaged|not whole|no model"):
        load_base(tmp_path / "base.keras", CONFIG)


def test_a_keras_model_of_somebody_elses_is_named(tmp_path):
    import keras

    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "other.keras")
    with pytest.raises(
        ConfigError, match=r"is not a ViT of edvit_tf \(.*no layers named normalise"
    ):
        load_base(tmp_path / "other.keras", CONFIG)


def test_a_folder_of_ours_leads_to_its_base(good, tmp_path):
    work = tmp_path / "mnist.work"
    (work / "base").mkdir(parents=True)
    shutil.copy(good, work / "base" / "base.keras")
    (work / "run.json").write_text("{}")
    bundle = tmp_path / "mnist"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    (work / "head").mkdir()
    (work / "head" / "stage.json").write_text("{}")

    there = re.escape(str(work / "base" / "base.keras"))
    for folder, what in (
        (work, "the work folder of a run"),
        (work / "base", "a stage of a run"),
        (bundle, "a bundle"),
    ):
        with pytest.raises(ConfigError, match=f"is {what}, and no checkpoint. Give {there}"):
            find_base(folder)
    with pytest.raises(ConfigError, match=r"is a stage of a run.*base/base.keras of the same"):
        find_base(work / "head")

    shutil.rmtree(work / "base")
    for folder, what in ((work, "base is not finished"), (bundle, "sub-models and no base")):
        with pytest.raises(ConfigError, match=what):
            base_origin(folder, "splits")


def since_5(kind: str, tensors: dict) -> dict:
    """The tensors by the names that transformers 5 writes."""
    renamed = {}
    for name, value in tensors.items():
        for part, short in (("query", "q"), ("key", "k"), ("value", "v")):
            name = name.replace(f"attention.attention.{part}", f"attention.{short}_proj")
        name = name.replace("attention.output.dense", "attention.o_proj")
        if kind != "dinov2":
            name = name.replace("encoder.layer.", "layers.")
            name = name.replace("intermediate.dense", "mlp.fc1")
            name = name.replace("output.dense", "mlp.fc2")
        renamed[name] = value
    return renamed


@pytest.mark.parametrize("prefix", [None, ""])
@pytest.mark.parametrize("kind", ["vit", "dinov2", AST])
def test_the_names_of_transformers_5_give_the_same_base(tmp_path, kind, prefix):
    config, tensors = huggingface(tmp_path / "4", kind, prefix=prefix)
    later = since_5(kind, tensors)
    assert set(later) != set(tensors)
    save(tmp_path / "5", config, later)

    one = load_pretrained(tmp_path / "4", num_classes=5)
    two = load_pretrained(tmp_path / "5", num_classes=5)
    assert one.config == two.config and set(one.weights) == set(two.weights)
    for name, value in one.weights.items():
        np.testing.assert_array_equal(value, two.weights[name])


@pytest.mark.parametrize(
    "kind, whole",
    [
        ("vit", {"image_processor": {"image_mean": [0.1], "image_std": [0.2]}}),
        ("vit", {"image_mean": [0.1], "image_std": [0.2]}),
        (AST, {"feature_extractor": {"mean": -3.0, "std": 4.0}}),
    ],
)
def test_processor_config_alone_says_how_the_input_is_made(tmp_path, kind, whole):
    huggingface(tmp_path, kind)
    default = load_pretrained(tmp_path, num_classes=5).config
    (tmp_path / "processor_config.json").write_text(json.dumps(whole))
    config = load_pretrained(tmp_path, num_classes=5).config
    if kind == AST:
        assert (config.input_mean, config.input_std) == ((-3.0,), (8.0,))
    else:
        assert config.input_mean == pytest.approx((25.5,)) and config.input_std == (51.0,)
    assert default.input_mean != config.input_mean
    assert "processor_config.json" in find_digest_files(tmp_path)

    (tmp_path / "processor_config.json").write_text(json.dumps({"image_mean": "wide", "mean": "x"}))
    with pytest.raises(ConfigError, match=r"processor_config.json does not say how to normalise"):
        load_pretrained(tmp_path, num_classes=5)


def find_digest_files(folder: Path) -> list[str]:
    """The files of a checkpoint that its digest, and with it the run's key, follows from."""
    from edvit_tf.models.sources import _checkpoint_files

    return [file.name for file in _checkpoint_files(folder)]


def test_a_folder_of_timm_is_named(tmp_path):
    _, tensors = huggingface(tmp_path)
    timm = {"architecture": "vit_small_patch16_224", "num_classes": 5, "pretrained_cfg": {}}
    save(tmp_path, timm, tensors)
    with pytest.raises(ConfigError, match=r"timm \('vit_small_patch16_224'\).*dinov2-small"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_note_of_git_lfs_in_a_checkpoint_is_named(tmp_path, name):
    huggingface(tmp_path)
    (tmp_path / name).write_bytes(POINTER)
    with pytest.raises(ConfigError, match=rf"{name} is a note of git-LFS.*`git lfs pull`"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["tf_model.h5", "flax_model.msgpack", "saved_model.pb"])
def test_weights_of_another_program_are_named(tmp_path, name):
    huggingface(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ConfigError, match=f"its weights as {name}.*safetensors"):
        load_pretrained(tmp_path)
