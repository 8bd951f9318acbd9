"""How the sub-models' answers become one: the fusion fitted on stored features, the joint training,
and the temperature of the probabilities, chosen on validation data."""

from pathlib import Path

import numpy as np

from edvit_tf.evaluation.accuracy import accuracy, per_recording
from edvit_tf.export.fusion import AUTO, Fusion, fusion_of
from edvit_tf.pipeline.budget import training_macs
from edvit_tf.pipeline.fusion_choice import choose, left_out, told
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.stage import Run
from edvit_tf.pipeline.store import stage_seed
from edvit_tf.progress import tell
from edvit_tf.training.calibrate import (
    best_temperature,
    bound_of,
    calibration_figures,
    tempered,
)

TOWER = "tower.npz"  # of the fusion's stage: where a joint training starts


def fusion(run: Run, folder: Path) -> dict:
    """The fusion, fitted on the stored features of frozen sub-models, or made of their heads: under
    each of run.tried_views, of which the best on validation data is kept, and of each of
    run.tried_fusions, of which one is chosen (`fusion_choice`).
    """
    for kind, why in left_out(run).items():
        tell(f"fusion: {kind} is not tried: {why}")
    found = {way: _chosen(run, way) for way in run.tried_views}

    def worth(way: str) -> tuple[float, float]:
        figures = found[way]["figures"]
        return figures["accuracy"], -figures["nll"]

    kept = max(found, key=worth)  # the first of equals: as it is
    model, history = found[kept]["model"], found[kept]["history"]
    # each way that was tried was trained, the one that is kept too
    spent = sum(one["history"].get("macs", 0) for one in found.values())
    features = run.stages.array("features", f"validation.{kept}.npy")
    if run.tries_joint:
        _store_tower(folder, found["plain"]["all"])
    return {
        "history": {**history, "macs": spent},
        "kind": found[kept]["kind"],
        "kinds": found[kept]["kinds"],
        "reason": found[kept]["reason"],
        "left_out": left_out(run),
        "seen": kept,
        "tried": {way: one["figures"] for way, one in found.items()},
        "right": {kind: one["right"].tolist() for kind, one in found[kept]["all"].items()},
        "validation": _store(run, folder, model, features),
    }


def _chosen(run: Run, way: str) -> dict:
    """What `_fused` gives for the kind that is chosen, with its name and what all came to."""
    found = {kind: _fused(run, way, made_of) for kind, made_of in run.tried_fusions.items()}
    right = {kind: one["right"] for kind, one in found.items()}
    kind, reason = choose(run, run.tried_fusions, right)

    kinds = {}
    for name, one in found.items():
        kinds[name] = {**one["figures"], "size_bytes": run.tried_fusions[name].size_bytes}
    history = found[kind]["history"]
    if len(found) > 1:
        tell(told(kind, reason, kinds))
        # what was tried was trained too
        history["macs"] = sum(one["history"].get("macs", 0) for one in found.values())
    return {**found[kind], "kind": kind, "kinds": kinds, "reason": reason, "all": found}


def _store_tower(folder: Path, found: dict) -> None:
    """The weights from which a joint training starts: those of the tower, or of an MLP that was
    asked for.
    """
    from edvit_tf.models.weights import get_weights

    tower = found.get("tower") or next(iter(found.values()))
    np.savez(folder / TOWER, **get_weights(tower["model"]))


def _fused(run: Run, way: str, made_of: Fusion) -> dict:
    """The fusion of features under one way of seeing: its model, history, validation figures."""
    import keras

    from edvit_tf.models.weights import set_weights
    from edvit_tf.training.fuse import fit_fusion

    seed = stage_seed(run.config, "fusion")
    keras.utils.set_random_seed(seed)
    model = made_of.to_fit()
    features = run.stages.array("features", f"validation.{way}.npy")
    history: dict = {}

    # A fusion without weights of its own to fit is made of the sub-models' heads.
    if not made_of.is_fitted:
        set_weights(model, _made_of_heads(run, made_of, model, features, history))
    else:
        history = fit_fusion(
            model,
            np.asarray(run.stages.array("features", f"train.{way}.npy")),
            np.tile(Split(run.stages, "train").labels, 1 + run.config.fusion_views),
            run.config.fusion_training,
            _missing_rate(run),
            seed,
        )
        history["macs"] = 3 * history["samples"] * made_of.macs
        model = made_of.fitted(model)
    return {"model": model, "history": history, **_judged(run, model, features)}


def _judged(run: Run, model, features: np.ndarray) -> dict:
    """A Keras fusion on validation recordings: its "figures", accuracy and negative log-likelihood,
    and which are named "right" (recordings,).
    """
    validation = Split(run.stages, "validation")
    p = all_present(model, features, len(run.sub_models))
    by_recording, truth = per_recording(p, validation.labels, validation.recordings)
    right = by_recording.argmax(axis=1) == truth
    nll = calibration_figures(by_recording, truth)["nll"]
    return {"figures": {"accuracy": float(right.mean()), "nll": nll}, "right": right}


def _made_of_heads(run: Run, made_of: Fusion, model, features: np.ndarray, history: dict) -> dict:
    """Weights of an average: with the prior of "other" (`Average.with_prior`) where it names more
    validation recordings right, or as many with less negative log-likelihood; both are told in
    `history`.
    """
    from edvit_tf.models.weights import set_weights

    own = [run.fitted_weights(member) for member in run.sub_models]
    plain = made_of.weights_from(own)
    prior = made_of.with_prior(plain, run.config.stage_training)
    tried = {"as fitted": plain, "other's prior": prior}

    figures = {}
    for name, weights in tried.items():
        set_weights(model, weights)
        figures[name] = _judged(run, model, features)["figures"]

    def worth(name: str) -> tuple[float, float]:
        return figures[name]["accuracy"], -figures[name]["nll"]

    kept = max(tried, key=worth)  # the first of equals: as fitted
    history["other"] = {"kept": kept, "validation": figures}
    return tried[kept]


def joint(run: Run, folder: Path) -> dict:
    """Sub-models and fusion trained on together, from where the stages before left them, distilled
    from the base; and, where they are one of several ways of fusing, whether they are taken.
    """
    from edvit_tf.models.weights import set_weights
    from edvit_tf.training.batches import group_targets, repeated_epoch
    from edvit_tf.training.joint import fit_joint
    from edvit_tf.training.train import predict

    training = run.config.joint_training
    seed = stage_seed(run.config, "joint")
    count = run.base.num_classes
    train = Split(run.stages, "train")
    stored = run.stages.arrays("teacher", "teacher.npz")

    tower = fusion_of(run.config, run.plan, count, "joint")
    model = tower.build()
    set_weights(model, run.stages.arrays("fusion", _start_of(run)))

    def targets(classes: tuple[int, ...]):
        return group_targets(
            train.labels,
            stored["train_probabilities"],
            classes,
            count,
            training.distillation,
            training.label_smoothing,
        )

    def rows(epoch: int) -> np.ndarray:
        return repeated_epoch(len(train.labels), len(train.labels), seed, epoch)

    weights, history = fit_joint(
        [member.widths for member in run.sub_models],
        [run.fitted_weights(member) for member in run.sub_models],
        model,
        train.x,
        targets(tuple(range(count))),
        [targets(member.classes) for member in run.sub_models],
        training,
        _missing_rate(run),
        seed=seed,
        features=stored["train_features"],
        epoch_indices=rows,
    )

    # Each sample goes through the fusion and every sub-model, forward and backward.
    history["macs"] = 3 * history["samples"] * tower.macs
    for member in run.sub_models:
        history["macs"] += training_macs(member.widths, training, history["samples"])

    # What is stored of a joint training are weights of its own for every sub-model.
    x = Split(run.stages, "validation").x
    features = []
    for member, own in zip(run.sub_models, weights, strict=True):
        np.savez(folder / f"{member.name}.npz", **own)
        features.append(predict(member.widths, own, x)["features"])

    # (n, sum d_j)
    side_by_side = np.concatenate(features, axis=1)
    return {
        "history": history,
        **_beside_frozen(run, tower, _judged(run, model, side_by_side)),
        "validation": _store(run, folder, model, side_by_side),
    }


def _start_of(run: Run) -> str:
    """The file of the tower's weights in the fusion's stage; a version before choosing had one."""
    return TOWER if (run.stages.folder / "fusion" / TOWER).is_file() else "weights.npz"


def _beside_frozen(run: Run, tower: Fusion, judged: dict) -> dict:
    """Whether the joint training is taken, and why, among the fusions of frozen sub-models."""
    if run.config.fusion != AUTO:
        return {"kept": True}
    frozen = run.stages.result("fusion")
    right = {kind: np.array(named) for kind, named in frozen["right"].items()}
    fusions = {**run.tried_fusions, "joint": tower}
    kind, reason = choose(run, fusions, {**right, "joint": judged["right"]})
    kinds = {**frozen["kinds"], "joint": {**judged["figures"], "size_bytes": tower.size_bytes}}
    tell(told(kind, reason, kinds))
    return {"kept": kind == "joint", "kinds": kinds, "reason": reason}


def calibration(run: Run, folder: Path) -> dict:
    """The fusion's weights with the temperature at which its validation probabilities fit the
    labels best, by recording.
    """
    from edvit_tf.training.fuse import cooled

    p = run.stages.arrays(run.fused_stage, "validation.npz")["probabilities"]
    validation = Split(run.stages, "validation")

    labels = validation.labels
    recordings = validation.recordings

    temperature = best_temperature(p, labels, recordings)
    bound = bound_of(temperature, p, labels)
    if bound is not None:
        tell(
            f"calibration: the temperature stopped at {bound:g}, a bound of its search: the "
            f"{len(p)} validation windows do not say where it would end",
        )
    np.savez(folder / "weights.npz", **cooled(run.stages.arrays(run.fused_stage), temperature))

    after = tempered(p, temperature)
    validated = accuracy(after, labels, recordings)
    return {
        "temperature": temperature,
        "bound": bound,
        "samples": validated["windows"],
        "recordings": validated["recordings"],
        "before": calibration_figures(*per_recording(p, labels, recordings)),
        "after": calibration_figures(*per_recording(after, labels, recordings)),
        "validation": validated,
    }


def all_present(model, features: np.ndarray, count: int) -> np.ndarray:
    """Probabilities (n, classes) of a Keras fusion with all of `count` sub-models present."""
    present = np.ones((len(features), count), np.float32)  # (n, N)
    return np.asarray(model({"features": np.asarray(features), "present": present}))


def _store(run: Run, folder: Path, model, features: np.ndarray) -> dict:
    """Writes a fusion's weights and its answers to validation features; returns their accuracy."""
    from edvit_tf.models.weights import get_weights

    p = all_present(model, features, len(run.sub_models))
    np.savez(folder / "weights.npz", **get_weights(model))
    np.savez(folder / "validation.npz", probabilities=p)

    validation = Split(run.stages, "validation")
    return accuracy(p, validation.labels, validation.recordings)


def _missing_rate(run: Run) -> float:
    """Share of sub-models that a fit leaves out at random: none where there is but one."""
    return run.config.missing_rate if len(run.sub_models) > 1 else 0.0
