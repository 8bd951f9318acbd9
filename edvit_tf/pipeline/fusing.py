"""How the sub-models' answers become one: the tower or the average over stored features, the joint
training, and the temperature of the probabilities, chosen on validation data."""

from pathlib import Path

import numpy as np

from edvit_tf.config import Plan, RunConfig
from edvit_tf.pipeline.budget import fusion_macs, training_macs
from edvit_tf.pipeline.fleet import final_weights, fitted_stage
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.store import Stages, stage_seed
from edvit_tf.training.calibrate import best_temperature, calibration_figures, tempered


def fusion(folder: Path, stages: Stages, config: RunConfig, plan: Plan, num_classes: int) -> dict:
    """The tower MLP, trained on the stored features of frozen sub-models; for "average" their
    heads, as they are.
    """
    import keras

    from edvit_tf.models.weights import get_weights, set_weights
    from edvit_tf.training.fuse import fit_fusion

    seed = stage_seed(config, "fusion")
    keras.utils.set_random_seed(seed)
    model, history = build_fused(config, plan, num_classes), {}
    if config.fusion == "average":
        heads = [final_weights(stages, config, sub) for sub in plan.sub_models]
        set_weights(
            model,
            {"average.temperature": np.ones(1, np.float32)}
            | {
                f"average.{part}_{j:02d}": head[f"head.{part}"]
                for j, head in enumerate(heads)
                for part in ("kernel", "bias")
            },
        )
    else:
        labels = Split(stages, "train").labels
        missing_rate = config.missing_rate if len(plan.sub_models) > 1 else 0.0
        history = fit_fusion(
            model,
            np.load(stages.path("features", "train.npy")),
            labels,
            config.fusion_training,
            missing_rate,
            seed,
        )
        history["macs"] = fusion_macs(config, _widths(plan), num_classes, history["samples"])
    p = _fused(model, np.load(stages.path("features", "validation.npy")), len(plan.sub_models))
    np.savez(folder / "weights.npz", **get_weights(model))
    np.savez(folder / "validation.npz", probabilities=p)
    return {"history": history, "validation": _figures(p, Split(stages, "validation"))}


def joint(folder: Path, stages: Stages, config: RunConfig, plan: Plan, num_classes: int) -> dict:
    """Sub-models and MLP trained on together, from where the stages before left them, distilled
    from the base.
    """
    from edvit_tf.models.weights import get_weights, set_weights
    from edvit_tf.training.batches import group_targets, repeated_epoch
    from edvit_tf.training.joint import fit_joint
    from edvit_tf.training.train import predict

    seed, training, train = (
        stage_seed(config, "joint"),
        config.joint_training,
        Split(stages, "train"),
    )
    stored = stages.arrays("teacher", "teacher.npz")
    model = build_fused(config, plan, num_classes)
    set_weights(model, stages.arrays("fusion"))

    def targets(classes):
        return group_targets(
            train.labels,
            stored["train_probabilities"],
            classes,
            num_classes,
            training.distillation,
            training.label_smoothing,
        )

    count = len(train.labels)
    weights, history = fit_joint(
        [sub.config for sub in plan.sub_models],
        [stages.arrays(fitted_stage(config, sub)) for sub in plan.sub_models],
        model,
        train.x,
        targets(tuple(range(num_classes))),
        [targets(sub.classes) for sub in plan.sub_models],
        training,
        config.missing_rate if len(plan.sub_models) > 1 else 0.0,
        seed=seed,
        features=stored["train_features"],
        epoch_indices=lambda epoch: repeated_epoch(count, count, seed, epoch),
    )
    history["macs"] = fusion_macs(config, _widths(plan), num_classes, history["samples"]) + sum(
        training_macs(sub.config, training, history["samples"]) for sub in plan.sub_models
    )
    validation = Split(stages, "validation")
    features = [
        predict(sub.config, own, validation.x)["features"]
        for sub, own in zip(plan.sub_models, weights, strict=True)
    ]
    p = _fused(model, np.concatenate(features, axis=1), len(plan.sub_models))
    for sub, own in zip(plan.sub_models, weights, strict=True):
        np.savez(folder / f"{sub.name}.npz", **own)
    np.savez(folder / "weights.npz", **get_weights(model))
    np.savez(folder / "validation.npz", probabilities=p)
    return {"history": history, "validation": _figures(p, validation)}


def calibration(folder: Path, stages: Stages, config: RunConfig) -> dict:
    """The fusion's weights with the temperature at which its validation probabilities fit the
    labels best.
    """
    from edvit_tf.training.fuse import cooled

    last = "joint" if config.fusion == "joint" else "fusion"
    p, validation = (
        stages.arrays(last, "validation.npz")["probabilities"],
        Split(stages, "validation"),
    )
    temperature = best_temperature(p, validation.labels)
    np.savez(folder / "weights.npz", **cooled(stages.arrays(last), temperature))
    after = tempered(p, temperature)
    return {
        "temperature": temperature,
        "samples": len(p),
        "before": calibration_figures(p, validation.labels),
        "after": calibration_figures(after, validation.labels),
        "validation": _figures(after, validation),
    }


def build_fused(config: RunConfig, plan: Plan, num_classes: int):
    """The fusion model of a run, with weights of its own."""
    from edvit_tf.training.fuse import build_average, build_fusion

    widths = tuple(_widths(plan))
    if config.fusion == "average":
        return build_average(widths, [sub.classes for sub in plan.sub_models], num_classes)
    return build_fusion(widths, num_classes, config.fusion_lambda)


def _widths(plan: Plan) -> list[int]:
    return [sub.config.hidden_dim for sub in plan.sub_models]


def _fused(model, features: np.ndarray, count: int) -> np.ndarray:
    """Probabilities (n, classes) with every sub-model present."""
    return np.asarray(
        model({"features": features, "present": np.ones((len(features), count), np.float32)})
    )


def _figures(p: np.ndarray, split: Split) -> dict:
    from edvit_tf.evaluation.evaluate import accuracy

    return accuracy(p, split.labels, split.recordings)
