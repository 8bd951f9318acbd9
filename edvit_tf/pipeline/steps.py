"""What the other stages of a run do: each reads stored files of earlier stages and writes its own
into a given folder.

Every stage draws its seed from the run's and its own name, and reads no state but files: that is
what makes a resumed run equal an unbroken one.
"""

from pathlib import Path

import numpy as np

from edvit_tf.config import Plan, RunConfig, ViTConfig
from edvit_tf.pipeline.fleet import final_weights, fitted_stage
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.store import Stages, stage_seed


def base_vit_config(
    run: RunConfig, input_shape: tuple[int, int, int], num_classes: int, mean, std
) -> ViTConfig:
    """The base ViT's configuration: the preset at the data's shape, normalised by the training
    data's mean and std.
    """
    from edvit_tf.models.vit.presets import vit_config

    changes = {} if run.patch_size is None else {"patch_size": run.patch_size}
    return vit_config(
        run.model, input_shape, num_classes, input_mean=tuple(mean), input_std=tuple(std), **changes
    )


def base(
    folder: Path,
    stages: Stages,
    config: RunConfig,
    base_config: ViTConfig,
    given: Path | None,
    dataset,
) -> dict:
    """The base: trained, or `given` as it is, or `given` with a new head and trained as
    config.base_training says.
    """
    from edvit_tf.models.vit.pretrained import load_base
    from edvit_tf.models.weights import from_weights, initial_weights
    from edvit_tf.training.batches import group_targets
    from edvit_tf.training.train import fit

    seed, train = stage_seed(config, "base"), Split(stages, "train")
    history: dict = {}
    loaded = None
    if given is not None:
        own_scale = not dataset.spec.is_picture
        loaded = load_base(given, base_config, tuple(dataset.labels), decibels=own_scale)
        base_config, weights = loaded.config, loaded.weights
        for note in loaded.notes:
            print(f"base: {note}", flush=True)
    if loaded is None or loaded.new_head:
        start = initial_weights(base_config, seed) if loaded is None else weights
        targets = group_targets(
            train.labels,
            None,
            tuple(range(base_config.num_classes)),
            base_config.num_classes,
            label_smoothing=config.base_training.label_smoothing,
        )
        weights, history = fit(
            base_config,
            start,
            train.x,
            targets,
            config.base_training,
            seed=seed,
            epoch_indices=lambda epoch: np.random.default_rng([seed, epoch]).permutation(
                len(train.labels)
            ),
            title="base",
        )
    np.savez(folder / "weights.npz", **weights)
    from_weights(base_config, weights, name="base").save(folder / "base.keras")
    return {
        "config": base_config.to_dict(),
        "history": history,
        "notes": list(loaded.notes) if loaded else [],
    }


def teacher(folder: Path, stages: Stages, base_config: ViTConfig, precision: str) -> dict:
    from edvit_tf.evaluation.evaluate import accuracy
    from edvit_tf.training.train import predict, softmax

    stored = {}
    for split in ("train", "validation"):
        part = Split(stages, split)
        out = predict(base_config, stages.arrays("base"), part.x, precision=precision)
        stored |= {
            f"{split}_probabilities": softmax(out["logits"]),
            f"{split}_features": out["features"],
        }
    np.savez(folder / "teacher.npz", **stored)
    validation = accuracy(stored["validation_probabilities"], part.labels, part.recordings)
    return {"validation": validation}


def features(folder: Path, stages: Stages, config: RunConfig, plan: Plan) -> dict:
    """All sub-models' features side by side: of training inputs, on which the MLP is fitted, in the
    precision of the sub-models' fits, of validation inputs in float32, as the files have them.
    """
    from edvit_tf.training.precision import resolved
    from edvit_tf.training.train import predict

    for split, precision in (
        ("train", resolved(config.stage_training.precision)),
        ("validation", "float32"),
    ):
        x = Split(stages, split).x
        parts = [
            predict(sub.config, stages.arrays(fitted_stage(config, sub)), x, precision=precision)[
                "features"
            ]
            for sub in plan.sub_models
        ]
        np.save(folder / f"{split}.npy", np.concatenate(parts, axis=1))
    return {}


def bundle(
    folder: Path,
    stages: Stages,
    config: RunConfig,
    plan: Plan,
    dataset,
    description: dict,
    splits: dict,
) -> dict:
    from edvit_tf.export.bundle import BundleParts, write_bundle

    write_bundle(
        folder,
        BundleParts(
            run=config,
            plan=plan,
            labels=tuple(dataset.labels),
            input_spec=dataset.spec,
            input_files=dataset.input_files,
            data=description,
            splits=splits,
            sub_models=tuple(final_weights(stages, config, sub) for sub in plan.sub_models),
            fusion=stages.arrays("calibration"),
        ),
    )
    return {}
