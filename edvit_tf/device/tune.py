"""Which file and how many threads are fastest on this device? Measured once for each sub-model, then remembered.

More threads are not always faster: tflite-runtime 2.14 gets slower with two on a small sub-model and faster on a whole
ViT-Base. The record lies in $EDVIT_CACHE or ~/.cache/edvit_tf, one small JSON file for each set of files of a
sub-model, machine and runtime; anything that changes is measured anew.
"""

import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from edvit_tf.device.bundle import Bundle, BundleError, canonical_json, verified_path
from edvit_tf.device.process import ModelFailed, run_model
from edvit_tf.device.runtime import runtime_name

GAIN = 0.95  # a choice with more threads must take at most this share of the time of one with fewer
RUNS, WARM_UP, TURNS = 30, 5, 2  # of each choice, in two turns, so that a slow moment hits no choice alone


@dataclass(frozen=True)
class Choice:
    """A file of a sub-model and a thread count, with its median milliseconds (None: not measured)."""

    flavour: str
    file: str
    threads: int
    median_ms: float | None = None


def candidates(bundle: Bundle, index: int, runtime: str, flavour: str | None = None) -> list[Choice]:
    """Files of a sub-model that list `runtime` ("tflite-runtime 2.14.0"), by thread counts 1, 2, 4 ... to all cores.

    Raises BundleError if there is none, or none of the flavour asked for.
    """
    package, entry = runtime.split()[0], bundle.entry(index)
    fitting = {name: f["file"] for name, f in entry["flavours"].items()
               if package in f["runtimes"] and flavour in (None, name)}
    if not fitting:
        asked = "no flavour" if flavour is None else f"no flavour {flavour}"
        listed = ", ".join(f"{name} ({', '.join(f['runtimes'])})" for name, f in entry["flavours"].items())
        raise BundleError(f"{entry['name']} has {asked} for {package}; it has: {listed}. Install another runtime, or "
                          "export that flavour.")
    return [Choice(name, file, threads) for name, file in fitting.items() for threads in _threads()]


def choice(bundle: Bundle, index: int, flavour: str | None = None) -> Choice:
    """What was measured fastest on this device, or the first file on one thread where nothing was measured yet."""
    runtime = runtime_name()
    possible = candidates(bundle, index, runtime, flavour)
    stored = _record(bundle, index, runtime, possible)
    if stored.is_file():
        try:
            chosen = Choice(**json.loads(stored.read_text(encoding="utf-8"))["chosen"])
        except (ValueError, KeyError, TypeError):
            return possible[0]  # of another version, or spoilt: as if not measured
        if replace(chosen, median_ms=None) in possible:
            return chosen
    return possible[0]


def tune(bundle: Bundle, index: int, flavour: str | None = None) -> dict:
    """Measures every candidate on the golden input, each in a process of its own, and stores the fastest.

    Returns {"name", "runtime", "chosen": Choice as a dictionary, "measured": [the same, with "failure"]}. A file whose
    process fails is out. Raises ModelFailed if all fail, BundleError as `candidates`.
    """
    runtime, entry = runtime_name(), bundle.entry(index)
    possible = candidates(bundle, index, runtime, flavour)
    with np.load(verified_path(bundle, "golden.npz"), allow_pickle=False) as file:
        inputs = {bundle.manifest["input"]["name"]: file["input"]}
    times: dict[Choice, list[float]] = {one: [] for one in possible}
    failures: dict[Choice, str] = {}
    for _ in range(TURNS):
        for one in possible:
            if one in failures:
                continue
            try:
                _, report = run_model(verified_path(bundle, one.file), inputs, threads=one.threads,
                                      repeat=WARM_UP + RUNS)
                times[one] += report["times_ms"][WARM_UP:]
            except ModelFailed as failure:
                failures[one] = str(failure)
    measured = [Choice(one.flavour, one.file, one.threads, round(float(np.median(values)), 4))
                for one, values in times.items() if one not in failures]
    if not measured:
        raise ModelFailed(f"no file of {entry['name']} runs on this device: {'; '.join(failures.values())}")
    chosen = fastest(measured)
    result = {
        "name": entry["name"], "runtime": runtime, "chosen": asdict(chosen),
        "measured": [asdict(one) for one in measured]
        + [{**asdict(one), "failure": failure} for one, failure in failures.items()],
    }
    stored = _record(bundle, index, runtime, possible)
    stored.parent.mkdir(parents=True, exist_ok=True)
    partial = stored.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(result), encoding="utf-8")
    partial.replace(stored)
    return result


def fastest(measured: list[Choice]) -> Choice:
    """The least median; of two that lie within 5 % of each other the one with fewer threads."""
    ordered = sorted(measured, key=lambda one: one.threads)
    best = ordered[0]
    for one in ordered[1:]:
        if one.median_ms < best.median_ms * (GAIN if one.threads > best.threads else 1):
            best = one
    return best


def _threads() -> list[int]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return sorted({1, cores, *(2**i for i in range(1, 8) if 2**i < cores)})


def _record(bundle: Bundle, index: int, runtime: str, possible: list[Choice]) -> Path:
    """Where the result is kept: its name digests the files, the thread counts, the machine and the runtime."""
    files = sorted({bundle.manifest["files"][one.file]["sha256"] for one in possible})
    key = canonical_json([files, sorted({one.threads for one in possible}), runtime, platform.machine(),
                          platform.node()])
    folder = Path(os.environ.get("EDVIT_CACHE") or Path.home() / ".cache" / "edvit_tf")
    return folder / f"tuned-{bundle.entry(index)['name']}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def table(results: list[dict]) -> str:
    """Results of `tune` for a terminal; the chosen line is marked."""
    lines = [f"{results[0]['runtime']}; median ms of {TURNS * RUNS} runs",
             f"{'model':<14}{'flavour':<10}{'threads':>8}{'median ms':>11}"]
    for result in results:
        for row in result["measured"]:
            figure = "FAILED: " + row["failure"] if "failure" in row else f"{row['median_ms']:>11.3f}"
            mark = "  chosen" if {k: row.get(k) for k in result["chosen"]} == result["chosen"] else ""
            lines.append(f"{result['name']:<14}{row['flavour']:<10}{row['threads']:>8}{figure}{mark}")
    return "\n".join(lines)
