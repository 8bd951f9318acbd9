"""The trials of a search, kept in a folder: search.json says what it searches, trials.jsonl has a
line for each trial that has ended. A kill loses the trial that is at work, and no other.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from edvit_tf.checked import differences, digest
from edvit_tf.device.strict_json import finite_json
from edvit_tf.errors import OutputError
from edvit_tf.pipeline.store import reason

SEARCH = "search.json"
TRIALS = "trials.jsonl"

DONE = "done"  # fitted to its end
PRUNED = "pruned"  # ended early: half of the others were better by then
FAILED = "failed"  # its loss was no number
LATE = "late"  # the minutes were over before its last epoch was
NLL_WEIGHT = 1e-3  # a nat counts as 0.1 points of accuracy: it decides between equals


@dataclass(frozen=True)
class Trial:
    """One setting that was tried; accuracy (0..1) and negative log-likelihood (nats) of validation
    recordings, None where the trial failed.
    """

    number: int
    settings: dict  # field of a TrainConfig -> value
    state: str  # DONE, PRUNED, FAILED or LATE
    accuracy: float | None
    nll: float | None
    seconds: float
    by_epoch: list[float] = field(default_factory=list)  # `worth` after each

    @property
    def worth(self) -> float:
        """By which trials are compared."""
        return worth(self.accuracy, self.nll)


def worth(accuracy: float | None, nll: float | None) -> float:
    """Accuracy, and of equals the one with less negative log-likelihood."""
    if accuracy is None or nll is None:
        return float("-inf")
    return accuracy - NLL_WEIGHT * min(nll, 10.0)


def best_of(trials: list[Trial]) -> Trial | None:
    """The best of those that were fitted to their end, the first of equals; None: there is none."""
    ended = [trial for trial in trials if trial.state == DONE]
    return max(ended, key=lambda trial: trial.worth, default=None)


def open_trials(folder: Path, description: dict, overwrite: bool) -> list[Trial]:
    """The trials that a search of this description has made in `folder`, which is made; those of
    another search are an OutputError, and go with `overwrite`.
    """
    file = folder / SEARCH
    try:
        if overwrite:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        if not file.is_file():
            _write(file, description)
        stored = json.loads(file.read_text(encoding="utf-8"))["description"]
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{file} is damaged ({error!r}). Delete {folder}, or pass --overwrite to start again."
        ) from error
    except OSError as error:
        raise OutputError(f"no search can be kept: {reason(error, folder.parent)}") from error

    # as JSON has it: tuples are lists
    changed = differences(stored, json.loads(json.dumps(description)))
    if changed:
        raise OutputError(
            f"{folder} holds a search for another configuration; changed: "
            f"{'; '.join(changed[:6])}. Pass --overwrite to start again, or another --out."
        )
    return _read(folder / TRIALS)


def keep(folder: Path, trial: Trial) -> None:
    """Adds a trial, on the disk when this returns."""
    try:
        with open(folder / TRIALS, "a", encoding="utf-8") as file:
            file.write(json.dumps(finite_json(asdict(trial))) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(
            f"trial {trial.number} cannot be kept: {reason(error, folder)} Those before it are: "
            "start the same command again."
        ) from error


def _write(file: Path, description: dict) -> None:
    partial = file.with_suffix(".partial")
    told = {"key": digest(description), "description": description}
    partial.write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
    os.replace(partial, file)


def _read(file: Path) -> list[Trial]:
    """The trials of a file; what a kill left of a last line is taken out of it."""
    if not file.is_file():
        return []
    lines = file.read_bytes().split(b"\n")
    whole, rest = lines[:-1], lines[-1]
    if rest:
        with open(file, "rb+") as opened:
            opened.truncate(sum(len(line) + 1 for line in whole))
    try:
        return [Trial(**json.loads(line)) for line in whole]
    except (ValueError, TypeError) as error:
        raise OutputError(
            f"{file} is damaged ({error!r}). Delete the line, or pass --overwrite to start again."
        ) from error
