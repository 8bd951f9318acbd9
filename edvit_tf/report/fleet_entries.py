"""What results.json says of the fleet as one: its kind, its views, and what lost parts leave of it.

Accuracies are shares 0..1. What came later has a default.
"""

from dataclasses import dataclass
from typing import Any

from edvit_tf.report.entries import Accuracy, Calibration, Comparison


@dataclass(frozen=True)
class LostSubModel:
    """The fleet without one sub-model: in all, and on the classes of the others."""

    missing: int
    name: str
    tflite: Accuracy
    other_classes: Accuracy | None  # None: each of the others knows all classes
    paired: Comparison | None = None  # against the fleet with all present


@dataclass(frozen=True)
class LostSet:
    """The fleet without several."""

    missing: tuple[int, ...]
    tflite: Accuracy
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class LostDevice:
    """The fleet without what is on one device alone."""

    device: str
    missing: tuple[int, ...]
    tflite: Accuracy
    paired: Comparison | None = None  # against the fleet with all present


@dataclass(frozen=True)
class Fleet:
    """Which kind of fleet the run made, one of `edvit_tf.config.FLEETS`, and why."""

    kind: str = "classes"  # of a version that knew no other
    asked: str = ""
    reason: str = ""
    start: str | None = None  # of a joint fleet, one of FLEET_STARTS
    gap: float | None = None  # accuracy of the base less that of the single model, validation
    single_validation: float | None = None
    views: tuple[dict[str, Any] | None, ...] = ()  # of each sub-model


@dataclass(frozen=True)
class ValidatedCopies:
    """Accuracy 0..1 on validation data of the first so many copies."""

    devices: int
    accuracy: float


@dataclass(frozen=True)
class TestedCopies:
    """The same on the test split, of their files."""

    devices: int
    tflite: Accuracy


@dataclass(frozen=True)
class Copies:
    """Copies of the single model, each with a view of its own, in the order in which views were
    chosen; their answer is the mean of the softmaxes.
    """

    views: tuple[dict[str, Any] | None, ...]
    test: tuple[TestedCopies, ...]
    validation: tuple[ValidatedCopies, ...] = ()
    file_bytes: int | None = None
    temperature: float | None = None
    bound: float | None = None
    calibration: Calibration | None = None

    @property
    def by_view(self) -> tuple[TestedCopies, ...]:
        """Without those of more devices than views: they hold a view again, and have its answer."""
        return tuple(at for at in self.test if at.devices <= len(self.views))

    @property
    def validated(self) -> dict[int, float]:
        """Accuracy on validation data by number of copies, up to that of the views."""
        found = {at.devices: at.accuracy for at in self.validation}
        return {n: share for n, share in found.items() if n <= len(self.views)}

    @property
    def most(self) -> TestedCopies | None:
        """With all views; None where none was tested."""
        return max(self.by_view, key=lambda at: at.devices, default=None)
