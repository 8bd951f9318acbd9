"""What each stage of a run does: reads stored files of earlier stages, writes its own into a given folder.

Every stage draws its seed from the run's and its own name, and reads no state but files: that is what makes a resumed
run equal an unbroken one.
"""

import json
from pathlib import Path

import numpy as np

from edvit_tf.checked import digest
from edvit_tf.config import Plan, RunConfig, SubModelPlan, ViTConfig
from edvit_tf.errors import DataError
from edvit_tf.pipeline.store import Stages
from edvit_tf.planning import cost

PRUNING_STAGES = ("head", "residual", "attention", "ffn")
SINGLE = "single"  # the baseline: one model of the per-device size, all classes


def stage_seed(run: RunConfig, name: str) -> int:
    """A seed of its own for each stage, from the run's seed and the stage's name."""
    return int(digest([run.seed, name])[:7], 16)


def base_vit_config(run: RunConfig, input_shape: tuple[int, int, int], num_classes: int, mean, std) -> ViTConfig:
    """The base ViT's configuration: the preset at the data's shape, normalised by the training data's mean and std."""
    from edvit_tf.models.presets import vit_config

    changes = {} if run.patch_size is None else {"patch_size": run.patch_size}
    return vit_config(run.model, input_shape, num_classes, input_mean=tuple(mean), input_std=tuple(std), **changes)


def store_inputs(folder: Path, dataset) -> dict:
    from edvit_tf.evaluate import materialise

    counts, index = {}, {}
    for split in ("train", "validation", "test"):
        _, index[f"{split}_labels"], index[f"{split}_recordings"] = materialise(dataset, split, folder)
        counts[split] = len(index[f"{split}_labels"])
    np.savez(folder / "index.npz", **index)
    train = np.load(folder / "train.npy", mmap_mode="r")
    sums, squares = np.zeros(train.shape[-1]), np.zeros(train.shape[-1])
    for start in range(0, len(train), 1024):
        piece = np.asarray(train[start : start + 1024], np.float64)
        sums += piece.sum(axis=(0, 1, 2))
        squares += np.square(piece).sum(axis=(0, 1, 2))
    total = train[..., 0].size
    mean = sums / total
    std = np.sqrt(np.maximum(squares / total - mean**2, 1e-6))
    return {"windows": counts, "description": dataset.describe(), "mean": [float(v) for v in mean],
            "std": [float(v) for v in std]}


class Split:
    """Stored inputs of a split: x is a memory map, labels and recordings are arrays."""

    def __init__(self, stages: Stages, split: str):
        index = stages.arrays("data", "index.npz")
        self.x = np.load(stages.path("data", f"{split}.npy"), mmap_mode="r")
        self.labels, self.recordings = index[f"{split}_labels"], index[f"{split}_recordings"]


def base(
    folder: Path, stages: Stages, config: RunConfig, base_config: ViTConfig, given: Path | None, labels: tuple[str, ...]
) -> dict:
    """The base: trained, or `given` as it is, or `given` with a new head and trained as config.base_training says."""
    from edvit_tf.models.pretrained import load_base
    from edvit_tf.models.vit import vit_from_weights
    from edvit_tf.training.batches import group_targets
    from edvit_tf.training.train import fit, initial_weights

    seed, train = stage_seed(config, "base"), Split(stages, "train")
    history: dict = {}
    loaded = None
    if given is not None:
        loaded = load_base(given, base_config, labels, decibels=train.x.dtype != np.uint8)
        base_config, weights = loaded.config, loaded.weights
        for note in loaded.notes:
            print(f"base: {note}", flush=True)
    if loaded is None or loaded.new_head:
        start = initial_weights(base_config, seed) if loaded is None else weights
        targets = group_targets(train.labels, None, tuple(range(base_config.num_classes)), base_config.num_classes,
                                label_smoothing=config.base_training.label_smoothing)
        weights, history = fit(
            base_config, start, train.x, targets, config.base_training, seed=seed,
            epoch_indices=lambda epoch: np.random.default_rng([seed, epoch]).permutation(len(train.labels)),
            title="base",
        )
    np.savez(folder / "weights.npz", **weights)
    vit_from_weights(base_config, weights, name="base").save(folder / "base.keras")
    return {"config": base_config.to_dict(), "history": history, "notes": list(loaded.notes) if loaded else []}


def teacher(folder: Path, stages: Stages, base_config: ViTConfig) -> dict:
    from edvit_tf.evaluate import accuracy
    from edvit_tf.training.train import predict, softmax

    stored = {}
    for split in ("train", "validation"):
        part = Split(stages, split)
        out = predict(base_config, stages.arrays("base"), part.x)
        stored |= {f"{split}_probabilities": softmax(out["logits"]), f"{split}_features": out["features"]}
    np.savez(folder / "teacher.npz", **stored)
    validation = accuracy(stored["validation_probabilities"], part.labels, part.recordings)
    return {"validation": validation}


def plan_fleet(config: RunConfig, base_config: ViTConfig, stages: Stages) -> dict:
    """The plan; groups by similarity follow the base's confusions on validation data, symmetrised."""
    similarity = None
    if config.strategy != "random":
        labels = Split(stages, "validation").labels
        p = stages.arrays("teacher", "teacher.npz")["validation_probabilities"]
        confusions = np.stack([p[labels == c].mean(axis=0) for c in range(base_config.num_classes)])
        similarity = confusions + confusions.T
    return {"plan": plan_groups(config, base_config, similarity).to_dict()}


def check_strategy(config: RunConfig, dataset) -> None:
    """DataError unless the validation split has every class, where groups are made by the base's confusions on it."""
    seen = {recording.label for recording in dataset.recordings("validation")}
    missing = [name for label, name in enumerate(dataset.labels) if label not in seen]
    if config.strategy != "random" and missing:
        raise DataError(f"strategy is {config.strategy!r}, which needs validation samples of every class; "
                        f"{', '.join(missing)} have none. Add recordings of them, or take --strategy random.")


def plan_groups(config: RunConfig, base_config: ViTConfig, similarity: np.ndarray | None) -> Plan:
    """Algorithms 1 and 3 over the run's class groups; without `similarity` the groups are random ones, of the same
    sizes and so of the same cost. Raises PlanError.
    """
    from edvit_tf.planning.partition import partition
    from edvit_tf.planning.plan import plan

    devices = config.device_specs
    strategy = "random" if similarity is None else config.strategy
    groups = partition(base_config.num_classes, config.group_count, strategy, config.seed, similarity)
    return plan(base_config, groups, devices, config.budget_bytes, config.samples, config.assignment, strategy,
                config.replicas, cut_heads=config.pruning.heads)


def single_plan(plan: Plan, base_config: ViTConfig, cut_heads: str = "merge") -> SubModelPlan:
    """One model of all classes, as large as what the fullest device holds: the rival on one device.

    With one sub-model a device it has the largest sub-model's widths; where a device holds several, the most heads
    whose file is no more bytes than theirs together.
    """
    held: dict[str, int] = {}
    for sub in plan.sub_models:
        for device in sub.devices:
            held[device] = held.get(device, 0) + sub.size_bytes
    num_classes, kept = base_config.num_classes, max(sub.kept_heads for sub in plan.sub_models)
    while kept < base_config.num_heads and (
        cost.file_bytes(base_config.pruned(kept + 1, num_classes, cut_heads)) <= max(held.values())
    ):
        kept += 1
    widths = base_config.pruned(kept, num_classes, cut_heads)
    return SubModelPlan(len(plan.sub_models), tuple(range(num_classes)), kept, widths, cost.file_bytes(widths),
                        cost.macs(widths), ())


def label_of(sub: SubModelPlan) -> str:
    """Stage name of a sub-model, or of the single baseline (which is on no device)."""
    return sub.name if sub.devices else SINGLE


def fleet_samples(stages: Stages, config: RunConfig, plan: Plan) -> int:
    """Training samples that the sub-models see together in an epoch: as many as the single baseline gets in one."""
    from edvit_tf.training.batches import group_epoch

    labels = Split(stages, "train").labels
    num_classes = int(labels.max()) + 1
    weight = config.stage_training.other_weight
    return sum(len(group_epoch(labels, sub.classes, num_classes, 0, 0, weight)) for sub in plan.sub_models)


def cut_and_fit(
    folder: Path, stages: Stages, config: RunConfig, base_config: ViTConfig, sub: SubModelPlan, stage: str, name: str,
    fleet_samples: int,
) -> dict:
    """One stage of one sub-model: the group's head, or a cut by fresh scores; then the fit that mends it."""
    from edvit_tf.pruning.prune import group_head
    from edvit_tf.pruning.stage import prune_stage
    from edvit_tf.training.batches import group_epoch, group_targets, repeated_epoch
    from edvit_tf.training.train import fit, fit_head

    seed, classes, num_classes = stage_seed(config, name), sub.classes, base_config.num_classes
    train, validation = Split(stages, "train"), Split(stages, "validation")
    stored = stages.arrays("teacher", "teacher.npz")
    training = config.stage_training
    targets = group_targets(train.labels, stored["train_probabilities"], classes, num_classes, training.distillation,
                            training.label_smoothing)

    def indices(epoch):
        if label_of(sub) == SINGLE:
            return repeated_epoch(len(train.labels), fleet_samples, seed, epoch)
        return group_epoch(train.labels, classes, num_classes, seed, epoch, training.other_weight)

    accuracy: dict[str, dict] = {}
    if stage == "head":
        widths, weights = group_head(base_config, stages.arrays("base"), classes)
        accuracy["before"] = _base_accuracy(stored["validation_probabilities"], validation.labels, classes)
        accuracy["cut"] = _group_accuracy(widths, weights, validation, classes)
        rows = indices(0)
        if widths.num_classes > len(classes) or base_config.pool != "cls":
            # "other" is trained before scores are taken, and a head that had the mean of the patch tokens beside it
            features = stored["train_features"][rows, : widths.hidden_dim]
            weights["head.kernel"], weights["head.bias"] = fit_head(
                features, targets[rows], weights["head.kernel"], weights["head.bias"])
        history: dict = {}
    else:
        before = f"{label_of(sub)}.{PRUNING_STAGES[PRUNING_STAGES.index(stage) - 1]}"
        previous = json.loads(stages.path(before, "stage.json").read_text())["result"]
        mixture = indices(0) if label_of(sub) == SINGLE else group_epoch(train.labels, classes, num_classes, seed, 0)
        chosen = np.sort(mixture[: config.calibration_samples])
        pruned = prune_stage(ViTConfig.from_dict(previous["config"]), stages.arrays(before), train.x[chosen], stage,
                             sub.config, config.pruning, seed)
        widths, accuracy["before"] = pruned.config, previous["accuracy"]["fit"]
        accuracy["cut"] = _group_accuracy(widths, pruned.cut, validation, classes)
        if pruned.repaired is not None:
            accuracy["repair"] = _group_accuracy(widths, pruned.repaired, validation, classes)
        weights, history = fit(widths, pruned.weights, train.x, targets, training, epoch_indices=indices, seed=seed,
                               title=name)
    accuracy["fit"] = _group_accuracy(widths, weights, validation, classes)
    np.savez(folder / "weights.npz", **weights)
    return {"config": widths.to_dict(), "params": cost.params(widths), "macs": cost.macs(widths), "history": history,
            "accuracy": accuracy}


def _group_accuracy(widths: ViTConfig, weights: dict, split: Split, classes: tuple[int, ...]) -> dict:
    """Accuracy of a sub-model on a split's windows, as `_accuracies` gives it."""
    from edvit_tf.training.train import predict

    rows = {c: i for i, c in enumerate(classes)}
    truth = np.array([rows.get(int(label), len(classes)) for label in split.labels])
    return _accuracies(truth, predict(widths, weights, split.x)["logits"].argmax(axis=1), len(classes))


def _base_accuracy(probabilities: np.ndarray, labels: np.ndarray, classes: tuple[int, ...]) -> dict:
    """The same of the base, its answers outside the group taken for "other"."""
    place = np.full(probabilities.shape[1], len(classes))
    place[list(classes)] = np.arange(len(classes))
    return _accuracies(place[labels], place[probabilities.argmax(axis=1)], len(classes))


def _accuracies(truth: np.ndarray, answers: np.ndarray, group_size: int) -> dict:
    """"group": share of the samples of the group's own classes that is named right (None: there are no such samples);
    "all": the mean recall over the group's classes and "other", into which all other classes fall.
    """
    right, inside = truth == answers, truth < group_size
    return {"group": float(right[inside].mean()) if inside.any() else None,
            "all": float(np.mean([right[truth == row].mean() for row in np.unique(truth)]))}


def features(folder: Path, stages: Stages, plan: Plan) -> dict:
    from edvit_tf.training.train import predict

    for split in ("train", "validation"):
        x = Split(stages, split).x
        parts = [predict(sub.config, stages.arrays(f"{sub.name}.ffn"), x)["features"] for sub in plan.sub_models]
        np.save(folder / f"{split}.npy", np.concatenate(parts, axis=1))
    return {}


def fusion(folder: Path, stages: Stages, config: RunConfig, plan: Plan, num_classes: int) -> dict:
    import keras

    from edvit_tf.evaluate import accuracy
    from edvit_tf.models.vit import get_weights
    from edvit_tf.training.fuse import build_fusion, fit_fusion

    seed, widths = stage_seed(config, "fusion"), tuple(sub.config.hidden_dim for sub in plan.sub_models)
    keras.utils.set_random_seed(seed)
    model = build_fusion(widths, num_classes, config.fusion_lambda)
    labels = Split(stages, "train").labels
    missing_rate = config.missing_rate if len(widths) > 1 else 0.0
    history = fit_fusion(model, np.load(stages.path("features", "train.npy")), labels, config.fusion_training,
                         missing_rate, seed)
    validation = Split(stages, "validation")
    features = np.load(stages.path("features", "validation.npy"))
    p = np.asarray(model({"features": features, "present": np.ones((len(features), len(widths)), np.float32)}))
    np.savez(folder / "weights.npz", **get_weights(model))
    figures = accuracy(p, validation.labels, validation.recordings)
    return {"history": history, "validation": figures}


def bundle(folder: Path, stages: Stages, config: RunConfig, plan: Plan, dataset, description: dict,
           splits: dict) -> dict:
    from edvit_tf.export.bundle import BundleParts, write_bundle

    write_bundle(folder, BundleParts(
        run=config, plan=plan, labels=tuple(dataset.labels), input_spec=dataset.spec.to_dict(),
        mel_filters=dataset.mel_filters, data=description, splits=splits,
        sub_models=tuple(stages.arrays(f"{sub.name}.ffn") for sub in plan.sub_models), fusion=stages.arrays("fusion"),
    ))
    return {}


