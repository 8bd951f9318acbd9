"""Fits and answers by Keras on JAX, in a process of its own, against TensorFlow's in this one."""

import os
import signal

import numpy as np
import pytest

from edvit_tf.config import DataConfig, RunConfig, TrainConfig
from edvit_tf.errors import ConfigError, OutputError, TrainingError
from edvit_tf.progress.events import listening
from edvit_tf.training.backend import computing_on, leave_gpus, other_process
from edvit_tf.training.backend_process import BackendProcess, _as_given, _as_sent
from tests.support.tiny_vit import toy

pytest.importorskip("jax", reason="JAX is not installed: pip install 'edvit-tf[jax]'")

FIT = TrainConfig(epochs=2, batch_size=16, learning_rate=2e-3)
OPTIONS = (
    {},
    {"optimizer": "muon"},
    {"ema": 0.9, "feature_distillation": 1.0, "patch_dropout": 0.5, "mix": "cutmix"},
)


@pytest.fixture(scope="module")
def on_jax():
    """The process, for all tests of this file: its start takes seconds."""
    with computing_on("jax"):
        yield other_process()


@pytest.fixture(scope="module")
def data():
    """Pictures of two classes, their targets, and features that a base might have."""
    x, labels = toy()
    features = np.stack([labels, labels * 2.0, np.random.default_rng(3).normal(size=160)], axis=1)
    return x, np.eye(2, dtype=np.float32)[labels], features.astype(np.float32)


def vit():
    from edvit_tf.models.vit.presets import vit_config

    return vit_config("vit_smoke", (16, 16, 1), 2, patch_size=8)


def start(seed: int = 1) -> dict:
    from edvit_tf.models.weights import initial_weights

    return initial_weights(vit(), seed=seed)


def rows(seed: int, count: int = 160):
    """The rows of each epoch, by a seed."""
    return lambda epoch: np.random.default_rng(10 * seed + epoch).permutation(160)[:count]


def fitted(train: TrainConfig, data, **changes):
    """(weights, history) of a fit, here or where this thread's fits go."""
    from edvit_tf.training.train import fit

    x, targets, features = data
    options = {"epoch_indices": rows(0), "seed": 5, "features": features} | changes
    return fit(vit(), options.pop("weights", start()), x, targets, train, **options)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda one: "-".join(one) or "adamw")
def test_a_fit_by_jax_is_the_fit_by_tensorflow(on_jax, data, option):
    """The same batches, rates and steps: they differ in rounding, which a few steps do not grow."""
    from edvit_tf.training.train import predict

    train = FIT.replace(**option)
    theirs, history = fitted(train, data)
    answers = predict(vit(), theirs, data[0])
    with computing_on("tensorflow"):
        ours, expected = fitted(train, data)
        known = predict(vit(), theirs, data[0])

    assert other_process() is on_jax
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=5e-3)
    assert history["accuracy"] == pytest.approx(expected["accuracy"], abs=0.02)
    for name, value in ours.items():
        moved = np.abs(value - start()[name]).max()
        # the bias of the keys has no gradient but rounding
        if not name.endswith("key.bias"):
            assert np.abs(theirs[name] - value).max() < 0.05 * moved + 1e-6, name
    for name, value in known.items():
        np.testing.assert_allclose(answers[name], value, rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_weights_by_jax(on_jax, data):
    one, other = (fitted(FIT, data)[0] for _ in range(2))
    assert all((one[name] == other[name]).all() for name in one)
    another = fitted(FIT, data, epoch_indices=rows(1))[0]
    assert any((one[name] != another[name]).any() for name in one)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda one: "-".join(one) or "adamw")
def test_members_side_by_side_are_as_each_would_be_alone(on_jax, data, option):
    """Of the second an epoch is shorter: it ends before the others."""
    from edvit_tf.training.side_by_side import fit_side_by_side

    train = FIT.replace(**option)
    x, targets, features = data
    chosen = [rows(1), rows(2, count=96), rows(3)]
    told = _Heard()
    with listening(told):
        found = fit_side_by_side(
            vit(),
            [start(j) for j in range(3)],
            x,
            [targets, targets[::-1], targets],
            train,
            epoch_indices=chosen,
            seeds=[0, 1, 2],
            features=features,
            titles=["a", "b", "c"],
        )

    assert sorted(event.facts["title"] for event in told.of("epoch")) == [
        "a",
        "a",
        "b",
        "b",
        "c",
        "c",
    ]
    for j, (weights, history) in enumerate(found):
        goal = targets[::-1] if j == 1 else targets
        alone, expected = fitted(
            train,
            (x, goal, features),
            weights=start(j),
            epoch_indices=chosen[j],
            seed=j,
        )
        np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-4)
        np.testing.assert_allclose(history["accuracy"], expected["accuracy"], atol=1e-6)
        assert history["samples"] == expected["samples"]
        for name, value in alone.items():
            np.testing.assert_allclose(weights[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


class _Heard:
    def __init__(self):
        self.events = []

    def hear(self, event):
        self.events.append(event)

    def of(self, kind: str) -> list:
        return [event for event in self.events if event.kind == kind]


def test_what_a_fit_tells_there_is_told_here(on_jax, data):
    told = _Heard()
    with listening(told):
        fitted(FIT, data, title="submodel-07")
    assert [event.facts["epoch"] for event in told.of("epoch")] == [1, 2]
    assert {event.facts["title"] for event in told.of("epoch")} == {"submodel-07"}
    assert told.of("fit")[0].facts["steps"] == 10


def test_a_fit_that_goes_astray_says_so_with_its_own_error(on_jax, data):
    with pytest.raises(TrainingError, match="submodel-00: the loss is nan"):
        fitted(FIT.replace(learning_rate=1e30), data, title="submodel-00")
    assert fitted(FIT, data)[1]["samples"] == 320  # and the process goes on


def test_a_fault_there_is_told_with_its_traceback(on_jax):
    with pytest.raises(RuntimeError, match="predict on jax failed there:\n.*Traceback") as caught:
        on_jax.call("predict", nonsense=1)
    assert "unexpected keyword argument" in str(caught.value)


def test_a_process_that_is_killed_is_named_and_the_next_call_has_another(data):
    from edvit_tf.training.train import fit

    x, targets, _ = data
    with computing_on("jax"):
        process = other_process()

        class Kills:
            """Ends the process in the middle of its fit."""

            def hear(self, event):
                if event.kind == "fit":
                    os.kill(process._process.pid, signal.SIGKILL)

        with listening(Kills()), pytest.raises(OutputError, match="ended with -9 in 'fit'"):
            fit(vit(), start(), x, targets, FIT, epoch_indices=rows(0), seed=5)
        assert process.call("resolved", precision="bfloat16") == "bfloat16"
        last = process._process
    assert last.poll() is not None  # nobody is left behind


@pytest.mark.parametrize(
    ("backend", "words"),
    [("torch", "it must be one of tensorflow, jax"), ("theano", "backend is 'theano'")],
)
def test_another_backend_is_refused(backend, words):
    with pytest.raises(ConfigError, match=words), computing_on(backend):
        pass
    with pytest.raises(ConfigError, match="backend"):
        RunConfig("x", DataConfig("digits", (8, 8)), "vit_smoke", FIT, FIT, FIT, backend=backend)


def test_a_backend_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'edvit-tf\[jax\]'"), computing_on("jax"):
        pass


def test_callbacks_and_spiking_nets_are_of_tensorflow_alone(on_jax, data):
    import keras

    from edvit_tf.models.snn.config import snn_config
    from edvit_tf.training.callbacks import reaching_fits
    from edvit_tf.training.train import fit

    with pytest.raises(ConfigError, match="1 Keras callbacks were given"):
        fitted(FIT, data, callbacks=(keras.callbacks.TerminateOnNaN(),))
    with (
        reaching_fits([keras.callbacks.TerminateOnNaN()]),
        pytest.raises(ConfigError, match="reach fits of this process alone"),
    ):
        fitted(FIT, data)

    config = snn_config("snn_smoke", (16, 16, 1), 2)
    with pytest.raises(ConfigError, match="a model of snn is fitted by tensorflow alone"):
        fit(config, {}, data[0], data[1], FIT, epoch_indices=rows(0), seed=0)


def test_an_array_that_lies_in_a_file_is_mapped_and_not_sent(tmp_path):
    file = tmp_path / "x.npy"
    np.save(file, np.arange(24, dtype=np.uint8).reshape(6, 4))
    whole = np.load(file, mmap_mode="r")

    sent = _as_sent(whole)
    assert sent.path == str(file) and sent.shape == (6, 4)
    np.testing.assert_array_equal(_as_given(sent), whole)

    # one that is stored column by column, and a part of one, are sent as they are
    columns = tmp_path / "columns.npy"
    np.save(columns, np.asfortranarray(whole))
    assert isinstance(_as_sent(np.load(columns, mmap_mode="r")), np.ndarray)
    part = _as_sent(whole[2:])
    assert isinstance(part, np.ndarray)
    np.testing.assert_array_equal(part, np.arange(8, 24).reshape(4, 4))


def test_a_users_own_flags_of_xla_stand_beside_ours(monkeypatch):
    from edvit_tf.training.backend_process import _environment

    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/tmp/x")
    assert _environment()["XLA_FLAGS"] == "--xla_dump_to=/tmp/x --xla_gpu_deterministic_ops=true"
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=false")
    assert _environment()["XLA_FLAGS"] == "--xla_gpu_deterministic_ops=false"


def test_the_gpus_are_left_to_the_other_backend(monkeypatch):
    import tensorflow as tf

    seen = []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *given: seen.append(given))
    leave_gpus("tensorflow")
    assert seen == []
    leave_gpus("jax")
    assert seen == [([], "GPU")]


def test_a_process_that_was_never_asked_never_starts():
    with BackendProcess("jax") as process:
        assert process._process is None
