"""results.json as types: what a run measured and spent, in the order in which the report shows it.

`read_results` opens the file of a bundle, `results_from_dict` takes what `edvit_tf.pipeline.run`
returns. Keys that came later have a default, so that results of older versions open; keys that
nobody knows are left alone.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edvit_tf.checked import digest
from edvit_tf.config import FLEETS
from edvit_tf.device.errors import BundleError
from edvit_tf.report.entries import (
    Comparison,
    Data,
    Flavour,
    Floor,
    Fusion,
    JudgedFlavour,
    Machine,
    Model,
    Parity,
    Planned,
    Step,
    SubModel,
    Turns,
)
from edvit_tf.report.fleet_entries import Copies, Fleet, LostDevice, LostSet, LostSubModel
from edvit_tf.report.typed import ResultsError, typed

# Kinds of fleet that a run ends with: where it was left to it, "auto", it took one of these.
MADE = tuple(kind for kind in FLEETS if kind != "auto")

RIVALS = {
    "single": "one model of a device's size",
    "plain": "the same, not distilled",
    "equal": "one model, equal training",
    "total": "one model of all files' size",
}


@dataclass(frozen=True)
class Results:
    """All of it. `rivals` are the single models beside the fleet, by a key of RIVALS."""

    seed: int
    data: Data
    labels: tuple[str, ...]
    machine: Machine
    base: Model
    sub_models: tuple[SubModel, ...]
    fusion: Fusion
    parity: dict[str, Parity]
    missing_one: tuple[LostSubModel, ...]
    confusion: tuple[tuple[int, ...], ...]
    plan: Planned
    stage_seconds: dict[str, float]
    seconds: float
    peak_rss_bytes: int
    rivals: dict[str, Model] = field(default_factory=dict)
    losses: tuple[LostSet, ...] = ()
    lost_devices: tuple[LostDevice, ...] = ()
    flavours: tuple[Flavour, ...] = ()
    shared: dict[str, tuple[Step, ...]] = field(default_factory=dict)
    training_macs: dict[str, int | None] = field(default_factory=dict)
    key: str = ""  # of what the run was made from
    comparisons: dict[str, Comparison] = field(default_factory=dict)  # the fused fleet against each
    turns: Turns | None = None
    flavours_on_validation: tuple[JudgedFlavour, ...] = ()
    fleet: Fleet = field(default_factory=Fleet)
    floor: Floor | None = None  # None: of a version that did not fit one
    copies: Copies | None = None  # the single model's file under its views, beside every fleet
    disagreement: float | None = None  # of the members (`evaluation.disagreement`)
    members_samples: tuple[int, ...] = ()  # training samples that each sub-model got
    tuning: dict[str, Any] | None = None  # of --tune: minutes, what was tried, what was taken

    @property
    def copies_beside(self) -> Copies | None:
        """Copies of the single model that were measured beside another kind of fleet."""
        most = None if self.copies is None else self.copies.most
        measured = most is not None and most.devices > 1  # one is the single model itself
        beside = measured and "single" in self.rivals and self.fleet.kind != "copies"
        return self.copies if beside else None

    @property
    def knows_all(self) -> bool:
        """Whether every sub-model answers for all classes, as copies do."""
        return all(len(sub.labels) == len(self.labels) for sub in self.sub_models)

    def classes_said(self, labels: tuple[str, ...]) -> str:
        """The classes of a sub-model, by name where they are not all."""
        if len(labels) == len(self.labels) and len(self.sub_models) > 1:
            return "all classes"
        return ", ".join(labels)

    def rival_name(self, key: str) -> str:
        """What a rival is, in words: where a device holds several sub-models, the one of a device's
        size is as large as those of the fullest.
        """
        held = Counter(device for sub in self.sub_models for device in sub.devices)
        if key == "single" and max(held.values()) > 1:
            return "one model of the fullest device's size"
        return RIVALS[key]


def read_results(folder: Path) -> Results:
    """The results of a bundle; raises BundleError where they are missing or not what a recipe
    wrote.
    """
    file = folder / "results.json"
    if not file.is_file():
        raise BundleError(
            f"{folder} holds no results.json; the report shows what it stores. "
            "Give the folder that a recipe finished."
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{file} is not JSON ({error}). Copy the bundle again.") from error
    try:
        return results_from_dict(values)
    except ResultsError as error:
        raise BundleError(
            f"{file}: {error}; it is not what a recipe wrote. Copy the bundle again."
        ) from error


def results_from_dict(values: Any) -> Results:
    """The types of what results.json holds; raises ResultsError."""
    if not isinstance(values, dict):
        raise ResultsError(f"it is {values!r:.60}; it must be an object")

    # The file has each rival beside the base, under its own key.
    upgraded = dict(values)
    upgraded["rivals"] = {key: values[key] for key in RIVALS if values.get(key)}

    for key in ("training_macs", "fleet"):
        if upgraded.get(key) is None:
            upgraded.pop(key, None)
    results = typed(Results, upgraded, "")
    if results.fleet.kind not in MADE:
        raise ResultsError(
            f"fleet.kind is {results.fleet.kind!r:.60}; this version knows {', '.join(MADE)}"
        )
    timed = {} if results.turns is None else results.turns.models
    for name in (*(sub.name for sub in results.sub_models), "fusion"):
        if results.turns is not None and name not in timed:
            raise ResultsError(f"turns.models lacks {name}")
    return results


def recomputed_key(folder: Path) -> str | None:
    """The digest of what a bundle was made from, as its run.json says: the same as its results'
    `key`. None for a bundle of a version that did not store it.
    """
    file = folder / "run.json"
    if not file.is_file():
        return None

    return digest(json.loads(file.read_text(encoding="utf-8"))["description"])
