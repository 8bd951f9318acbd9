"""`edvit bench nets`: bytes and MACs that were measured for the nets of the paper, out of files."""

import pytest

from edvit_tf.bench.nets import bench_nets, nets_text
from edvit_tf.errors import ConfigError


@pytest.mark.parametrize(
    "net, kept, mib, mmacs, features, steps",
    [("vgg16", 20, 2.25, 13.9, 102, 1), ("snn16", 10, 0.6, 6.2, 51, 5)],
)
def test_files_of_full_width_weigh_what_was_measured(
    net, kept, mib, mmacs, features, steps, monkeypatch, tmp_path
):
    """The published net cut to a share of its filters: its file without the head, counted over the
    file's own operators.
    """
    from edvit_tf.bench import nets
    from edvit_tf.models import preset
    from tests.support.tflite_count import count

    small = preset(net, (32, 32, 3), 10).pruned(kept, 2)
    row = nets._exported(tmp_path / "a.tflite", net, kept, small)
    found = count(tmp_path / "a.tflite")
    head = features * 2
    first = 32 * 32 * 27 * small.filters[0]  # computed once, whatever the steps
    assert row["features"] == features and row["macs"] == found.macs
    once = (found.macs - head - first) / steps + first
    assert once / 1e6 == pytest.approx(mmacs, abs=0.06)
    assert (found.weight_bytes - 4 * head) / 2**20 == pytest.approx(mib, abs=0.06)
    # the rest is the graph: weights stand in the file once, not once a step
    assert found.weight_bytes < row["file_bytes"] < found.weight_bytes + 30_000 * steps


def test_the_share_of_a_devices_bytes_is_the_largest_that_fits():
    rows = bench_nets(("vgg_smoke",), kept=(1,), most_bytes=(13_000,), runs=2, turns=1)
    whole, one, found = rows
    assert (whole["kept"], one["kept"]) == (4, 1)
    assert one["kept"] < found["kept"] < 4 and found["file_bytes"] <= 13_000
    assert all(ms["median"] > 0 for row in rows for ms in row["ms"].values())
    assert nets_text(rows).count("\n") == 3
    for wrong, words in (({"most_bytes": (10,)}, "10 bytes"), ({"nets": ("vit_base",)}, "filters")):
        with pytest.raises(ConfigError, match=words):
            bench_nets(**({"nets": ("vgg_smoke",), "runs": 0} | wrong))
