"""Listeners that show events: nothing but warnings, one JSON object a line, or what fits a log."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from edvit_tf.device.strict_json import finite_json
from edvit_tf.progress.events import Event


class Quiet:
    """Warnings alone, on standard error."""

    def hear(self, event: Event) -> None:
        if event.kind == "warning":
            print(event.text, file=sys.stderr, flush=True)


class JsonLines:
    """Every event as a JSON object on a line of standard output: "event" (its kind), "at" (seconds
    since 1970), "text", and its facts. Figures that are no numbers are null.
    """

    def hear(self, event: Event) -> None:
        told = {"event": event.kind, "at": round(event.at, 3), "text": event.text, **event.facts}
        print(json.dumps(finite_json(told), default=str), flush=True)


class LogFile:
    """Everything that has words, with the time of day, at the end of a file.

    A log that cannot be written ends no run: the first failure is said on standard error, and
    nothing is logged from then on.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lost = False

    def hear(self, event: Event) -> None:
        if not event.text or self._lost:
            return
        day = datetime.fromtimestamp(event.at, UTC).astimezone()
        try:
            with open(self.path, "a", encoding="utf-8", errors="backslashreplace") as file:
                for line in event.text.strip("\n").splitlines():
                    file.write(f"{day:%Y-%m-%d %H:%M:%S} {line}\n")
        except OSError as error:
            self._lost = True
            print(f"WARNING: no log is kept: {error}", file=sys.stderr, flush=True)
