"""What `edvit watch` prints: a line an answer, or an event of JSON."""

import errno
import json
import sys
import threading
from datetime import UTC, datetime
from typing import Any

from edvit_tf.cli.given_files import printable


class Printed:
    """Prints answers on standard output, and words for people on standard error; with `as_json` all
    of it is events, a line each, on standard output.

    A disk that is full, where standard output goes to one, is said once, and the stream goes on.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._lock = threading.Lock()
        self.lost = 0  # lines that no disk had room for

    def say(self, words: str) -> None:
        with self._lock:
            if self._as_json:
                self._print(_event("notice", words=words))
            else:
                print(printable(words), file=sys.stderr, flush=True)

    def watching(self, unit: str) -> None:
        with self._lock:
            if self._as_json:
                self._print(_event("watching", unit=unit))
            else:
                print(f"watching for {unit}; Ctrl-C ends it.", file=sys.stderr, flush=True)

    def answer(self, item, answer: dict[str, Any]) -> None:
        with self._lock:
            self._print(_answer_event(item, answer) if self._as_json else _line(item, answer))

    def seen(self, event: dict[str, Any]) -> None:
        with self._lock:
            if self._as_json:
                self._print(json.dumps(event))
            else:
                source, label = printable(event["source"]), printable(event["label"])
                self._print(f"{source}: SEEN {label} {event['probability']:.3f}")

    def summary(self, summary: dict[str, Any]) -> None:
        if self.lost:
            summary = {**summary, "lines_lost": self.lost}
        with self._lock:
            if self._as_json:
                self._print(_event("summary", **summary))
            else:
                print(_summary_line(summary), file=sys.stderr, flush=True)

    def _print(self, line: str) -> None:
        try:
            print(line, flush=True)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            if not self.lost:
                print(
                    f"standard output: {error}; going on without it.", file=sys.stderr, flush=True
                )
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
