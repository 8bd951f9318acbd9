"""The worker's metrics in Prometheus's text form, and the small HTTP server that shows them, with
/healthz.

On a port of its own, plain HTTP: it says how much is done, nothing of what. Written by ourselves,
because a Pi should not need one more package for it. Source of the form: Prometheus text exposition
format 0.0.4.
"""

import bisect
import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from edvit_tf.device.model.memory import resident

BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
Sample = tuple[dict[str, str], float]


class Metrics:
    """Counts and times of requests; `count` and `observe` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, str, str], int] = {}  # (method, model, code)
        self._times: dict[
            tuple[str, str], list[float]
        ] = {}  # (phase, model): one a bucket, one more for +Inf, the sum
        self._started = time.time()

    def count(self, method: str, model: str, code: str) -> None:
        """One request is answered."""
        with self._lock:
            key = (method, model, code)
            self._requests[key] = self._requests.get(key, 0) + 1

    def observe(self, phase: str, model: str, seconds: float) -> None:
        """One inference took so long in a phase: queue, compute, wire, request (all of it).

        The phase "device" is a round trip to a device, whose name stands in the place of `model`.
        """
        with self._lock:
            row = self._times.setdefault((phase, model), [0.0] * (len(BUCKETS_SECONDS) + 2))
            row[bisect.bisect_left(BUCKETS_SECONDS, seconds)] += 1
            row[-1] += seconds

    def text(self, gauges: Iterable[tuple[str, str, list[Sample]]]) -> str:
        """The exposition; `gauges` are (name, help, samples) of the moment."""
        with self._lock:
            requests, times = (
                dict(self._requests),
                {key: list(row) for key, row in self._times.items()},
            )
        lines = _family(
            "edvit_requests_total",
            "counter",
            "Requests by method, model and gRPC code.",
            [
                ({"method": method, "model": model, "code": code}, n)
                for (method, model, code), n in requests.items()
            ],
        )
        for phase in ("request", "queue", "compute", "wire", "device"):
            name = f"edvit_{phase}_seconds"
            lines += [f"# HELP {name} Seconds of inferences, {phase}.", f"# TYPE {name} histogram"]
            for (of, model), row in times.items():
                if of == phase:
                    lines += _histogram(
                        name, {"device" if phase == "device" else "model": model}, row
                    )
        process = [
            (
                "process_start_time_seconds",
                "Start of the process, Unix time.",
                [({}, self._started)],
            ),
            ("process_resident_memory_bytes", "Resident memory.", [({}, resident() or 0)]),
            (
                "process_open_fds",
                "Open file descriptors.",
                [({}, len(os.listdir("/proc/self/fd")))],
            ),
        ]
        for name, text, samples in [*gauges, *process]:
            lines += _family(name, "counter" if name.endswith("_total") else "gauge", text, samples)
        return "\n".join(lines) + "\n"


def _family(name: str, kind: str, text: str, samples: list[Sample]) -> list[str]:
    return [
        f"# HELP {name} {text}",
        f"# TYPE {name} {kind}",
        *(_line(name, *sample) for sample in samples),
    ]


def _histogram(name: str, labels: dict[str, str], row: list[float]) -> list[str]:
    lines, total = [], 0.0
    for bound, n in zip([*map(str, BUCKETS_SECONDS), "+Inf"], row[:-1], strict=True):
        total += n
        lines.append(_line(f"{name}_bucket", {**labels, "le": bound}, total))
    return [*lines, _line(f"{name}_sum", labels, row[-1]), _line(f"{name}_count", labels, total)]


def _line(name: str, labels: dict[str, str], value: float) -> str:
    def escaped(text: str) -> str:
        return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")

    inner = ",".join(f'{key}="{escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{inner}}} {value:.17g}" if inner else f"{name} {value:.17g}"


def serve_metrics(
    host: str,
    port: int,
    text: Callable[[], str],
    healthy: Callable[[], bool],
    details: Callable[[], dict] = dict,
) -> ThreadingHTTPServer:
    """Answers /metrics with `text()` and /healthz with 200 or 503, in threads of its own.

    /healthz has a line SERVING or NOT_SERVING for probes, then `details()` as JSON. Raises OSError
    if it cannot bind. `shutdown()` ends it; `server_address` has the port that the kernel chose for
    0.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = 5  # seconds for a slow peer

        def do_GET(self) -> None:  # noqa: N802 (http.server's name)
            if self.path == "/metrics":
                self._answer(200, "text/plain; version=0.0.4; charset=utf-8", text())
            elif self.path == "/healthz":
                up = healthy()
                self._answer(
                    200 if up else 503,
                    "text/plain; charset=utf-8",
                    f"{'SERVING' if up else 'NOT_SERVING'}\n{json.dumps(details(), indent=1)}\n",
                )
            else:
                self._answer(404, "text/plain; charset=utf-8", "there are /metrics and /healthz\n")

        def _answer(self, code: int, kind: str, body: str) -> None:
            data = body.encode()
            with contextlib.suppress(OSError):  # the peer has gone
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *_) -> None:  # the log is for events, not for scrapes
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def get_request(self):
            try:
                return super().get_request()
            except OSError:  # no descriptors left: the caller would try again at once, for ever
                time.sleep(0.5)
                raise

        def handle_error(self, *_) -> None:  # a broken peer is no event either
            pass

    server = Server((host, port), Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
