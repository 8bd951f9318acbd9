"""What a stage does, in words, its place among the others, and what it came to: for whoever watches
a run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WORDS = {
    "data": "inputs, prepared once",
    "floor": "the floor, a linear classifier",
    "base": "the base",
    "teacher": "the base's answers",
    "plan": "plan of the sub-models",
    "budget": "training budget, divided",
    "outside": "weights from outside",
    "views": "views, chosen on validation data",
    "fleet": "kind of fleet",
    "starts": "cuts from which the fleet's members start",
    "together": "fleet, trained together",
    "equal": "one model, trained as much as the fleet",
    "features": "features of the sub-models",
    "fusion": "fusion of the sub-models",
    "joint": "fusion and sub-models, trained together",
    "calibration": "temperature of the answers",
    "bundle": "files of the bundle",
    "measure": "figures of the .tflite files, on test data",
}

# steps of a member's stages, `NAME.STEP`
STEPS = {
    "head": "head of its classes",
    "residual": "residual channels cut, fitted",
    "attention": "attention cut, fitted",
    "ffn": "feed-forward layers cut, fitted",
    "group": "fitted to its classes",
}
MEMBERS = {
    "single": "one model of a device's size",
    "plain": "one model of a device's size, not distilled",
    "total": "one model of all files' size",
}


def title(name: str) -> str:
    """What a stage does; of a name that is not known the name itself."""
    if name in WORDS:
        return WORDS[name]
    member, _, step = name.partition(".")
    who = MEMBERS.get(member, f"shared model {member}" if member.startswith("shared") else member)
    return f"{who}: {STEPS.get(step, step)}" if step else who


def figures(result: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy on validation data that a stage's result holds: {"validation": 0 to 1}."""
    validation = result.get("validation")
    if isinstance(validation, Mapping) and "recording" in validation:
        return {"validation": validation["recording"]}
    if isinstance(validation, Sequence) and "useful" in result:
        # a row for each number of views, of which so many were taken
        return {"validation": validation[result["useful"] - 1]["accuracy"]}

    accuracy = result.get("accuracy")
    if isinstance(accuracy, Mapping) and "fit" in accuracy:
        return {"validation": accuracy["fit"]["all"]}
    return {}


def ended(name: str, number: int, total: int | None, how: str, result: Mapping[str, Any]) -> str:
    """The line of a stage that has ended: `[name] ...`."""
    seconds = f"{result['seconds']:.1f} s"
    done = seconds if how == "made" else f"done earlier, {seconds}"
    place = f"{number} of {total}" if total else f"{number}"
    found = "".join(f", {key} {100 * value:.1f} %" for key, value in figures(result).items())
    return f"[{name}] {done}{found} ({place}: {title(name)})"


@dataclass
class Course:
    """The stages of a run as they come: each has a number, and once a plan is made their total is
    known.
    """

    expected: int | None = None
    seen: dict[str, int] = field(default_factory=dict)

    def number(self, name: str) -> int:
        """The place of a stage, from 1."""
        return self.seen.setdefault(name, len(self.seen) + 1)

    @property
    def total(self) -> int | None:
        """How many there will be, at the least; None before that is known."""
        return None if self.expected is None else max(self.expected, len(self.seen))
