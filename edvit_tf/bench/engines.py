"""ai-edge-litert's CompiledModel beside its Interpreter, and XNNPACK's weight cache: what a start
takes, what an inference takes, and whether they answer alike.

A start is a process of its own, and the ways of starting take turns. Inferences are compared inside
one process, where the two run one after the other, for a machine with other work on it is as slow
to the one as to the other. The weight cache is a file of the weights as XNNPACK packs them; it is
there, and in the memory of the system, when a start with it is timed.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edvit_tf.device.errors import ModelFailed
from edvit_tf.device.model.memory import peak_rss
from edvit_tf.device.model.runtime import imported_runtime, installed_runtimes, load
from edvit_tf.device.model.runtime_names import COMPILED

INTERPRETER = "ai-edge-litert"
CACHED = f"{COMPILED} + weight cache"
WARM_UP = 10  # inferences of each that are not counted
STARTED = ("import_ms", "load_ms", "first_ms", "start_ms", "peak_rss_mib")
_LIMIT_SECONDS = 600.0


def bench_engines(
    file: Path, inputs: dict[str, np.ndarray], threads: Sequence[int], turns: int, runs: int
) -> dict:
    """Figures of a .tflite file on one input (1, ...) by name; plain JSON.

    "starts": a row for each way, over `turns` processes of one thread: median, least and largest of
    import_ms (of the runtime), load_ms, first_ms (the first inference), start_ms (their sum),
    peak_rss_mib, and cache_bytes. "inferences": a row for each thread count, over `turns` processes
    of `runs` alternating inferences of each: median_ms and p95_ms by way, ratio of the medians
    (median, least and largest over the processes), "equal" (the very same bytes). Raises
    ModelFailed.
    """
    with tempfile.TemporaryDirectory(prefix="edvit-engines-") as name:
        folder = Path(name)
        np.savez(folder / "inputs.npz", **inputs)
        job = {"file": str(file), "inputs": str(folder / "inputs.npz")}
        cache = folder / "weights.bin"

        started = _starts(job, cache, turns)
        for row in started:
            row["cache_bytes"] = cache.stat().st_size if row["way"] == CACHED else None

        inferences = [_inferences(job, count, turns, runs) for count in threads]

    return {
        "file": file.name,
        "file_bytes": file.stat().st_size,
        "turns": turns,
        "runs": runs,
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else [],
        "starts": started,
        "inferences": inferences,
    }


def _starts(job: dict, cache: Path, turns: int) -> list[dict]:
    ways = [*installed_runtimes(), COMPILED, CACHED]
    # writes the cache, which the turns read
    _child({**job, "start": COMPILED, "cache": str(cache)})

    told: dict[str, list[dict]] = {way: [] for way in ways}
    for _ in range(turns):
        for way in ways:
            if way == CACHED:
                told[way].append(_child({**job, "start": COMPILED, "cache": str(cache)}))
            else:
                told[way].append(_child({**job, "start": way, "cache": ""}))

    return [
        {"way": way, **{key: _spread([one[key] for one in ones]) for key in STARTED}}
        for way, ones in told.items()
    ]


def _inferences(job: dict, threads: int, turns: int, runs: int) -> dict:
    told = [_child({**job, "threads": threads, "runs": runs}) for _ in range(turns)]
    row: dict = {"threads": threads, "equal": all(one["equal"] for one in told)}

    for way in (INTERPRETER, COMPILED):
        times = np.concatenate([one["times_ms"][way] for one in told])
        row[way] = {
            "median_ms": float(np.median(times)),
            "p95_ms": float(np.quantile(times, 0.95)),
            "least_ms": float(times.min()),
        }

    ratios = []
    for one in told:
        medians = {way: np.median(times) for way, times in one["times_ms"].items()}
        ratios.append(float(medians[COMPILED] / medians[INTERPRETER]))
    row["ratio"] = _spread(ratios)
    return row


def _spread(values: Sequence[float]) -> dict:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def engines_text(result: dict) -> str:
    """The result for a terminal."""
    loads = ", ".join(f"{load:.1f}" for load in result["load_average"]) or "unknown"
    lines = [
        f"{result['file']}, {result['file_bytes']:,} bytes; load average of the machine {loads}",
        f"{'start, 1 thread':<40}{'import ms':>10}{'load ms':>9}{'first ms':>10}"
        f"{'in all (least-largest)':>26}{'RSS MiB':>9}",
    ]
    for row in result["starts"]:
        whole = row["start_ms"]
        said = f"{whole['median']:.1f} ({whole['min']:.1f}-{whole['max']:.1f})"
        lines.append(
            f"{row['way']:<40}{row['import_ms']['median']:>10.1f}{row['load_ms']['median']:>9.1f}"
            f"{row['first_ms']['median']:>10.2f}{said:>26}{row['peak_rss_mib']['median']:>9.1f}"
        )
        if row["cache_bytes"] is not None:
            lines.append(f"  its cache has {row['cache_bytes']:,} bytes")

    lines.append(
        f"{'inference':<12}{'Interpreter ms':>15}{'p95':>9}{'Compiled ms':>13}{'p95':>9}"
        f"{'ratio (least-largest)':>24}  answers"
    )
    for row in result["inferences"]:
        one, other, ratio = row[INTERPRETER], row[COMPILED], row["ratio"]
        said = f"{ratio['median']:.3f} ({ratio['min']:.3f}-{ratio['max']:.3f})"
        threads = f"{row['threads']} thread{'s' * (row['threads'] > 1)}"
        lines.append(
            f"{threads:<12}{one['median_ms']:>15.3f}{one['p95_ms']:>9.3f}"
            f"{other['median_ms']:>13.3f}{other['p95_ms']:>9.3f}{said:>24}  "
            f"{'equal' if row['equal'] else 'DIFFER'}"
        )

    lines.append(
        f"{result['turns']} turns, each in a process of its own; {result['runs']} inferences of "
        f"each a turn, one after the other, after {WARM_UP} to warm up."
    )
    return "\n".join(lines)


def _child(job: dict) -> dict:
    """What `main` says of a job, in a process of its own."""
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "edvit_tf.bench.engines", json.dumps(job)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_LIMIT_SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    if done.returncode != 0:
        raise ModelFailed(f"{Path(job['file']).name} was not measured: {done.stderr[-500:]}")
    # the runtimes write lines of their own
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(argv: Sequence[str]) -> int:
    """Does one job, and prints its figures as the last line."""
    job = json.loads(argv[0])
    with np.load(job["inputs"], allow_pickle=False) as stored:
        inputs = {name: stored[name] for name in stored.files}

    print(json.dumps(_start(job, inputs) if "start" in job else _alternate(job, inputs)))
    return 0


def _start(job: dict, inputs: dict[str, np.ndarray]) -> dict:
    moments = [time.perf_counter()]
    runtime = imported_runtime(job["start"])
    moments.append(time.perf_counter())

    options = {"weight_cache": job["cache"]} if job["cache"] else {}
    interpreter = runtime.interpreter(model_path=job["file"], num_threads=1, **options)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    moments.append(time.perf_counter())

    runner(**inputs)
    moments.append(time.perf_counter())

    import_ms, load_ms, first_ms = (1e3 * np.diff(moments)).tolist()
    return {
        "import_ms": import_ms,
        "load_ms": load_ms,
        "first_ms": first_ms,
        "start_ms": import_ms + load_ms + first_ms,
        "peak_rss_mib": (peak_rss() or 0) / 2**20,
    }


def _alternate(job: dict, inputs: dict[str, np.ndarray]) -> dict:
    models = {}
    answers = {}
    for way in (INTERPRETER, COMPILED):
        models[way] = load(job["file"], job["threads"], way)
        answers[way] = {name: value.copy() for name, value in models[way].run(**inputs).items()}

    times: dict[str, list[float]] = {way: [] for way in models}
    order = list(models)
    for _ in range(WARM_UP + job["runs"]):
        for way in order:
            started = time.perf_counter()
            models[way].run(**inputs)
            times[way].append(1e3 * (time.perf_counter() - started))
        order.reverse()

    one, other = answers[INTERPRETER], answers[COMPILED]
    same = set(one) == set(other) and all(np.array_equal(one[name], other[name]) for name in one)
    return {"equal": same, "times_ms": {way: taken[WARM_UP:] for way, taken in times.items()}}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
