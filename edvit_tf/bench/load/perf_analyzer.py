"""Triton's perf_analyzer at the same rates, where it is installed: a second opinion, by a program
that nobody here wrote. Its latencies run from the moment at which a request was sent.
"""

import csv
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edvit_tf.aggregate.service import MODEL
from edvit_tf.device.rpc import tls

PROGRAM = "perf_analyzer"
_MARGIN_SECONDS = 120.0  # it measures three times and more, until its figures are steady
_WORDS = 300  # characters of its complaint


def perf_analyzer(
    server: str, own: tls.Identity | None, rates: Sequence[float], seconds: float, poisson: bool
) -> dict:
    """{"rates": [{"rate", "answered_per_second", "latency_ms": {"p50", ...}} or {"rate",
    "problem"}]}, or {"missing": why it was not asked}.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        return {"missing": "not on the PATH (pip install perf-analyzer), so not beside these"}

    rows = []
    for rate in rates:
        with tempfile.TemporaryDirectory(prefix="edvit-load-") as folder:
            file = Path(folder) / "rates.csv"
            command = [program, *_words(server, own, rate, seconds, poisson), "-f", str(file)]
            rows.append({"rate": rate, **_asked(command, file, seconds)})
    return {"rates": rows}


def _words(
    server: str, own: tls.Identity | None, rate: float, seconds: float, poisson: bool
) -> list[str]:
    words = ["-m", MODEL, "-u", server, "-i", "grpc", "-b", "1", "--async"]
    words += ["--request-rate-range", f"{rate:g}"]
    words += ["--request-distribution", "poisson" if poisson else "constant"]
    words += ["--measurement-interval", f"{1000 * seconds:.0f}"]
    if own is not None:
        words += ["--ssl-grpc-use-ssl", "--ssl-grpc-root-certifications-file", str(own.ca)]
        words += ["--ssl-grpc-private-key-file", str(own.key)]
        words += ["--ssl-grpc-certificate-chain-file", str(own.cert)]
    return words


def _asked(command: list[str], file: Path, seconds: float) -> dict:
    """What it says of one rate, or {"problem": why it says nothing}."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=20 * seconds + _MARGIN_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"problem": str(error)[:_WORDS]}

    try:
        return parsed(file.read_text("utf-8"))
    except (OSError, ValueError, KeyError) as error:
        words = " ".join((done.stderr or done.stdout).split())[-_WORDS:]
        return {"problem": f"exit code {done.returncode}, no table ({error}): {words}"}


def parsed(table: str) -> dict:
    """{"answered_per_second", "latency_ms"} of its CSV, a line for each rate, whose latencies are
    in microseconds. Raises ValueError, KeyError for what is none.
    """
    rows = list(csv.DictReader(table.splitlines()))
    if not rows:
        raise ValueError("no line for a rate")

    found = {}
    for name, value in rows[0].items():
        percentile = str(name).strip().removesuffix(" latency")
        if percentile.startswith("p") and percentile[1:].isdecimal():
            found[percentile] = float(value) / 1e3
    return {
        "answered_per_second": float(rows[0]["Inferences/Second"]),
        "latency_ms": found,
    }
