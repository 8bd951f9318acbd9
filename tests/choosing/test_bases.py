"""Which base is taken without asking anybody's network."""

import json
import time

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save_file

from edvit_tf.choosing import bases
from edvit_tf.choosing.bases import at_hand, choose_base
from edvit_tf.errors import ConfigError
from edvit_tf.hub import offers as offering
from tests.support.fake_hub import Repo, fake_hub

PLACES = ("EDVIT_WEIGHTS", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "KAGGLEHUB_CACHE")


@pytest.fixture(autouse=True)
def no_models(monkeypatch, tmp_path):
    for name in PLACES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    # what is told of a model here is told of its config.json
    monkeypatch.setattr(bases, "unreadable", lambda one: None)


def checkpoint(folder, config, numbers=10):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"x": np.zeros(numbers, np.float32)}, folder / "model.safetensors")
    return folder


DINO = {"model_type": "dinov2", "hidden_size": 384, "patch_size": 14}
VIT = {"model_type": "vit", "hidden_size": 192, "patch_size": 16}
BERT = {"model_type": "bert", "hidden_size": 384}
AST = {"model_type": "audio-spectrogram-transformer", "hidden_size": 768, "patch_size": 16}


def in_hub_cache(root, name, config, numbers=10):
    owner, _, model = name.partition("/")
    return checkpoint(
        root / f"models--{owner}--{model}/snapshots/0123456789abcdef", config, numbers
    )


def test_nothing_at_hand_means_from_scratch_and_says_what_that_costs(monkeypatch):
    monkeypatch.setattr("edvit_tf.models.sources._download", pytest.fail)
    chosen = choose_base("auto", "pictures")
    assert chosen.source is None and chosen.pretrained is None
    said = "\n".join(chosen.said)
    assert "from scratch" in said and "has 43 % where a pretrained one has 89" in said
    assert "facebook/dinov2-small (88 MB)" in said and "--base facebook/dinov2-small" in said
    assert "The hub was not asked" in said
    assert "ast-finetuned" in "\n".join(choose_base("auto", "sound").said)
    said = "\n".join(choose_base("auto", "text").said)
    assert "43 %" not in said and "vocabulary is made of the training texts" in said
    assert "--base sentence-transformers/all-MiniLM-L6-v2 fetches it" in said


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"])
def test_a_model_in_the_hubs_cache_is_taken_wherever_that_is(monkeypatch, tmp_path, variable):
    inner = {"HF_HUB_CACHE": "", "HF_HOME": "hub", "XDG_CACHE_HOME": "huggingface/hub"}
    root = tmp_path / "own" / inner.get(variable, ".cache/huggingface/hub")
    folder = in_hub_cache(root, "facebook/dinov2-small", DINO)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv(variable, str(tmp_path / "own"))
    chosen = choose_base("auto", "pictures")
    assert chosen.source == folder and chosen.pretrained.patch_size == 14
    said = chosen.said[0]
    assert "facebook/dinov2-small at 0123456789ab" in said and "Hugging Face's cache" in said
    assert choose_base("scratch", "pictures").source is None


def test_the_smallest_that_suits_comes_first_and_others_are_named(monkeypatch, tmp_path):
    cache = tmp_path / ".cache/huggingface/hub"
    in_hub_cache(cache, "facebook/dinov2-small", DINO, 3000)
    in_hub_cache(cache, "a/tiny", VIT, 2000)
    in_hub_cache(cache, "b/ast", AST, 1000)
    in_hub_cache(cache, "c/bert", {"model_type": "bert"}, 10)
    broken = in_hub_cache(cache, "d/torn", DINO)
    (broken / "model.safetensors").unlink()
    (in_hub_cache(cache, "e/minilm", BERT) / "vocab.txt").write_text("[PAD]")
    assert [one.kind for one in at_hand("pictures")] == ["vit", "dinov2"]
    assert at_hand("sound")[0].kind == "audio-spectrogram-transformer"
    assert "Also at hand: facebook/dinov2-small" in choose_base("auto", "pictures").said[1]
    # for texts the BERT that has its vocabulary, and nothing else
    assert [(one.kind, one.hidden_dim) for one in at_hand("text")] == [("bert", 384)]
    chosen = choose_base("auto", "text")
    assert chosen.vocabulary == chosen.source / "vocab.txt" and chosen.lower_case


def test_kerashub_and_a_folder_of_ones_own_are_looked_into(monkeypatch, tmp_path):
    keras = tmp_path / ".cache/kagglehub/models/keras/vit/keras/vit_tiny/2"
    keras.mkdir(parents=True)
    config = {"class_name": "ViTBackbone", "config": {"patch_size": [16, 16], "hidden_dim": 192}}
    (keras / "config.json").write_text(json.dumps(config))
    (keras / "model.weights.h5").write_bytes(bytes(5000))
    assert [(one.place, one.patch_size) for one in at_hand("pictures")] == [
        ("KerasHub's cache", 16)
    ]

    own = checkpoint(tmp_path / "weights" / "mine", DINO)
    monkeypatch.setenv("EDVIT_WEIGHTS", str(tmp_path / "weights"))
    assert choose_base("auto", "pictures").source == own


def test_a_base_that_is_named_is_taken_or_refused(tmp_path):
    own = checkpoint(tmp_path / "mine", VIT)
    assert choose_base(str(own), "sound").source == own
    other = checkpoint(tmp_path / "bert", {"model_type": "bert"})
    with pytest.raises(ConfigError, match="is no checkpoint that is read"):
        choose_base(str(other), "pictures")
    with pytest.raises(ConfigError, match="is read for text: its config.json must be of bert"):
        choose_base(str(own), "text")
    with pytest.raises(ConfigError, match="is not there"):
        choose_base(str(tmp_path / "absent" / "x"), "pictures")


def test_a_model_whose_weights_cannot_be_read_is_passed_over_and_said(monkeypatch, tmp_path):
    monkeypatch.undo()
    for name in PLACES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "none"))
    in_hub_cache(tmp_path / "hf/hub", "a/torn", DINO)  # one tensor, of no name that is known
    chosen = choose_base("auto", "pictures")
    assert chosen.source is None and "a/torn" in chosen.said[0]
    assert "is passed over: " in chosen.said[0] and "from scratch" in chosen.said[1]


def test_what_the_hub_has_is_offered_by_its_own_names_and_sizes(monkeypatch, tmp_path):
    with fake_hub(tmp_path / "cache") as hub:
        for name, config in (("facebook/dinov2-small", DINO), (bases.OFFERED["sound"][1][0], AST)):
            files = {"config.json": b"{}", "model.safetensors": b"x", "pytorch_model.bin": b"x"}
            hub.repos[name] = Repo(files, config=config, told={"model.safetensors": 91_500_000})
        said = "\n".join(choose_base("auto", "pictures").said)
        assert "--base facebook/dinov2-small   (92 MB)" in said and "ast" not in said
        assert "--base MIT/ast-finetuned" in "\n".join(choose_base("auto", "sound").said)
        assert hub.fetched() == [] and not list((tmp_path / "cache").glob("models--*"))

        # of a kind that is not read, or not there: not offered
        hub.repos["facebook/dinov2-small"].config = {"model_type": "bert"}
        said = "\n".join(choose_base("auto", "pictures").said)
        assert "has none of the small models" in said and "--base facebook" not in said
        hub.repos.clear()
        assert "has none of the small" in "\n".join(choose_base("auto", "pictures").said)


def test_a_hub_that_does_not_answer_is_not_waited_for(monkeypatch, tmp_path):
    monkeypatch.setattr(offering, "WAIT_SECONDS", 0.3)
    with fake_hub(tmp_path / "cache") as hub:
        hub.wait_seconds = 30.0
        begun = time.monotonic()
        said = "\n".join(choose_base("auto", "sound").said)
        assert time.monotonic() - begun < 20
        assert "did not answer" in said and "facebook/dinov2-small (88 MB)" in said
        hub.wait_seconds = 0.0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.asked)
    choose_base("auto", "sound")
    assert len(hub.asked) == asked
