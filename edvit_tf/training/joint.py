"""Sub-models and tower MLP trained together (Table 3, "entire retrain"): loss = fused cross-entropy + the mean of the
sub-models' own, so that exported logits stay valid; with `feature_distillation` also the distance between the base's
features and a linear map of all features side by side."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from edvit_tf.config import TrainConfig, ViTConfig
from edvit_tf.models.vit import build_vit, get_weights, set_weights
from edvit_tf.training.batches import batches
from edvit_tf.training.train import Schedule, Weights, linear_map, optimizer, precision_policy, predict, standardised


def fit_joint(
    configs: Sequence[ViTConfig], weights: Sequence[Mapping[str, np.ndarray]], fusion: keras.Model, inputs: np.ndarray,
    targets: np.ndarray, group_targets: Sequence[np.ndarray], train: TrainConfig, missing_rate: float, *,
    epoch_indices: Callable[[int], np.ndarray], seed: int, features: np.ndarray | None = None,
) -> tuple[list[Weights], dict]:
    """Trains N sub-models and `fusion` (of `fuse.build_fusion`, changed in place) on `targets` (n, classes) of the
    fused answer and `group_targets[j]` (n, |C_j| + 1) of each sub-model. Each is missing at random, `missing_rate`.

    `features` (n, f) are the base's, for train.feature_distillation. Returns the sub-models' weights and a history as
    `train.fit` gives it; "samples" counts inputs, each of which passes through every sub-model.
    """
    started = time.perf_counter()
    mapped = train.feature_distillation > 0 and features is not None
    kept = round(configs[0].num_patches * (1 - train.patch_dropout)) if train.patch_dropout else None
    with precision_policy(train.precision):
        models = [build_vit(config, name=f"vit_{j}", kept_patches=kept) for j, config in enumerate(configs)]
    for model, values in zip(models, weights, strict=True):
        set_weights(model, values)
    fusion_weights = fusion.get_weights()
    fusion.trainable = True
    image = keras.Input(configs[0].image_shape, name="input")
    present = keras.Input((len(configs),), name="present")
    given = {"input": image, "present": present}
    seen = image
    if kept is not None:
        given["kept"] = keras.Input((kept,), dtype="int32", name="kept")
        seen = {"input": image, "kept": given["kept"]}
    answers = [model(seen) for model in models]
    side_by_side = keras.layers.Concatenate(name="side_by_side", dtype="float32")([a["features"] for a in answers]) \
        if len(answers) > 1 else answers[0]["features"]
    outputs = {"fused": fusion({"features": side_by_side, "present": present})}
    outputs |= {f"logits_{j}": keras.layers.Activation("linear", dtype="float32", name=f"logits_{j}")(a["logits"])
                for j, a in enumerate(answers)}
    losses: dict = {"fused": keras.losses.CategoricalCrossentropy()}
    losses |= {f"logits_{j}": keras.losses.CategoricalCrossentropy(from_logits=True) for j in range(len(answers))}
    loss_weights = {"fused": 1.0, **{f"logits_{j}": 1 / len(answers) for j in range(len(answers))}}
    goals = [targets, *group_targets]
    if mapped:
        outputs["features"] = keras.layers.Dense(features.shape[1], name="feature_map", dtype="float32")(side_by_side)
        losses["features"], loss_weights["features"] = "mse", train.feature_distillation
        goals.append(standardised(features))
    trainer = keras.Model(given, outputs, name="joint")
    trainer.compile(optimizer(train.optimizer, train.weight_decay, train.ema), losses, loss_weights=loss_weights,
                    metrics={"fused": keras.metrics.CategoricalAccuracy(name="accuracy")}, jit_compile=False)
    if mapped:
        rows = np.sort(np.random.default_rng(seed).permutation(epoch_indices(0))[:2048])
        mine = np.concatenate([predict(config, values, inputs[rows])["features"]
                               for config, values in zip(configs, weights, strict=True)], axis=1)
        trainer.get_layer("feature_map").set_weights(linear_map(mine, goals[-1][rows]))
    fusion.set_weights(fusion_weights)
    names = list(outputs)
    steps = max(1, -(-len(epoch_indices(0)) // train.batch_size))
    patches = None if kept is None else (kept, configs[0].num_patches)

    def stream():
        rng = np.random.default_rng([seed, 1])
        for x, y in batches(inputs, tuple(goals), epoch_indices, train.batch_size, train.augment, seed, patches):
            there = (rng.random((train.batch_size, len(configs))) >= missing_rate).astype(np.float32)
            there[there.sum(axis=1) == 0] = 1.0
            yield {**(x if isinstance(x, dict) else {"input": x}), "present": there}, y

    specs = {"input": tf.TensorSpec((train.batch_size, *inputs.shape[1:]),
                                    tf.float32 if train.augment == "mask" else inputs.dtype),
             "present": tf.TensorSpec((train.batch_size, len(configs)), tf.float32)}
    if patches:
        specs["kept"] = tf.TensorSpec((train.batch_size, kept), tf.int32)
    data = tf.data.Dataset.from_generator(stream, output_signature=(
        specs, tuple(tf.TensorSpec((train.batch_size, goal.shape[1]), tf.float32) for goal in goals),
    )).map(lambda x, y: ({**x, "input": tf.cast(x["input"], tf.float32)}, dict(zip(names, y, strict=True)))).prefetch(2)
    samples = train.epochs * steps * train.batch_size
    print(f"joint: {train.epochs} epochs of {steps} x {train.batch_size} samples, {len(configs)} sub-models",
          flush=True)
    fitted = trainer.fit(data, epochs=train.epochs, steps_per_epoch=steps, shuffle=False,
                         callbacks=[Schedule(train, train.epochs * steps)], verbose=1 if sys.stdout.isatty() else 2)
    seconds = time.perf_counter() - started
    accuracy = next(key for key in fitted.history if key.endswith("accuracy"))
    history = {name: [float(v) for v in fitted.history[key]]
               for name, key in (("loss", "loss"), ("accuracy", accuracy))}
    history |= {"seconds": round(seconds, 2), "samples_per_second": round(samples / seconds, 1), "samples": samples}
    return [get_weights(model) for model in models], history
