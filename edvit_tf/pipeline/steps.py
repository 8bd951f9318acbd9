"""The base of a run, its answers, the plan for them, and at the other end the features that the
fusion is fitted on, and the bundle.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edvit_tf.config import RunConfig
from edvit_tf.device.model.text import VOCABULARY
from edvit_tf.device.model.view import View
from edvit_tf.evaluation.accuracy import accuracy
from edvit_tf.evaluation.evaluate import LEARNT, SPLITS
from edvit_tf.models import ModelConfig, load_base, preset
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.stage import Run
from edvit_tf.pipeline.store import stage_seed
from edvit_tf.pipeline.thresholds import by_threshold
from edvit_tf.pipeline.views import seen
from edvit_tf.planning.plan import plan_groups
from edvit_tf.progress import tell


def base_config(config: RunConfig, dataset, mean=(0.0,), std=(1.0,)) -> ModelConfig:
    """The base's configuration: the preset at the data's shape, normalised by the training data's
    mean and std. Those that stand for them change no count and no plan.
    """
    changes = {} if config.patch_size is None else {"patch_size": config.patch_size}
    changes |= dataset.spec.model_fields
    return preset(
        config.model,
        dataset.spec.shape,
        len(dataset.labels),
        input_mean=tuple(mean),
        input_std=tuple(std),
        **changes,
    )


@dataclasses.dataclass(frozen=True)
class StartOfBase:
    """Where the base's fit starts, or what a base is that brings its head (`is_fitted` False)."""

    widths: ModelConfig
    weights: dict[str, np.ndarray]
    notes: tuple[str, ...]
    is_fitted: bool


def start_of_base(run: Run, dataset, given: Path | None) -> StartOfBase:
    """Drawn weights, or those of a `given` base."""
    from edvit_tf.models.weights import initial_weights

    data = run.stages.result("data")
    widths = base_config(run.config, dataset, data["mean"], data["std"])
    if given is None:
        weights = initial_weights(widths, stage_seed(run.config, "base"))
        return StartOfBase(widths, weights, (), True)

    decibels = not dataset.spec.is_picture
    loaded = load_base(given, widths, run.labels, decibels, dataset.input_files)
    return StartOfBase(loaded.config, loaded.weights, tuple(loaded.notes), loaded.new_head)


def base(run: Run, folder: Path, dataset, given: Path | None) -> dict:
    """The base: trained, or `given` as it is, or `given` with a new head and trained as
    config.base_training says.
    """
    from edvit_tf.models.weights import from_weights

    start = start_of_base(run, dataset, given)
    for note in start.notes:
        tell(f"base: {note}")

    weights, history = start.weights, {}
    # A base that brings its head is taken as it is.
    if start.is_fitted:
        train = Split(run.stages, "train")
        weights, history = fit_base(run.config, start.widths, weights, train)

    np.savez(folder / "weights.npz", **weights)
    from_weights(start.widths, weights, name="base").save(folder / "base.keras")
    if dataset.spec.is_text:
        # what its numbers mean, for a run that starts from it
        (folder / VOCABULARY).write_bytes(dataset.input_files[VOCABULARY])
    return {"config": start.widths.to_dict(), "history": history, "notes": list(start.notes)}


def fit_base(
    config: RunConfig, widths: ModelConfig, weights: dict, train: Split, callbacks: tuple = ()
):
    """Weights and history of a fit on all classes, by labels alone."""
    from edvit_tf.training.batches import group_targets
    from edvit_tf.training.train import fit

    seed = stage_seed(config, "base")
    count = widths.num_classes
    targets = group_targets(
        train.labels,
        None,
        tuple(range(count)),
        count,
        label_smoothing=config.base_training.label_smoothing,
    )

    def rows(epoch: int) -> np.ndarray:
        return np.random.default_rng([seed, epoch]).permutation(len(train.labels))

    return fit(
        widths,
        weights,
        train.x,
        targets,
        config.base_training,
        seed=seed,
        epoch_indices=rows,
        callbacks=callbacks,
        title="base",
    )


def teacher(run: Run, folder: Path) -> dict:
    """The base's answers to training and validation inputs, which members are distilled from."""
    from edvit_tf.training.train import predict, softmax

    weights = run.stages.arrays("base")
    precision = run.config.teacher_precision
    stored = {}
    for split in ("train", "validation"):
        said = predict(run.base, weights, Split(run.stages, split).x, precision=precision)
        stored[f"{split}_probabilities"] = softmax(said["logits"])
        stored[f"{split}_features"] = said["features"]

    np.savez(folder / "teacher.npz", **stored)

    validation = Split(run.stages, "validation")
    right = stored["validation_probabilities"], validation.labels, validation.recordings
    return {"validation": accuracy(*right)}


def plan(run: Run, folder: Path) -> dict:
    """The plan; groups by similarity follow the base's confusions on validation data,
    symmetrised.
    """
    similarity = None
    if run.config.strategy != "random":
        labels = Split(run.stages, "validation").labels
        p = run.stages.arrays("teacher", "teacher.npz")["validation_probabilities"]

        # (classes, classes): row c is the mean answer to samples of class c
        classes = range(run.base.num_classes)
        confusions = np.stack([p[labels == c].mean(axis=0) for c in classes])
        similarity = confusions + confusions.T

    split = plan_groups(run.config, run.base, similarity)
    if run.config.pruning.zeta is not None:
        split = by_threshold(run, split)
    return {"plan": split.to_dict()}


def features(run: Run, folder: Path) -> dict:
    """All sub-models' features side by side, (n, sum d_j), under each of run.tried_views.

    Those of training inputs, on which the MLP is fitted, are in the precision of the sub-models'
    fits, and below them stand those of config.fusion_views augmented copies; those of validation
    inputs are in float32, as the files have them.
    """
    from edvit_tf.training.batches import Varied
    from edvit_tf.training.precision import resolved

    training = run.config.stage_training
    is_fitted = any(one.is_fitted for one in run.tried_fusions.values())
    for way, given in run.tried_views.items():
        x = Split(run.stages, "validation").x
        np.save(folder / f"validation.{way}.npy", _side_by_side(run, x, given, "float32"))
        if not is_fitted:
            continue

        x = Split(run.stages, "train").x
        inputs = [x]
        seed = stage_seed(run.config, "features")
        for copy in range(run.config.fusion_views):
            inputs.append(Varied(x, training.augment, seed, copy))
        precision = resolved(training.precision)
        parts = [_side_by_side(run, one, given, precision) for one in inputs]
        np.save(folder / f"train.{way}.npy", np.concatenate(parts))
    return {}


def _side_by_side(run: Run, x, given: Sequence[View], precision: str) -> np.ndarray:
    """Features (n, sum d_j) of all sub-models, each by its view."""
    from edvit_tf.training.train import predict

    parts = []
    for member, view in zip(run.sub_models, given, strict=True):
        weights = run.fitted_weights(member)
        parts.append(predict(member.widths, weights, seen(x, view), precision=precision))
    return np.concatenate([said["features"] for said in parts], axis=1)


def bundle(run: Run, folder: Path, dataset) -> dict:
    """The files that are deployed, and the manifest over them; what the smaller flavours lose."""
    from edvit_tf.export.bundle import BundleParts, write_bundle
    from edvit_tf.pipeline.flavours import keep_good

    validation = Split(run.stages, "validation")
    parts = BundleParts(
        run=run.config,
        plan=run.plan,
        labels=run.labels,
        input_spec=dataset.spec,
        input_files=dataset.input_files,
        data=run.stages.result("data")["description"],
        splits={split: dataset.split_ids(split) for split in SPLITS} | _learnt(dataset),
        sub_models=tuple(run.final_weights(member) for member in run.sub_models),
        fusion=run.stages.arrays("calibration"),
        samples=validation.x,
        fusion_kind=run.fusion_kind,
        views=run.views,
    )

    def write(left_out: tuple[str, ...]) -> None:
        write_bundle(folder, dataclasses.replace(parts, left_out=left_out))

    return {"flavours": keep_good(folder, write, validation, run.config.seed)}


def _learnt(dataset) -> dict[str, list[str]]:
    """Digests of the files that were trained or chosen on, so that they are known again under
    another name; nothing where ids follow a rule, and are not listed either.
    """
    if dataset.id_rule is not None:
        return {}
    found: set[str] = set()
    for split in ("train", "validation"):
        found.update(dataset.file_digests(split).values())
    return {LEARNT: sorted(found)}
