"""float16 and int8 files beside float32: exported, run where they load, measured, chosen by a
device.
"""

import json

import pytest

from edvit_tf.config import DataConfig, RunConfig, TrainConfig
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.manifest import FlavourEntry
from edvit_tf.device.model.runtime import installed_runtimes
from edvit_tf.errors import ConfigError, ExportError
from tests.support.commands import SMOKE, run_device, run_host

BOTH = pytest.mark.skipif(
    "ai-edge-litert" not in installed_runtimes(), reason="ai-edge-litert is not installed"
)


@pytest.fixture(scope="module")
def flavoured(tmp_path_factory):
    out = tmp_path_factory.mktemp("flavours") / "mnist"
    done = run_host(*SMOKE, "--flavours", "float32,float16,int8", "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@BOTH
def test_every_flavour_is_measured_in_every_runtime_that_loads_it(flavoured):
    results = json.loads((flavoured / "results.json").read_text())
    rows = {(row["flavour"], row["runtime"].split()[0]): row for row in results["flavours"]}
    assert ("int8", "tflite-runtime") not in rows and ("int8", "ai-edge-litert") in rows
    assert rows["float32", "ai-edge-litert"]["p95_relative_error"] < 1e-4
    assert 0 < rows["float16", "ai-edge-litert"]["p95_relative_error"] < 1e-2
    assert 1e-4 < rows["int8", "ai-edge-litert"]["p95_relative_error"] < 0.2
    judged = results["flavours_on_validation"]
    assert {row["flavour"] for row in judged} == {"float16", "int8"}
    assert all(row["ok"] and row["lost"] <= row["may_lose"] for row in judged)
    sizes = [
        rows[flavour, "ai-edge-litert"]["file_bytes"] for flavour in ("float32", "float16", "int8")
    ]
    assert max(sizes[1:]) < sizes[0]
    assert "Flavours and runtimes" in (flavoured / "report.html").read_text()


@BOTH
def test_a_bundle_lists_what_loads_where_and_a_device_takes_what_it_can(flavoured):
    bundle = open_bundle(flavoured)
    for entry in bundle.sub_models:
        assert entry.flavours["int8"] == FlavourEntry(
            f"{entry.name}.int8.tflite", "litert", ("ai-edge-litert",)
        )
        assert entry.flavours["float16"].file in bundle.files
    done = run_device("-m", "edvit_tf.device", flavoured, "--check", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    flavours = {row["flavour"] for row in result["models"]}
    assert flavours == (
        {"float32", "float16"}
        if result["runtime"].startswith("tflite")
        else {"float32", "float16", "int8"}
    )


def test_a_file_that_does_not_load_is_refused_at_export(smoke_bundle, monkeypatch):
    from edvit_tf.export import bundle as writer

    entry = json.loads((smoke_bundle / "manifest.json").read_text())["sub_models"][0]
    # the first has answered already, when the golden answers were taken
    monkeypatch.setattr(writer, "installed_runtimes", lambda: ("first", "tflite-runtime"))

    def refuses(*_, **__):
        raise ExportError("the process that runs it ended with 1: cannot load.")

    monkeypatch.setattr(writer, "run_in_process", refuses)
    with pytest.raises(
        ExportError,
        match="does not run in tflite-runtime: .*cannot load. Take another version",
    ):
        writer._check_flavours(smoke_bundle, entry, {}, {}, {})


@pytest.mark.parametrize(
    "flavours", [("float16",), ("float32", "int4"), ("float32", "float32"), ()]
)
def test_flavours_are_float32_and_others_once(flavours):
    training = TrainConfig(epochs=1)
    with pytest.raises(ConfigError, match="flavours.*float32 and then any of float16, int8"):
        RunConfig(
            "x",
            DataConfig("mnist", (28, 28)),
            "vit_mini",
            training,
            training,
            training,
            flavours=flavours,
        )
