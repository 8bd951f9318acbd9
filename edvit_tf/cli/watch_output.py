"""What `edvit watch` prints: a line an answer, or an event of JSON."""

import json
import sys
from datetime import UTC, datetime
from typing import Any

from edvit_tf.cli.whole_lines import WholeLines
from edvit_tf.device.terminal import printable

_LAST_SECONDS = 1.0  # for a summary that nobody reads


class Printed:
    """Prints answers on standard output, and words for people on standard error; with `as_json` all
    of it is events, a line each, on standard output.

    A disk that is full, where standard output goes to one, is said once, and the stream goes on.
    Words that find no room are lost.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._out, self._err = WholeLines(sys.stdout), WholeLines(sys.stderr)
        self.lost = 0  # lines that no disk had room for

    def say(self, words: str) -> None:
        if self._as_json:
            self._print(_event("notice", words=words))
        else:
            self._err.write(printable(words))

    def watching(self, unit: str) -> None:
        if self._as_json:
            self._print(_event("watching", unit=unit))
        else:
            self._err.write(f"watching for {unit}; Ctrl-C ends it.")

    def answer(self, item, answer: dict[str, Any]) -> None:
        self._print(_answer_event(item, answer) if self._as_json else _line(item, answer))

    def seen(self, event: dict[str, Any]) -> None:
        if self._as_json:
            self._print(json.dumps(event))
        else:
            source, label = printable(event["source"]), printable(event["label"])
            self._print(f"{source}: SEEN {label} {event['probability']:.3f}")

    def summary(self, summary: dict[str, Any]) -> None:
        """Ends also where nobody reads."""
        if self.lost:
            summary = {**summary, "lines_lost": self.lost}
        if not self._as_json:
            self._err.write(_summary_line(summary), _LAST_SECONDS)
            return
        error = self._out.write(_event("summary", **summary), _LAST_SECONDS)
        if error is not None:
            self._err.write(f"standard output: {error}; ended without its summary.", _LAST_SECONDS)

    def _print(self, line: str) -> None:
        error = self._out.write(line)
        if error is not None:
            if not self.lost:
                self._err.write(f"standard output: {error}; going on without it.")
            self.lost += 1


def _event(event: str, **fields: Any) -> str:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"event": event, "at": now, **fields})


def _answer_event(item, answer: dict[str, Any]) -> str:
    plain = {name: value for name, value in answer.items() if name != "labels"}
    plain["probabilities"] = [float(p) for p in answer["probabilities"]]
    return _event("answer", source=item.name, **item.fields, **plain)


def _line(item, answer: dict[str, Any]) -> str:
    said = answer["parameters"]
    degraded = f"  DEGRADED, without {printable(said['missing'])}" if said["degraded"] else ""
    label = printable(answer["label"])
    milliseconds = f"  [{said['total_ms']:.1f} ms]" if "total_ms" in said else ""
    return f"{printable(item.name)}: {label} {answer['probability']:.3f}{degraded}{milliseconds}"


def _summary_line(summary: dict[str, Any]) -> str:
    parts = [f"{summary[name]} {name}" for name in ("asked", "answered", "degraded", "dropped")]
    parts.append(f"{summary['failed']} failed")
    per_second = f"{summary['answers_per_second']:.2f} answers/s"
    lost = f"; {summary['lines_lost']} lines found no room" if "lines_lost" in summary else ""
    for action in summary.get("actions", ()):
        lost += f"; {action['action']}: {action['sent']} sent, {action['lost']} not"
    return (
        f"{summary['unit']} in {summary['seconds']:.1f} s: {', '.join(parts)}; {per_second}{lost}."
    )
