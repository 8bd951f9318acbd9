"""`edvit study flops`: the paper's Table 4, by both conventions."""

import json
from pathlib import Path

import pytest

from edvit_tf.cli.main import main
from edvit_tf.errors import ConfigError
from edvit_tf.models import preset
from edvit_tf.study.flops import bases, flops, flops_html, flops_text, series

# ViT-Base by the paper's text, G; ours to the MAC, without and with the products of attention
TABLE_4 = {
    1: (16.86, 16_847_740_416, 17_563_067_904),
    2: (4.25, 4_240_836_864, 4_598_500_608),
    3: (1.90, 1_897_661_696, 2_136_104_192),
    5: (1.08, 1_074_659_904, 1_253_491_776),
    10: (0.48, 484_049_152, 603_270_400),
}


def test_vit_base_has_the_papers_macs_and_all_of_them():
    rows = flops(bases(["vit_base"]))
    assert [row["devices"] for row in rows] == list(TABLE_4)
    for row in rows:
        paper, own, full = TABLE_4[row["devices"]]
        assert (row["macs"], row["macs_full"]) == (own, full)
        assert row["macs"] / 1e9 == pytest.approx(paper, rel=0.025)
    assert [row["kept"] for row in rows] == [12, 6, 4, 3, 2]
    assert rows[-1]["file_bytes"] / 2**20 == pytest.approx(9.6, rel=0.025)
    assert rows[-1]["total_bytes"] == 10 * rows[-1]["file_bytes"]
    assert rows[-1]["widths"] == {"heads": 2, "d": 128, "c": 512}


def test_the_table_of_the_docs_is_what_the_command_prints():
    text = (Path(__file__).parents[2] / "docs/explanation/costs.md").read_text("utf-8")
    for row in flops(bases(["vit_base"])):
        cells = [row["devices"], row["kept"], f"{row['macs'] / 1e9:.3f}"]
        cells += [f"{row['macs_full'] / 1e9:.3f}", f"{row['file_bytes'] / 2**20:.2f}"]
        assert f"| {' | '.join(map(str, cells))} |" in text


def test_small_and_large_start_with_their_share_of_heads():
    rows = flops(bases(["vit_small", "vit_large"]))
    kept = {(row["model"], row["devices"]): row["kept"] for row in rows}
    assert [kept["vit_small", n] for n in (1, 2, 3, 5, 10)] == [6, 3, 2, 2, 1]
    assert [kept["vit_large", n] for n in (1, 2, 3, 5, 10)] == [16, 8, 6, 4, 2]


def test_another_architecture_has_its_own_widths():
    rows = flops({"vgg9": preset("vgg9", (32, 32, 3), 10)}, (1, 10))
    assert set(rows[0]["widths"]) == {"filt", "F"} and rows[1]["macs"] < rows[0]["macs"] / 10
    assert rows[0]["macs"] == rows[0]["macs_full"]


@pytest.mark.parametrize("count", [0, 11])
def test_more_devices_than_classes_are_refused(count):
    with pytest.raises(ConfigError, match=f"N is {count} for 10 classes.*Ask for 1 to 10"):
        flops(bases(["vit_smoke"]), (count,))


def test_a_name_is_escaped_and_a_figure_that_is_no_number_is_told():
    rows = flops({"<b>&": preset("vit_smoke", (32, 32, 3), 4)}, (1, 2))
    html = flops_html(rows)
    assert "<b>&" not in html and "&lt;b&gt;&amp;" in html and html.count("<svg") == 3
    rows[1]["macs"] = float("nan")
    html = flops_html(rows)
    assert "not drawn: &lt;b&gt;&amp; at 2: nan" in html
    assert "nan" in flops_text(rows)
    assert list(series(rows, "nothing", 1)[0][2]) == []


def test_the_command_prints_and_draws_and_overwrites_nothing(tmp_path, capsys):
    page = tmp_path / "new" / "flops.html"
    words = ["study", "flops", "--models", "vit_base", "--html", str(page)]
    assert main([*words, "--json"]) == 0
    assert [row["macs"] for row in json.loads(capsys.readouterr().out)] == [
        own for _, own, _ in TABLE_4.values()
    ]
    html = page.read_text()
    assert "edvit study flops --models vit_base" in html and html.count("<figure") == 3

    page.write_text("mine")
    assert main(words) == 6 and "Pass --overwrite" in capsys.readouterr().err
    assert page.read_text() == "mine"
    assert main([*words, "--overwrite"]) == 0 and "16.85" in capsys.readouterr().out
    assert main(["study", "flops", "--html", str(tmp_path)]) == 6
    assert "is a folder" in capsys.readouterr().err


def test_a_preset_that_there_is_not_is_named(capsys):
    assert main(["study", "flops", "--models", "vit_huge"]) == 3
    assert "no model preset 'vit_huge'" in capsys.readouterr().err
