"""`edvit study energy`: what stands for energy, of bundles and of widths alone."""

import json
import shutil

import numpy as np
import pytest

from edvit_tf.cli.main import main
from edvit_tf.errors import ConfigError
from edvit_tf.models import architecture, preset
from edvit_tf.study.energy import (
    INPUTS,
    architecture_of,
    energy_html,
    energy_of_bundle,
    energy_of_models,
    energy_text,
)


def test_every_architecture_has_a_row_by_its_widths():
    rows = energy_of_models(["vit_base", "vgg16", "snn16", "bert_base"], 10)
    assert [row["architecture"] for row in rows] == ["vit", "vgg", "snn", "bert"]
    assert set(INPUTS) == {"vit", "vgg", "snn", "bert"}
    vit, vgg, snn, bert = rows

    # ten sub-models of two heads: a picture to each, 128 floats back
    assert (vit["macs"], vit["total_macs"]) == (603_270_400, 6_032_704_000)
    assert vit["input_bytes"] == 224 * 224 * 3 and vit["answer_bytes"] == 4 * 128
    assert vit["moved_bytes"] == 10 * (224 * 224 * 3 + 4 * 128)
    # a text is moved as numbers of its pieces
    assert bert["input_bytes"] == 4 * 128 and bert["weights_read"] > vit["weights_read"]
    # the same cut of the same net: dense work grows with the steps, but for the first layer
    assert 4 < snn["macs"] / vgg["macs"] < 5 and snn["steps"] == 5
    assert all(row["spikes"] is None and row["ms"] is None for row in rows)


def test_a_budget_makes_rows_of_equal_size():
    small = energy_of_models(["vgg16", "snn16"], 2, budget_bytes=2 * 2**20)
    assert all(0.9 < row["weights_read"] / 2**20 < 1.1 for row in small)
    assert small[0]["macs"] < energy_of_models(["vgg16"], 2)[0]["macs"]


def test_a_preset_is_found_and_another_is_refused():
    assert [architecture_of(name) for name in ("minilm", "snn9")] == ["bert", "snn"]
    with pytest.raises(ConfigError, match="no model preset 'resnet'; the presets are: vit_tiny"):
        energy_of_models(["resnet"])


@pytest.fixture
def spiking(smoke_bundle, tmp_path):
    """A copy of a bundle whose results tell of spikes; of a ViT, which the table does not mind."""
    folder = shutil.copytree(smoke_bundle, tmp_path / "spiking")
    results = json.loads((folder / "results.json").read_text())
    for number, sub in enumerate(results["sub_models"]):
        sub["spikes"] = {"spikes": 1000.0 + number, "rate": 0.25, "flip_rate": 0.0}
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def test_a_bundle_has_its_measured_spikes_bytes_and_time(smoke_bundle, spiking):
    row = energy_of_bundle(smoke_bundle)
    manifest = json.loads((smoke_bundle / "manifest.json").read_text())
    subs = manifest["sub_models"]
    assert row["spikes"] is None and row["total_macs"] == sum(sub["macs_full"] for sub in subs)
    given = np.dtype(manifest["input"]["dtype"]).itemsize * int(np.prod(manifest["input"]["shape"]))
    back = 4 * sum(manifest["fusion"]["widths"])
    assert row["moved_bytes"] == len(subs) * given + back
    files = [(smoke_bundle / sub["file"]).stat().st_size for sub in subs]
    assert row["weights_read"] == max(files) and row["ms"] > 0

    row = energy_of_bundle(spiking)
    assert (row["spikes"], row["spike_rate"]) == (1001.0, 0.25)
    text = " ".join(energy_text([row]).split())
    assert "1,001 (25.0 %)" in text and "profits from sparse spikes" in text
    assert "* SYNTHETIC stand-in" in text


def test_the_table_fits_escapes_and_leaves_out_what_no_row_has(spiking):
    rows = energy_of_models(["vit_base"], 10)
    assert "spikes an" not in energy_text(rows) and "accuracy" not in energy_text(rows)
    rows.append({**energy_of_bundle(spiking), "name": "<i>", "ms": float("nan")})
    assert max(map(len, energy_text(rows).splitlines())) <= 118
    html = energy_html(rows)
    assert "<i>" not in html and "&lt;i&gt;" in html and html.count("<svg") == 3
    assert "features" in html and "spikes an" in html


def test_the_command_takes_bundles_and_models(smoke_bundle, tmp_path, capsys):
    page = tmp_path / "energy.html"
    words = ["study", "energy", str(smoke_bundle), "--models", "vgg9", "--json"]
    assert main([*words, "--html", str(page)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["architecture"] for row in rows] == ["vit", "vgg"]
    base = preset("vgg9", (32, 32, 3), 10)
    assert rows[1]["macs"] < architecture(base).macs(base)
    assert "edvit study energy" in page.read_text()
    assert main(["study", "energy", "--budget", "12"]) == 3
    assert main(["study", "energy", str(tmp_path)]) != 0


def test_a_board_adds_joules_of_all_devices():
    (row,) = energy_of_models(["vit_base"], 10, board="pi4b")
    (fast,) = energy_of_models(["vit_base"], 10, board="pi5")
    joules = row["joules"]
    assert joules["low"] < joules["middle"] < joules["high"]
    # ten times 603 M MACs at 6.83 G a second, 3.4 W
    assert joules["middle"] == pytest.approx(3.4 * row["total_macs"] / 6.8319e9, rel=1e-3)
    assert fast["joules"]["middle"] < joules["middle"]
    text = energy_text([row])
    assert "J, all" in text and "on a Raspberry Pi 4 Model B for each sub-model" in text
    (without,) = energy_of_models(["vit_base"], 10)
    assert without["joules"] is None and "J, all" not in energy_text([without])


def test_the_published_figures_are_printed_with_their_sources(capsys):
    assert main(["study", "energy", "--boards"]) == 0
    text = capsys.readouterr().out
    assert "pi5: Raspberry Pi 5" in text and "2.8 W idle, 9.7 W loaded" in text
    assert text.count("https://") >= 18 and "Wi-Fi: no measured rate was found" in text
    assert main(["study", "energy", "--boards", "--json"]) == 0
    assert [board["key"] for board in json.loads(capsys.readouterr().out)][-1] == "zero2w"
    assert main(["study", "energy", "--board", "pi9"]) == 3
