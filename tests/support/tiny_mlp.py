"""A second architecture, in tests alone: a flat picture through two Dense layers and a head.

All that `edvit_tf.models` asks of one is here, in one module. It has no heads, no patches, no
shortcut for leave-one-out and no repair. `mlp_architecture` makes it known for a while.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from edvit_tf import models
from edvit_tf.checked import Checked
from edvit_tf.errors import ConfigError

TITLE = "an MLP"
SHARE_NAME = "shares"
COLUMNS = {"hidden": "hidden_dim", "out": "feature_dim"}
CUTS = ("hidden", "features")
SHORTCUTS = ()
PRESETS = {"mlp_tiny": {"hidden_dim": 32, "feature_dim": 16}}
FIELDS = {"hidden": "hidden_dim", "features": "feature_dim"}
# cut -> the weights whose last axis it shortens, and whose first
WRITES_AND_READS = {
    "hidden": ("hidden", "features.kernel"),
    "features": ("features", "head.kernel"),
}


@dataclass(frozen=True)
class Config(Checked):
    """Widths of an MLP whose sub-models keep k of four shares."""

    input_shape: tuple[int, ...]
    hidden_dim: int
    feature_dim: int
    num_classes: int
    input_mean: tuple[float, ...] = (127.5,)
    input_std: tuple[float, ...] = (127.5,)
    shares: int = 4
    architecture: str = "mlp"

    def pruned(self, kept, num_classes, heads="merge", /):
        if not 1 <= kept <= self.shares:
            raise ConfigError(f"{kept} of {self.shares} shares cannot be kept.")
        return self.replace(
            hidden_dim=self.hidden_dim * kept // self.shares,
            feature_dim=self.feature_dim * kept // self.shares,
            num_classes=num_classes,
        )


def preset(name, input_shape, num_classes, **changes):
    return Config(tuple(input_shape), num_classes=num_classes, **PRESETS[name], **changes)


def widths_after(base, final, cut):
    done = CUTS[: CUTS.index(cut) + 1]
    changed = {FIELDS[one]: getattr(final, FIELDS[one]) for one in done}
    return base.replace(num_classes=final.num_classes, **changed)


def is_cut(c, cut, target):
    return getattr(c, FIELDS[cut]) == getattr(target, FIELDS[cut])


def macs(c):
    read = int(np.prod(c.input_shape))
    return read * c.hidden_dim + c.hidden_dim * c.feature_dim + c.feature_dim * c.num_classes


macs_full = macs


def params(c):
    return macs(c) + c.hidden_dim + c.feature_dim + c.num_classes


def training_macs(c, patch_dropout, samples):
    return 3 * samples * macs(c)


def size_bytes(c, flavour="float32"):
    return {"float32": 4, "float16": 2, "int8": 4}[flavour] * params(c)


def file_bytes(c, flavour="float32"):
    return size_bytes(c, flavour) + 8192


def build(c, name="mlp", kept_patches=None, fused=False):
    import keras

    layers = keras.layers
    inputs = keras.Input(c.input_shape, name="input")
    mean, std = np.array(c.input_mean), np.array(c.input_std)
    x = layers.Rescaling((1 / std).tolist(), (-mean / std).tolist(), name="normalise")(inputs)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(c.hidden_dim, "relu", name="hidden")(x)
    x = layers.Dense(c.feature_dim, "relu", name="features")(x)
    logits = layers.Dense(c.num_classes, name="head")(x)
    return keras.Model(inputs, {"features": x, "logits": logits}, name=name)


def kept_patches(c, patch_dropout):
    if patch_dropout:
        raise ConfigError("an MLP sees its whole input; patch_dropout must be 0.")
    return None


def config_of(model):
    rescale = model.get_layer("normalise")
    std = 1 / np.array(rescale.scale)
    return Config(
        tuple(model.input_shape[1:]),
        model.get_layer("hidden").units,
        model.get_layer("features").units,
        model.get_layer("head").units,
        tuple(float(v) for v in -np.array(rescale.offset) * std),
        tuple(float(v) for v in std),
    )


def load_base(source, expected, labels=None, decibels=False):
    raise ConfigError(f"--base {source}: there are no MLPs from elsewhere.")


def mask_shapes(c, cut, basis=None):
    if cut not in CUTS:
        raise ValueError(f"there is no cut {cut!r}; there are {', '.join(CUTS)}.")
    return {cut: getattr(c, FIELDS[cut])}


def unit_groups(c, cut, target, heads):
    return {name: [np.arange(units)] for name, units in mask_shapes(c, cut).items()}


def forward(c, w, x, masks, basis=None):
    return answer(c, w, x, masks)["logits"]


def answer(c, w, x, masks):
    import tensorflow as tf

    x = (tf.cast(x, tf.float32) - np.float32(c.input_mean)) / np.float32(c.input_std)
    x = tf.reshape(x, (-1, int(np.prod(c.input_shape))))
    x = tf.nn.relu(x @ w["hidden.kernel"] + w["hidden.bias"]) * masks.get("hidden", 1.0)
    x = tf.nn.relu(x @ w["features.kernel"] + w["features.bias"]) * masks.get("features", 1.0)
    return {"features": x, "logits": x @ w["head.kernel"] + w["head.bias"]}


def stacked_features(c, w, x, kept=None):
    import tensorflow as tf

    count = w["hidden.bias"].shape[0]
    of_each = []
    for i in range(count):
        own = {name: tf.cast(value[i], tf.float32) for name, value in w.items()}
        own |= {"head.kernel": np.zeros((c.feature_dim, 1), np.float32), "head.bias": 0.0}
        seen = x if len(x.shape) == len(c.input_shape) + 1 else x[i]
        of_each.append(answer(c, own, seen, {})["features"])
    return tf.stack(of_each)


def magnitude(c, w, cut, basis=None):
    layer, reader = WRITES_AND_READS[cut]
    written = np.linalg.norm(w[f"{layer}.kernel"].astype(np.float64), axis=0)
    return {cut: written * np.linalg.norm(w[reader], axis=1)}


def group_head(c, w, classes):
    rest = [one for one in range(c.num_classes) if one not in classes]
    out = dict(w)
    for name in ("head.kernel", "head.bias"):
        rows = [w[name][..., list(classes)]]
        if rest:
            rows.append(w[name][..., rest].mean(axis=-1, keepdims=True))
        out[name] = np.concatenate(rows, axis=-1)
    return c.replace(num_classes=len(classes) + bool(rest)), out


def cut_stage(c, w, cut, target, options, score, samples):
    width = getattr(target, FIELDS[cut])
    keep = np.sort(np.argsort(-score(c, w)[cut], kind="stable")[:width])
    layer, reader = WRITES_AND_READS[cut]
    out = dict(w)
    out[f"{layer}.kernel"] = w[f"{layer}.kernel"][:, keep]
    out[f"{layer}.bias"] = w[f"{layer}.bias"][keep]
    out[reader] = w[reader][keep]
    return SimpleNamespace(config=c.replace(**{FIELDS[cut]: width}), weights=out)


def repair_stage(done, cut, options, samples):
    return done.weights


def graph(c, w, input_name, dtype, target="portable"):
    import tensorflow as tf

    def deployed(x):
        return answer(c, w, x, {})

    return deployed, [tf.TensorSpec((1, *c.input_shape), dtype, name=input_name)]


@contextlib.contextmanager
def mlp_architecture() -> Iterator[None]:
    """While this holds, "mlp" is an architecture beside "vit"."""
    models.ARCHITECTURES["mlp"] = __name__
    try:
        yield
    finally:
        del models.ARCHITECTURES["mlp"]
