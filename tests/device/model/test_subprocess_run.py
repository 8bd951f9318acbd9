"""A model's file in a process of its own."""

import numpy as np

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.subprocess_run import run_model


def test_python_without_docstrings_runs_it_too(tiny_bundle, monkeypatch):
    """PYTHONOPTIMIZE=2, as some images set it for all that they run."""
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    bundle = open_bundle(tiny_bundle)
    golden = np.load(bundle.path / "golden.npz")
    outputs, _ = run_model(
        bundle.path / bundle.sub_models[0].file, {bundle.input.name: golden["input"]}
    )
    assert outputs["logits"].shape[0] == 1


def test_a_time_limit_beyond_what_the_system_can_wait_is_none(tiny_bundle):
    """Millions of runs at seconds each come to more than poll() takes."""
    bundle = open_bundle(tiny_bundle)
    golden = np.load(bundle.path / "golden.npz")
    inputs = {bundle.input.name: golden["input"]}

    outputs, _ = run_model(
        bundle.path / bundle.sub_models[0].file, inputs, timeout_seconds=5.0 * 10**6
    )
    assert outputs["logits"].shape[0] == 1
