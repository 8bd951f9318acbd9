"""The Keras model that a fit trains: a model's logits, and what it learns by beside them."""

from collections.abc import Sequence

import keras

from edvit_tf.models import ModelConfig, architecture
from edvit_tf.models.keras_settings import on_tensorflow
from edvit_tf.training.optimizers import optimizer
from edvit_tf.training.precision import precision_policy

STEPS = "step_logits"  # an output of nets of several steps


def trainer_of(
    config: ModelConfig,
    optimizer_name: str,
    weight_decay: float,
    ema: float,
    precision: str,
    kept_patches: int | None,
    mapped_features: int,
    feature_weight: float,
    fused: bool = True,
) -> tuple[keras.Model, keras.Model]:
    """The model of a configuration, and a compiled one of its logits that shares the weights; with
    `mapped_features` it also maps the features to those of the teacher, by a Dense layer that the
    model itself does not have. Of other backends than TensorFlow the layers and the optimizer are
    Keras's own.
    """
    outputs = {}
    fused = fused and on_tensorflow()
    with precision_policy(precision):
        model = architecture(config).build(config, kept_patches=kept_patches, fused=fused)
        whole = keras.layers.Activation("linear", dtype="float32", name="logits")
        outputs["logits"] = whole(model.output["logits"])
        if mapped_features:
            to_teacher = keras.layers.Dense(mapped_features, name="feature_map", dtype="float32")
            outputs["features"] = to_teacher(model.output["features"])

        # a net of several steps learns at each of them; their mean answers
        if STEPS in model.output:
            outputs[STEPS] = keras.layers.Activation("linear", dtype="float32", name=STEPS)(
                model.output[STEPS]
            )

        losses, loss_weights = losses_of(tuple(outputs), feature_weight)
        trainer = keras.Model(model.input, outputs, name="trainer")
        # of the target's largest entry
        accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
        trainer.compile(
            optimizer(optimizer_name, weight_decay, ema, precision),
            losses,
            loss_weights=loss_weights,
            metrics={"logits": accuracy},
            # XLA by TensorFlow on a CPU: slower steps (194 against 403 samples/s), a longer start
            jit_compile=keras.config.backend() == "jax",
            # Its scale would be forgotten with the moments of the optimizer, and be zero.
            auto_scale_loss=False,
        )
        trainer.optimizer.build(trainer.trainable_variables)
    return model, trainer


def losses_of(outputs: Sequence[str], feature_weight: float) -> tuple[dict, dict | None]:
    """The loss of each output of a trainer, and their weights in the sum; None: all weigh 1."""
    losses: dict = {"logits": keras.losses.CategoricalCrossentropy(from_logits=True)}
    loss_weights = None
    if "features" in outputs:
        losses["features"] = "mse"
        loss_weights = {"logits": 1.0, "features": feature_weight}
    if STEPS in outputs:
        losses[STEPS] = step_entropy
        loss_weights = {**(loss_weights or {}), "logits": 0.0, STEPS: 1.0}
    return losses, loss_weights


def step_entropy(targets, logits):
    """(B,): the mean over steps of the cross-entropy of targets (B, n) with logits (B, T, n)."""
    each = targets[:, None, :] * keras.ops.log_softmax(logits, axis=-1)
    return -keras.ops.mean(keras.ops.sum(each, axis=-1), axis=-1)
