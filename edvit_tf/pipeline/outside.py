"""A model of all classes that was trained elsewhere, in the place of its training here: weights by
name, checked against the widths that the run needs.
"""

import hashlib
import zipfile
import zlib
from pathlib import Path

import numpy as np

from edvit_tf.config import RunConfig
from edvit_tf.errors import ConfigError
from edvit_tf.models import ModelConfig
from edvit_tf.pipeline.member import may_be_given, members, shared_models
from edvit_tf.pipeline.stage import Run
from edvit_tf.planning.plan import Plan
from edvit_tf.progress import listening

# What numpy raises for a file that is cut off, or is no archive of arrays.
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


def digest_of(path: Path) -> str:
    """sha256 of the file; ConfigError if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(
            f"--shared-weights is {path}, which cannot be read ({error.strerror}). Give an .npz "
            "file of weights by name, or leave it out."
        ) from error


def outside(run: Run, folder: Path, given: Path) -> dict:
    """The given weights, stored with the run, and the shares of the base that a model of them
    keeps: one of the widths that the run would train a model of all classes of.
    """
    weights = read_weights(given)
    kept = fitting_share(weights, run.config, run.split, run.base)
    np.savez(folder / "weights.npz", **weights)
    return {"kept": kept, "sha256": digest_of(given)}


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Weights by name, float32, of an .npz file; ConfigError if it is none, or holds a NaN."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            weights = {name: np.asarray(stored[name], np.float32) for name in stored.files}
    except _UNREADABLE as error:
        raise ConfigError(
            f"--shared-weights is {path}, which is no .npz file of weights by name ({error}). Give "
            "a weights.npz of a stage, or what `python -m edvit_tf.study.fleet` wrote."
        ) from error

    bad = [name for name, value in weights.items() if not np.isfinite(value).all()]
    if bad:
        raise ConfigError(
            f"--shared-weights is {path}, where {bad[0]} holds a value that is no number. Train it "
            "again, or leave it out."
        )
    return weights


def fitting_share(
    weights: dict[str, np.ndarray], config: RunConfig, split: Plan, base: ModelConfig
) -> int:
    """How many shares of the base a model of all classes with these weights keeps, of those that
    the run would train; ConfigError where it is none of them.
    """
    wrong = []
    for kept in _wanted(config, split, base):
        widths = base.pruned(kept, base.num_classes, config.pruning.heads)
        unlike = _unlike(weights, widths)
        if not unlike:
            return kept
        wrong.append(f"with {kept} of {base.shares} shares {unlike}")

    raise ConfigError(
        "--shared-weights has other widths than the models of all classes of this run: "
        f"{'; '.join(wrong) or 'it trains none'}. Train it with the widths of the plan, or change "
        "the plan (--devices, --budget, --start-heads)."
    )


def _wanted(config: RunConfig, split: Plan, base: ModelConfig) -> list[int]:
    """Shares of the base that the models of all classes keep whose training may be replaced."""
    with listening():  # which rivals are left out is said elsewhere
        found = members(config, split, base)
    found = (*found, *shared_models(config, found, base))
    return sorted({member.kept for member in found if may_be_given(member, config, split)})


def _unlike(weights: dict[str, np.ndarray], widths: ModelConfig) -> str:
    """The first weight that a model of these widths has otherwise; empty where there is none."""
    from edvit_tf.models.weights import initial_weights

    expected = {name: value.shape for name, value in initial_weights(widths, 0).items()}
    for name in sorted(expected.keys() | weights.keys()):
        if name not in weights:
            return f"{name} is missing"
        if name not in expected:
            return f"there is no {name}"
        if weights[name].shape != expected[name]:
            return f"{name} is {expected[name]}, not {weights[name].shape}"
    return ""
