"""Metrics of a server in Prometheus's text form.

Written by ourselves, because a Pi should not need one more package for it. Source of the form:
Prometheus text exposition format 0.0.4.
"""

import bisect
import os
import threading
import time
from collections.abc import Iterable
from typing import NamedTuple

from edvit_tf.device.model.memory import resident

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"  # the content type
BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
PHASES = ("request", "queue", "compute", "wire", "device")
Sample = tuple[dict[str, str], float]  # labels, value


class Gauge(NamedTuple):
    """A metric that is read when it is asked for; one whose name ends in _total is a counter."""

    name: str
    help: str
    samples: list[Sample]


class Total(NamedTuple):
    """So many requests, and the seconds of all of them together."""

    requests: int = 0
    seconds: float = 0.0


class Totals(NamedTuple):
    """What a model has done since the start of the process."""

    last_answer: float  # Unix time, 0: none yet
    answered: Total
    failed: Total  # refused ones too
    queue: Total
    compute: Total


class Metrics:
    """Counts and times of requests; `count` and `observe` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, str, str], int] = {}  # (method, model, code)
        # (phase, model): a count for each bucket, one more for +Inf, then the sum of the seconds
        self._times: dict[tuple[str, str], list[float]] = {}
        self._failed: dict[str, Total] = {}  # by model
        self._last_answer: dict[str, float] = {}  # Unix time, by model
        self._started = time.time()

    def count(self, method: str, model: str, code: str, seconds: float) -> None:
        """One request was answered or refused after so long; `model` is "" for none of ours."""
        with self._lock:
            key = (method, model, code)
            self._requests[key] = self._requests.get(key, 0) + 1
            if not model:
                return

            if code == "OK":
                self._last_answer[model] = time.time()
            else:
                failed = self._failed.get(model, Total())
                self._failed[model] = Total(failed.requests + 1, failed.seconds + seconds)

    def observe(self, phase: str, model: str, seconds: float) -> None:
        """One inference took so long in a phase: queue, compute, wire, request (all of it).

        The phase "device" is a round trip to a device, whose name stands in the place of `model`.
        """
        with self._lock:
            row = self._times.setdefault((phase, model), [0.0] * (len(BUCKETS_SECONDS) + 2))
            row[bisect.bisect_left(BUCKETS_SECONDS, seconds)] += 1
            row[-1] += seconds

    def forget(self, phase: str, models: Iterable[str]) -> None:
        """What was observed of these, which are there no more."""
        with self._lock:
            for model in models:
                self._times.pop((phase, model), None)

    def unanswered(self, method: str) -> int:
        """Requests of a method that were refused or failed, since the start; those that were given
        up by their client do not count.
        """
        with self._lock:
            return sum(
                n
                for (asked, _, code), n in self._requests.items()
                if asked == method and code not in ("OK", "CANCELLED")
            )

    def totals(self, model: str) -> Totals:
        """What a model has done since the start."""
        with self._lock:
            return Totals(
                self._last_answer.get(model, 0.0),
                answered=self._total("request", model),
                failed=self._failed.get(model, Total()),
                queue=self._total("queue", model),
                compute=self._total("compute", model),
            )

    def _total(self, phase: str, model: str) -> Total:
        row = self._times.get((phase, model))
        return Total() if row is None else Total(int(sum(row[:-1])), row[-1])

    def text(self, gauges: Iterable[Gauge]) -> str:
        """The exposition, with the gauges of the moment."""
        # copied under the lock, written without it
        with self._lock:
            requests = dict(self._requests)
            times = {key: list(row) for key, row in self._times.items()}

        counts: list[Sample] = []
        for (method, model, code), n in requests.items():
            counts.append(({"method": method, "model": model, "code": code}, n))

        lines = _family(
            Gauge("edvit_requests_total", "Requests by method, model and gRPC code.", counts)
        )

        # a family stands together, with its help before it
        for phase in PHASES:
            name = f"edvit_{phase}_seconds"
            label = "device" if phase == "device" else "model"
            lines.append(f"# HELP {name} Seconds of inferences, {phase}.")
            lines.append(f"# TYPE {name} histogram")
            for (of, model), row in times.items():
                if of == phase:
                    lines += _histogram(name, {label: model}, row)

        for gauge in [*gauges, *self._process()]:
            lines += _family(gauge)

        return "\n".join(lines) + "\n"

    def _process(self) -> list[Gauge]:
        descriptors = len(os.listdir("/proc/self/fd"))
        return [
            Gauge(
                "process_start_time_seconds",
                "Start of the process, Unix time.",
                [({}, self._started)],
            ),
            Gauge("process_resident_memory_bytes", "Resident memory.", [({}, resident() or 0)]),
            Gauge("process_open_fds", "Open file descriptors.", [({}, descriptors)]),
        ]


def _family(gauge: Gauge) -> list[str]:
    kind = "counter" if gauge.name.endswith("_total") else "gauge"
    lines = [f"# HELP {gauge.name} {gauge.help}", f"# TYPE {gauge.name} {kind}"]
    for labels, value in gauge.samples:
        lines.append(_line(gauge.name, labels, value))
    return lines


def _histogram(name: str, labels: dict[str, str], row: list[float]) -> list[str]:
    lines = []
    total = 0.0
    bounds = [*map(str, BUCKETS_SECONDS), "+Inf"]
    # a bucket counts what lies in those before it too
    for bound, n in zip(bounds, row[:-1], strict=True):
        total += n
        lines.append(_line(f"{name}_bucket", {**labels, "le": bound}, total))

    lines.append(_line(f"{name}_sum", labels, row[-1]))
    lines.append(_line(f"{name}_count", labels, total))

    return lines


def _line(name: str, labels: dict[str, str], value: float) -> str:
    inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{inner}}} {value:.17g}" if inner else f"{name} {value:.17g}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
