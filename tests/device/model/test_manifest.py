"""A manifest is read into types; what is wrong with it is a BundleError that names the place."""

import copy
import json

import pytest

from edvit_tf.device.errors import BundleError
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.manifest import FlavourEntry
from edvit_tf.device.model.view import View
from tests.support.commands import rewrite_manifest, run_python

SUB_MODEL = {
    "index": 0,
    "name": "submodel-00",
    "file": "submodel-00.tflite",
    "keras": "submodel-00.keras",
    "flavours": {
        "float32": {
            "file": "submodel-00.tflite",
            "target": "portable",
            "runtimes": ["tflite-runtime", "ai-edge-litert"],
        }
    },
    "classes": [0, 1],
    "labels": ["ant", "bee"],
    "other": False,
    "kept": 2,
    "config": {"hidden_dim": 24},
    "params": 100,
    "macs": 1000,
    "macs_full": 1100,
    "weight_bytes": 400,
    "devices": ["pi-0"],
}
MANIFEST = {
    "schema_version": 1,
    "name": "demo",
    "task": "image-classification",
    "labels": ["ant", "bee"],
    "input": {
        "name": "image",
        "dtype": "uint8",
        "shape": [16, 16, 1],
        "spec": {"kind": "image", "height": 16, "width": 16, "channels": 1},
        "files": [],
    },
    "sub_models": [SUB_MODEL],
    "fusion": {
        "kind": "average",
        "file": "fusion.tflite",
        "keras": "fusion.keras",
        "lambda": 0.5,
        "widths": [24],
    },
    "plan": {
        "devices": [{"name": "pi-0", "memory_bytes": None}],
        "budget_bytes": None,
        "strategy": "random",
        "assignment": "greedy",
        "samples": 3,
        "replicas": 2,
        "flavour": "float16",
    },
    "data": {"name": "mnist"},
    "run": {"seed": 4},
    "seed": 4,
    "versions": {"python": "3.11.7"},
    "files": {"fusion.tflite": {"bytes": 10, "sha256": "ab"}},
}


@pytest.fixture
def opened(tmp_path):
    """Stores a changed copy of MANIFEST and opens it."""

    def store(change=lambda manifest: None):
        manifest = copy.deepcopy(MANIFEST)
        change(manifest)
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        return open_bundle(tmp_path)

    return store


def test_the_entries_are_what_was_written(opened):
    bundle = opened()
    entry = bundle.sub_models[0]
    assert (entry.index, entry.name, entry.classes, entry.kept) == (0, "submodel-00", (0, 1), 2)
    assert entry.flavours["float32"] == FlavourEntry(
        "submodel-00.tflite", "portable", ("tflite-runtime", "ai-edge-litert")
    )
    assert bundle.fusion.kind == "average" and bundle.fusion.hidden_factor == 0.5
    assert bundle.widths == (24,) and bundle.labels == ["ant", "bee"]
    assert bundle.input.shape == (16, 16, 1) and bundle.input_files == ()
    assert bundle.files["fusion.tflite"].bytes == 10
    plan = bundle.manifest.plan
    assert (plan.samples, plan.replicas, plan.flavour) == (3, 2, "float16")


def test_a_manifest_of_version_0_1_still_opens(opened):
    """Its keys, and none that came later."""

    def aged(manifest):
        entry = manifest["sub_models"][0]
        entry["kept_heads"] = entry.pop("kept")
        del entry["flavours"]["float32"]["target"]
        del manifest["fusion"]["kind"]
        del manifest["input"]["files"]
        manifest["input"]["mel_filters"] = "mel_filters.npy"
        for key in ("replicas", "flavour"):
            del manifest["plan"][key]

    bundle = opened(aged)
    assert bundle.sub_models[0].kept == 2 and bundle.fusion.kind == "tower"
    assert bundle.sub_models[0].flavours["float32"].target == "portable"
    assert bundle.input_files == ("mel_filters.npy",)
    assert (bundle.manifest.plan.replicas, bundle.manifest.plan.flavour) == (1, "float32")


# ZWNJ, ZWJ, a soft hyphen, a no-break space, the space of Japanese, a character of private use
LETTERS = ("\u200c", "\u200d", "\xad", "\xa0", "\u3000", "\ue000")
# a tab, an escape, NEL, the separators of lines and of paragraphs
NO_LETTERS = ("\t", "\x1b", "\x85", "\u2028", "\u2029")


@pytest.mark.parametrize("character", LETTERS)
def test_labels_of_every_script_are_opened(opened, character):
    label = f"می{character}خواهم"
    assert opened(lambda m: m["labels"].__setitem__(0, label)).labels == [label, "bee"]


@pytest.mark.parametrize("character", NO_LETTERS)
def test_a_label_that_would_break_a_line_is_refused(opened, character):
    with pytest.raises(BundleError, match="one line without control characters"):
        opened(lambda m: m["labels"].__setitem__(0, f"a{character}b"))


def test_keys_of_a_later_version_are_left_alone(opened):
    bundle = opened(lambda m: m["sub_models"][0].update(colour="red"))
    assert bundle.sub_models[0].name == "submodel-00"


def test_a_sub_model_sees_inputs_as_they_are_or_by_its_view(opened):
    assert opened().sub_models[0].view == View()
    entry = {"down": -2, "right": 3, "mirrored": True, "crop": 1}
    bundle = opened(lambda m: m["sub_models"][0].update(view=entry))
    assert bundle.sub_models[0].view == View(-2, 3, True, 1)


@pytest.mark.parametrize(
    "view, message",
    [
        ({"down": "2"}, r"sub_models\[0\]\.view\.down is '2'; it must be a whole number"),
        ({"turned": 90}, r"sub_models\[0\]\.view\.turned is unknown"),
        ({"crop": 8}, r"sub_models\[0\]\.view: View\.crop is 8, of an input of 16 rows"),
        (None, r"sub_models\[0\]\.view is None; it must be an object"),
    ],
)
def test_a_view_that_cannot_be_is_named(opened, view, message):
    with pytest.raises(BundleError, match=message):
        opened(lambda m: m["sub_models"][0].update(view=view))


def _ranged(manifest: dict, **features) -> None:
    """Gives the first sub-model ranges of its answers, with these changes."""
    good = {"values": [-1.0, 2.0], "rms": [1, 1.5], "spread": [0.5, 1.0]}
    ranges = {"samples": 9, "features": {**good, **features}, "logits": good}
    manifest["sub_models"][0]["ranges"] = ranges


def test_ranges_of_answers_are_read_and_older_bundles_have_none(opened):
    assert opened().sub_models[0].ranges is None
    ranges = opened(_ranged).sub_models[0].ranges
    assert ranges is not None and ranges.samples == 9
    assert ranges.features.values == (-1.0, 2.0) and ranges.logits.rms == (1.0, 1.5)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda m: m["fusion"].pop("file"), "fusion lacks 'file'"),
        (lambda m: m["fusion"].update(file=None), "fusion.file is None; it must be a text"),
        (lambda m: m.update(fusion=[]), "fusion is []; it must be an object"),
        (lambda m: m.update(sub_models=[]), "sub_models is empty"),
        (lambda m: m.update(sub_models=[3]), "sub_models[0] is 3; it must be an object"),
        (lambda m: m["sub_models"][0].pop("flavours"), "sub_models[0] lacks 'flavours'"),
        (
            lambda m: m["sub_models"][0]["flavours"].update(int8={"file": "x"}),
            "sub_models[0].flavours.int8 lacks 'runtimes'",
        ),
        (
            lambda m: m["sub_models"][0].update(classes=[0, "1"]),
            "sub_models[0].classes holds '1'; it must be a list of whole numbers",
        ),
        (lambda m: m["sub_models"][0].update(params=True), "params is True"),
        (lambda m: m["fusion"].update(widths=[24, 24]), "2 values, for 1 sub-models"),
        (
            lambda m: _ranged(m, values=[1.0]),
            "ranges.features.values is [1.0]; it must be the least",
        ),
        (lambda m: _ranged(m, rms=[2, 1]), "ranges.features.rms is [2, 1]"),
        (lambda m: _ranged(m, spread=[0, float("inf")]), "ranges.features.spread is [0, inf]"),
        (lambda m: _ranged(m, spread=[0, 10**400]), "ranges.features.spread is [0, 1000"),
        (lambda m: _ranged(m, spread=["0", 1]), "ranges.features.spread holds '0'"),
        (lambda m: m["sub_models"][0].update(ranges={}), "ranges lacks 'samples'"),
        (lambda m: m.update(labels="ant, bee"), "labels is 'ant, bee'"),
        (lambda m: m["input"].update(shape=16), "input.shape is 16"),
        (lambda m: m["input"].update(dtype="(1,2"), "input.dtype is '(1,2'"),
        (lambda m: m["files"].update(x=7), "files.x is 7; it must be an object"),
        (lambda m: m.update(seed="1"), "seed is '1'; it must be a whole number"),
        (lambda m: m.pop("plan"), "lacks plan"),
    ],
)
def test_what_is_wrong_with_it_is_a_bundle_error_that_names_the_place(opened, change, words):
    with pytest.raises(BundleError) as refused:
        opened(change)
    assert words in str(refused.value) and "again" in str(refused.value)
    assert refused.value.exit_code == 7


def test_serve_refuses_a_manifest_without_the_fusion_s_file(tiny_bundle, tmp_path):
    """Fault (b): it was a KeyError with a traceback."""
    (tmp_path / "manifest.json").write_bytes((tiny_bundle / "manifest.json").read_bytes())
    rewrite_manifest(tmp_path, lambda m: m["fusion"].pop("file"))
    done = run_python(
        *("-m", "edvit_tf.cli", "serve", tmp_path, "--devices", "127.0.0.1:1"),
        *("--listen", "127.0.0.1:0", "--insecure"),
    )
    assert done.returncode == 7 and "fusion lacks 'file'" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
