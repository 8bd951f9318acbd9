"""What is to be told of: labels above a probability, each at most once in a while."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from edvit_tf.errors import ConfigError
from edvit_tf.watch.item import Item


@dataclass(frozen=True)
class Rule:
    """A label whose probability is to be above a number."""

    label: str
    above: float

    @property
    def text(self) -> str:
        # every digit: 0.9999999 is not 1
        return f"{self.label}>{repr(self.above).removesuffix('.0')}"


def rule(text: str) -> Rule:
    """ "guinea pig>0.8" -> its rule. Raises ConfigError."""
    label, sign, number = text.rpartition(">")
    try:
        above = float(number)
    except ValueError:
        above = -1.0
    if not (sign and label.strip() and 0 <= above < 1):
        raise ConfigError(
            f"--on is {text!r}; it must be LABEL>NUMBER, the number from 0 to below 1, e.g. "
            "'cat>0.8' (in quotation marks: > means something to a shell)."
        )
    return Rule(label.strip(), above)


class Rules:
    """Which answers are told of. After one of a rule there is none for `cooldown` seconds."""

    def __init__(self, rules: Sequence[Rule], cooldown: float) -> None:
        self._rules, self._cooldown = rules, cooldown
        self._quiet_until: dict[Rule, float] = {}  # time.monotonic()

    def seen(self, item: Item, answer: dict[str, Any]) -> list[dict[str, Any]]:
        """An event for each rule that an answer fulfils."""
        events = []
        now = time.monotonic()
        shares = dict(zip(answer["labels"], answer["probabilities"], strict=True))
        for each in self._rules:
            probability = float(shares.get(each.label, 0.0))
            if probability <= each.above or now < self._quiet_until.get(each, now):
                continue
            self._quiet_until[each] = now + self._cooldown
            said = answer["parameters"]
            events.append(
                {
                    "event": "seen",
                    "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                    "rule": each.text,
                    "label": each.label,
                    "probability": round(probability, 6),
                    "source": item.name,
                    **item.fields,
                    "degraded": bool(said["degraded"]),
                    "missing": said["missing"],
                }
            )
        return events
