"""Bundles to the hub and from it, by the hub's own client, against a hub on this machine."""

import hashlib
import json
import shutil

import pytest
import yaml

from edvit_tf.cli.main import main
from edvit_tf.device.errors import BundleError
from edvit_tf.device.model.bundle import open_bundle, verified_path
from edvit_tf.errors import HubError, OutputError
from edvit_tf.hub import pull as pulling
from edvit_tf.hub.card import with_head
from edvit_tf.hub.pull import pull
from edvit_tf.hub.push import BESIDE, CARD, push
from tests.support.fake_hub import Repo, blob_id, fake_hub

# the hub's client sends large files to httpx in a way that httpx wants no more
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
NAME = "somebody/birds"
SUB_MODEL = {
    "index": 0,
    "name": "submodel-00",
    "file": "submodel-00.tflite",
    "keras": "submodel-00.keras",
    "flavours": {
        "float32": {
            "file": "submodel-00.tflite",
            "target": "portable",
            "runtimes": ["ai-edge-litert"],
        }
    },
    **{"classes": [0, 1], "labels": ["ant", "bee"], "other": False, "kept": 2, "devices": ["pi-0"]},
    **{"config": {}, "params": 1, "macs": 1, "macs_full": 1, "weight_bytes": 4},
}
MANIFEST = {
    **{"schema_version": 1, "name": "birds", "task": "image-classification", "seed": 0},
    "labels": ["ant", "bee"],
    "input": {
        **{"name": "image", "dtype": "uint8", "shape": [16, 16, 1], "files": []},
        "spec": {"kind": "image", "height": 16, "width": 16, "channels": 1},
    },
    "sub_models": [SUB_MODEL],
    "fusion": {
        **{"kind": "average", "file": "fusion.tflite", "keras": "fusion.keras", "lambda": 0.5},
        "widths": [24],
    },
    "plan": {
        "devices": [{"name": "pi-0", "memory_bytes": None}],
        **{"budget_bytes": None, "strategy": "random", "assignment": "greedy", "samples": 1},
        **{"replicas": 1, "flavour": "float32"},
    },
    "data": {"name": "birds", "source": "birds", "synthetic": False},
    "run": {"seed": 0},
}


@pytest.fixture
def hub(tmp_path):
    with fake_hub(tmp_path / "cache") as made:
        yield made


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of files that nothing runs here, with a real manifest."""
    folder = tmp_path_factory.mktemp("hub") / "birds"
    folder.mkdir()
    names = ("submodel-00.tflite", "submodel-00.keras", "fusion.tflite", "fusion.keras")
    for i, name in enumerate((*names, "labels.txt", "golden.npz", "splits.json")):
        (folder / name).write_bytes(bytes([i]) * (30_000 if name.endswith("tflite") else 200))
    files = {}
    for file in folder.iterdir():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        files[file.name] = {"bytes": file.stat().st_size, "sha256": digest}
    (folder / "manifest.json").write_text(json.dumps(MANIFEST | {"files": files}))
    (folder / CARD).write_text("# birds\n")
    (folder / "report.html").write_text("<p>a report</p>")
    (folder / "notes-of-mine.txt").write_text("not for others")
    return folder


def test_a_bundle_goes_there_and_comes_back_the_same(hub, bundle, tmp_path, capsys):
    assert main(["hub", "push", str(bundle), NAME, "--private"]) == 0
    repo = hub.repos[NAME]
    assert repo.private and repo.commits == 1
    assert set(repo.files) == {
        *open_bundle(bundle).files,
        *("manifest.json", CARD, "report.html", ".gitattributes"),
    }
    # large ones by the store for them, the card with a head
    assert hashlib.sha256(repo.files["fusion.tflite"]).hexdigest() in hub.large
    assert repo.files[CARD].startswith(b"---\n") and (bundle / CARD).read_text() == "# birds\n"

    assert main(["hub", "pull", NAME, str(tmp_path / "here" / "birds")]) == 0
    assert "verified" in capsys.readouterr().out
    found = open_bundle(tmp_path / "here" / "birds")
    assert found.digest == open_bundle(bundle).digest
    for name in found.files:
        assert verified_path(found, name).read_bytes() == (bundle / name).read_bytes()
    # a page of somebody else's with code, and what the client notes for itself, are not there
    left = {path.name for path in found.path.iterdir()} - set(found.files)
    assert left == {"manifest.json", CARD}
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["birds"]


def test_what_is_there_is_not_replaced_unasked(hub, bundle, tmp_path):
    push(bundle, NAME)
    push(bundle, NAME)  # the same again
    hub.repos["somebody/other"] = Repo({"model.bin": b"x", "README.md": b"y"})
    with pytest.raises(HubError, match="something else, such as model.bin.*--overwrite"):
        push(bundle, "somebody/other")
    hub.repos[NAME].files |= {"manifest.json": b"{}", "submodel-07.tflite": b"older"}
    with pytest.raises(HubError, match="holds another bundle. Pass --overwrite"):
        push(bundle, NAME)
    push(bundle, NAME, overwrite=True)
    assert "submodel-07.tflite" not in hub.repos[NAME].files
    hub.repos["somebody/public"] = Repo()
    with pytest.raises(HubError, match="is there and public"):
        push(bundle, "somebody/public", private=True)

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    asked = len(hub.asked)
    with pytest.raises(OutputError, match="exists; nothing is replaced"):
        pull(NAME, tmp_path / "full")
    assert len(hub.asked) == asked and (tmp_path / "full" / "mine").read_text() == "mine"


@pytest.mark.parametrize("kept", [True, False])
def test_a_report_with_data_of_ones_own_is_not_sent(hub, bundle, tmp_path, capsys, kept):
    mine = shutil.copytree(bundle, tmp_path / "mine")
    (mine / "report.html").write_text('<ul class="mistakes"><li>a child</li></ul>')
    if kept:
        (mine / "report.html").write_text("<p>made before</p>")
        (mine / "mistakes.json").write_text("{}")
    push(mine, NAME)
    assert not {"report.html", "mistakes.json"} & set(hub.repos[NAME].files)
    assert "shows pictures or sounds of yours and is not sent" in capsys.readouterr().out


def test_a_damaged_bundle_is_not_sent(hub, bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "damaged")
    (tmp_path / "damaged" / "labels.txt").write_text("other")
    with pytest.raises(BundleError, match="labels.txt was changed"):
        push(tmp_path / "damaged", NAME)
    assert hub.asked == []


def refused(hub, tmp_path, words, error=HubError, fetched=()):
    """`pull` refuses, has fetched no more than this, and leaves nothing behind."""
    with pytest.raises(error, match=words):
        pull(NAME, tmp_path / "out" / "birds")
    assert set(hub.fetched()) <= {"manifest.json", *fetched}
    assert not any((tmp_path / "out").iterdir()) if (tmp_path / "out").exists() else True


@pytest.mark.parametrize("name", ["../../.bashrc", "/etc/x", "a\\b", "C:x", "x\n.txt", "a/../b"])
def test_hostile_names_are_refused_before_anything_is_fetched(hub, bundle, tmp_path, name):
    push(bundle, NAME)
    hub.asked.clear()
    hub.repos[NAME].told[name] = 5
    refused(hub, tmp_path, "lists a file named .* refused")
    assert hub.fetched() == []


def test_a_manifest_that_names_such_files_is_refused(hub, bundle, tmp_path):
    push(bundle, NAME)
    manifest = json.loads(hub.repos[NAME].files["manifest.json"])
    manifest["files"]["../x"] = manifest["files"]["labels.txt"]
    hub.repos[NAME].files["manifest.json"] = json.dumps(manifest).encode()
    hub.asked.clear()
    refused(hub, tmp_path, f"^{NAME}/manifest.json .*leaves the bundle's folder", BundleError)


def test_huge_files_are_refused_before_they_are_fetched(hub, bundle, tmp_path, monkeypatch):
    push(bundle, NAME)
    hub.asked.clear()
    repo = hub.repos[NAME]
    repo.told["manifest.json"] = 1 << 40
    refused(hub, tmp_path, "a manifest.json of 1099511627776 bytes")
    repo.told = {CARD: 1 << 40}
    refused(hub, tmp_path, "a README.md of 1099511627776 bytes")
    repo.told = {"fusion.tflite": 1 << 40}
    refused(hub, tmp_path, "fusion.tflite has 1099511627776 bytes, and 30000 by its manifest")
    repo.told = {}
    monkeypatch.setattr(pulling, "MOST_BYTES", 1000)
    refused(hub, tmp_path, "bytes of files by its manifest; a bundle has")


def test_what_is_no_whole_bundle_leaves_nothing(hub, bundle, tmp_path):
    hub.repos[NAME] = Repo({"README.md": b"a model", "model.safetensors": b"x"})
    refused(hub, tmp_path, "is no bundle: it has no manifest.json .it has README.md, model.safe")
    hub.repos[NAME] = Repo({"manifest.json": b"[]"})
    refused(hub, tmp_path, "schema_version", BundleError)
    del hub.repos[NAME]
    push(bundle, NAME)
    hub.asked.clear()
    labels = hub.repos[NAME].files.pop("labels.txt")
    refused(hub, tmp_path, "lacks labels.txt, which its manifest lists")
    # as long as it should be, and another
    hub.repos[NAME].files["labels.txt"] = labels[::-1].replace(b"\4", b"\5")
    refused(hub, tmp_path, "labels.txt is not what the manifest says", fetched=bundle_names(bundle))


def test_a_download_that_breaks_off_leaves_nothing(hub, bundle, tmp_path, monkeypatch):
    from huggingface_hub import file_download

    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)  # between its tries
    push(bundle, NAME)
    hub.asked.clear()
    hub.repos[NAME].cut.add("fusion.tflite")
    refused(hub, tmp_path, "the hub at .* did not answer", fetched=bundle_names(bundle))
    hub.repos[NAME].cut.clear()
    assert pull(NAME, tmp_path / "out" / "birds").is_dir()


def bundle_names(bundle):
    return {*(path.name for path in bundle.iterdir()), *BESIDE}


def test_a_file_beside_the_manifest_is_what_the_hub_lists(hub, bundle, tmp_path):
    push(bundle, NAME)
    card = hub.repos[NAME].files[CARD]
    hub.repos[NAME].served[CARD] = card[:-1] + b"!"
    refused(hub, tmp_path, "README.md is not what the hub lists", fetched=bundle_names(bundle))
    assert blob_id(card) != blob_id(card[:-1] + b"!")


def test_errors_say_what_to_do(hub, bundle, tmp_path, monkeypatch, capsys):
    with pytest.raises(HubError, match="no such repository.*hf auth login"):
        pull("nobody/nothing", tmp_path / "x")
    with pytest.raises(HubError, match="Write OWNER/NAME"):
        pull("a//b", tmp_path / "x")
    hub.refused = 403
    with pytest.raises(HubError, match="the hub refused .403.*a token that may write"):
        push(bundle, NAME)

    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main(["hub", "pull", NAME, str(tmp_path / "x")]) == HubError.exit_code
    said = capsys.readouterr().err
    assert said.startswith(f"error: {NAME}: ") and "HF_HUB_OFFLINE is set" in said


def test_without_the_client_the_command_to_install_it_is_said(bundle, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for ask in (lambda: push(bundle, NAME), lambda: pull(NAME, tmp_path / "x")):
        with pytest.raises(HubError, match="pip install huggingface-hub "):
            ask()


@pytest.mark.parametrize("config, tag", [({}, "vit"), ({"architecture": "bert"}, "bert")])
def test_a_card_is_tagged_by_what_its_models_are(config, tag):
    manifest = MANIFEST | {"sub_models": [SUB_MODEL | {"config": config}]}
    head = yaml.safe_load(with_head("# birds\n", manifest, None).split("---\n")[1])
    assert head["tags"] == ["edvit", "tflite", "edge", "raspberry-pi", tag]


def test_a_card_has_what_was_measured_and_no_more():
    from huggingface_hub import ModelCard

    manifest = {
        "name": 'my "birds": é',
        "task": "image-classification",
        "data": {"name": "Garden birds!", "synthetic": False},
    }
    results = {
        "fusion": {
            "tflite": {"recording": 0.91234, "recordings": 60},
            "calibration": {"ece": float("nan")},
        },
        "single": None,
    }
    text = with_head("# birds\n", manifest, results)
    card = ModelCard(text, ignore_metadata_errors=False)
    assert card.text.strip() == "# birds" and card.data.library_name == "edvit_tf"
    (one,) = card.data.eval_results
    assert (one.metric_type, one.metric_value, one.dataset_split) == ("accuracy", 0.9123, "test")
    assert one.dataset_name == "Garden birds!" and one.dataset_type == "garden-birds"
    assert card.data.model_name == 'my "birds": é' and "60 of the test" in one.metric_name
    # again: one head
    assert with_head(text, manifest, results) == text

    bare = yaml.safe_load(with_head("", manifest, None).split("---\n")[1])
    assert "model-index" not in bare and "metrics" not in bare
    made_up = {**manifest, "data": {"name": "x", "synthetic": True}}
    head = yaml.safe_load(with_head("", made_up, results).split("---\n")[1])
    assert "model-index" not in head and "synthetic-data" in head["tags"]
