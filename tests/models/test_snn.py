"""The spiking VGG: its neuron, its layers, its file, and what it shares with a VGG."""

import warnings

import numpy as np
import pytest

from edvit_tf import models
from edvit_tf.errors import ConfigError
from edvit_tf.models.snn.config import snn_config
from edvit_tf.models.vgg import cost

TINY = snn_config("snn_smoke", (12, 9, 3), 5, input_std=(64.0,))


@pytest.fixture(scope="module")
def weights():
    """Of TINY, with normalisation at which neurons fire often."""
    from edvit_tf.models.weights import initial_weights

    rng = np.random.default_rng(0)
    found = {}
    for name, value in initial_weights(TINY, 0).items():
        moved = value + rng.normal(0, 0.1, value.shape) + (1.2 if name.endswith("beta") else 0)
        found[name] = (np.abs(moved) + 0.5 if "variance" in name else moved).astype(np.float32)
    return found


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(1).integers(0, 256, (4, 12, 9, 3)).astype(np.uint8)


def said(config, weights, x):
    from edvit_tf.models.weights import from_weights

    answers = from_weights(config, weights)(x.astype(np.float32))
    return {name: np.asarray(value) for name, value in answers.items()}


def fired_maps(config, weights, x):
    """Spikes (T B, H, W, filters) of each convolution, by the plain functions."""
    from edvit_tf.models.snn import functions

    found = []
    functions.features(config, weights, x, {}, lambda number, s: found.append(np.asarray(s)))
    return found


def test_one_neuron_by_hand():
    """tau 4/3 and soft reset: v = v / 4 + 3/4 x, less one spike."""
    from edvit_tf.models.snn.neurons import lif

    inputs = np.float32([0.8, 1.5, 0.0, 4.0, 0.0]).reshape(5, 1)
    v, expected = 0.0, []
    for current in inputs.ravel():
        v = v / 4 + 0.75 * current
        expected.append(float(v >= 1))
        v -= expected[-1]
    assert expected == [0.0, 1.0, 0.0, 1.0, 0.0]
    assert np.asarray(lif(inputs, 5)).ravel().tolist() == expected


def test_the_surrogate_is_atans_and_the_reset_is_not_differentiated():
    import tensorflow as tf

    from edvit_tf.models.snn.neurons import lif, spike

    v = tf.constant([0.2, 1.0, 1.7])
    with tf.GradientTape() as tape:
        tape.watch(v)
        fired = spike(v)
    assert fired.numpy().tolist() == [0, 1, 1]
    np.testing.assert_allclose(
        tape.gradient(fired, v), 1 / (1 + (np.pi * (v.numpy() - 1)) ** 2), rtol=1e-6
    )

    # two steps: d s2 / d x1 goes by v1 alone, a quarter of it
    x = tf.constant([[1.6], [0.5]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        second = lif(x, 2)[1]
    v2 = 0.25 * (0.75 * 1.6 - 1) + 0.75 * 0.5
    slope = 1 / (1 + (np.pi * (v2 - 1)) ** 2)
    slopes = tape.gradient(second, x).numpy().ravel()
    np.testing.assert_allclose(slopes, [0.25 * 0.75 * slope, 0.75 * slope], rtol=1e-5)


def test_costs_are_those_of_the_cnn_times_its_steps():
    spiking = snn_config("snn16", (32, 32, 3), 10)
    once = cost.macs(models.preset("vgg16", (32, 32, 3), 10))
    first = 32 * 32 * 9 * 3 * 64
    dense = 512 * 4096 + 4096 * 4096 + 4096 * 10
    assert cost.macs(spiking) == first + 5 * (once - first - dense) + dense
    assert round(first / 1e6, 1) == 1.8 and round((once - first - dense) / 1e6) == 311
    model = models.architecture("snn").build(TINY)
    assert model.count_params() == cost.params(TINY)


def test_a_config_comes_back_from_its_model_and_what_cannot_be_is_told():
    known = models.architecture("snn")
    read = known.config_of(known.build(TINY.replace(steps=3)))
    assert (read.steps, read.filters, read.blocks) == (3, TINY.filters, TINY.blocks)
    assert models.config_from_dict(TINY.to_dict()) == TINY
    with pytest.raises(ValueError, match="lif_00"):
        known.config_of(models.architecture("vgg").build(models.preset("vgg_smoke", (8, 8, 1), 3)))
    with pytest.raises(ConfigError, match="steps is 0"):
        TINY.replace(steps=0)


@pytest.mark.parametrize("steps", [5, 1])
def test_functions_are_the_keras_model_and_masks_are_cuts(weights, x, steps):
    from edvit_tf.models.snn.functions import forward
    from edvit_tf.models.vgg.cuts import cut_filters

    config = TINY.replace(steps=steps)
    expected = said(config, weights, x)
    assert expected["features"].std() > 0.01
    np.testing.assert_allclose(forward(config, weights, x), expected["logits"], atol=1e-4)

    keep = [np.array([0, 2, 5]), np.array([1, 3, 4, 11])]
    masks = {}
    for number, (kept, width) in enumerate(zip(keep, TINY.filters, strict=True)):
        whole = np.isin(np.arange(width), kept).astype(np.float32)
        masks[f"conv_{number:02d}"] = np.tile(whole, (len(x), 1))
    small, cut = cut_filters(config, weights, keep)
    np.testing.assert_allclose(
        said(small, cut, x)["logits"], forward(config, weights, x, masks), atol=1e-4
    )


def test_the_mean_of_the_spikes_gives_the_mean_of_the_logits(weights, x):
    from edvit_tf.models.vgg.heads import group_head

    expected = said(TINY, weights, x)
    _, own = group_head(TINY, weights, (0, 1, 2, 3, 4))
    whole = expected["features"] @ own["head.kernel"] + own["head.bias"]
    np.testing.assert_allclose(whole, expected["logits"], atol=1e-5)


def test_spikes_are_counted_over_all_places_and_steps(weights, x):
    from edvit_tf.models.snn import functions

    found = functions.activity(TINY, weights, x, "filters")
    for number, spikes in enumerate(fired_maps(TINY, weights, x)):
        assert set(np.unique(spikes)) <= {0.0, 1.0} and len(spikes) == 5 * len(x)
        np.testing.assert_allclose(
            found[f"conv_{number:02d}"], spikes.mean(axis=(0, 1, 2)), rtol=1e-5
        )
    assert 0.02 < found["conv_01"].mean() < 0.98


def test_in_training_each_step_is_normalised_by_itself():
    from edvit_tf.models.snn.neurons import StepNormalization

    layer = StepNormalization(2, momentum=0.9, epsilon=1e-5)
    values = np.random.default_rng(0).normal(size=(8, 2, 2, 3)).astype(np.float32)
    values[4:] += 7
    out = np.asarray(layer(values, training=True))
    for part in (out[:4], out[4:]):
        np.testing.assert_allclose(part.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    means = [values[:4].mean(axis=(0, 1, 2)), values[4:].mean(axis=(0, 1, 2))]
    moved = 0.09 * means[0] + 0.1 * means[1]
    np.testing.assert_allclose(layer.moving_mean, moved, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("steps", [5, 1])
def test_the_file_has_builtins_alone_and_says_what_keras_says(weights, x, steps, tmp_path):
    from edvit_tf.export.convert import convert
    from edvit_tf.export.process import run_in_process
    from tests.support.tflite_count import operators

    known = models.architecture("snn")
    config, own = known.group_head(TINY.replace(steps=steps), weights, (0, 3))
    file = tmp_path / "a.tflite"
    convert(*known.graph(config, own, "input", "uint8"), file, own)
    size = file.stat().st_size
    assert size <= known.file_bytes(config) < size + 24_576
    found = operators(file)
    assert found["GREATER_EQUAL"] == 2 * steps and found["CONV_2D"] == 2
    assert found["AVERAGE_POOL_2D"] == 2

    np.save(tmp_path / "x.npy", x)
    out, _ = run_in_process(file, tmp_path / "x.npy")
    expected = said(config, own, x)
    for name in ("features", "logits"):
        np.testing.assert_allclose(out[name], expected[name], atol=1e-4)


def test_a_fit_learns_at_each_step(x):
    from edvit_tf.config import TrainConfig
    from edvit_tf.models.weights import initial_weights
    from edvit_tf.training.train import fit
    from edvit_tf.training.trainer import step_entropy, trainer_of

    config = TINY.replace(dense=(), num_classes=2)
    start = initial_weights(config, 3)
    targets = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
    training = TrainConfig(epochs=4, batch_size=4, learning_rate=2e-2, weight_decay=0.0)
    fitted, history = fit(
        config, start, x, targets, training, epoch_indices=lambda e: np.arange(4), seed=0
    )
    assert history["loss"][-1] < history["loss"][0] and len(history["accuracy"]) == 4
    assert list(fitted) == list(start)
    # gradients reach the first layer
    assert np.abs(fitted["conv_00.kernel"] - start["conv_00.kernel"]).max() > 1e-3

    logits = np.random.default_rng(0).normal(size=(4, 5, 2)).astype(np.float32)
    log = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    by_hand = -(targets[:, None] * log).sum(-1).mean(-1)
    np.testing.assert_allclose(step_entropy(targets, logits), by_hand, rtol=1e-5)
    _, trainer = trainer_of(config, "adamw", 0.0, 0.0, "float32", None, 0, 0.0)
    assert set(trainer.output) == {"logits", "step_logits"}


def spikingjelly():
    """Its neurons and surrogates; its docstrings have escapes that Python warns of."""
    pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("spikingjelly")
        from spikingjelly.activation_based import neuron, surrogate

    return neuron, surrogate


@pytest.mark.reference
@pytest.mark.parametrize("steps", [5, 1])
def test_layer_by_layer_against_spikingjelly(weights, x, steps):
    neuron, surrogate = spikingjelly()
    import torch

    fired = fired_maps(TINY.replace(steps=steps), weights, x)

    def tensor(name):
        return torch.from_numpy(weights[name])

    layers = []
    for number in range(2):
        kernel = tensor(f"conv_{number:02d}.kernel").permute(3, 2, 0, 1).contiguous()
        conv = torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1, bias=False)
        conv.weight.data = kernel
        norm = torch.nn.BatchNorm2d(kernel.shape[0])
        norm.weight.data = tensor(f"norm_{number:02d}.gamma")
        norm.bias.data = tensor(f"norm_{number:02d}.beta")
        norm.running_mean.data = tensor(f"norm_{number:02d}.moving_mean")
        norm.running_var.data = tensor(f"norm_{number:02d}.moving_variance")
        lif = neuron.LIFNode(tau=4 / 3, v_reset=None, surrogate_function=surrogate.ATan())
        layers.append((conv, norm.eval(), lif))

    picture = (torch.from_numpy(x.astype(np.float32)).permute(0, 3, 1, 2) - 127.5) / 64.0
    for t in range(steps):
        y = picture
        for number, (conv, norm, lif) in enumerate(layers):
            y = lif(norm(conv(y)))
            ours = fired[number].reshape(steps, len(x), *fired[number].shape[1:])[t]
            theirs = y.permute(0, 2, 3, 1).detach().numpy()
            assert theirs.mean() > 0.02 and (theirs != ours).mean() < 1e-4, (t, number)
            y = torch.nn.functional.avg_pool2d(y, 2)


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore:CUDA initialization:UserWarning")
def test_the_surrogate_is_spikingjellys():
    _, surrogate = spikingjelly()
    import tensorflow as tf
    import torch

    from edvit_tf.models.snn.neurons import spike

    values = np.float32([-1.0, 0.2, 0.9, 1.0, 1.7])
    theirs = torch.tensor(values, requires_grad=True)
    surrogate.ATan()(theirs - 1).sum().backward()
    ours = tf.constant(values)
    with tf.GradientTape() as tape:
        tape.watch(ours)
        fired = spike(ours)
    np.testing.assert_allclose(tape.gradient(fired, ours), theirs.grad.numpy(), rtol=1e-5)
