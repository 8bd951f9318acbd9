"""Does this device run this bundle right? Versions, memory, sha256, load, and the golden input's known outputs."""

import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edvit_tf.device.bundle import open_bundle, verified_path
from edvit_tf.device.memory import available_memory
from edvit_tf.device.process import ModelFailed, run_model
from edvit_tf.device.runtime import runtime_name

GOLDEN_TOLERANCE = 1e-3  # relative to the largest value; float32 machines agree to about 1e-6


def check(path: str | Path, sub_models: Sequence[int] | None = None, runs: int = 20) -> dict:
    """Runs the sub-models of a bundle (default: all, and the fusion) on its golden input, each in a process of its own.

    Per model: load_ms, first_ms, median_ms and max_ms of `runs` further runs on one thread, golden_error (relative);
    "ok" is the verdict, "failure" says how a process ended that did not answer (it may have crashed). Plain JSON.
    Raises BundleError on a changed or missing file, RuntimeMissing without a runtime.
    """
    bundle = open_bundle(path)
    runtime = runtime_name()
    with np.load(verified_path(bundle, "golden.npz"), allow_pickle=False) as file:
        golden = {name: file[name] for name in file.files}
    rows = []
    for index in range(len(bundle.sub_models)) if sub_models is None else sub_models:
        entry = bundle.entry(index)
        expected = {name: golden[f"{entry['name']}.{name}"] for name in ("features", "logits")}
        inputs = {bundle.manifest["input"]["name"]: golden["input"]}
        rows.append(_check_model(entry["name"], verified_path(bundle, entry["file"]), inputs, expected, runs))
    if sub_models is None:
        features = np.concatenate([golden[f"{entry['name']}.features"] for entry in bundle.sub_models], axis=1)
        inputs = {"features": features, "present": np.ones((1, len(bundle.sub_models)), np.float32)}
        expected = {"probabilities": golden["fusion.probabilities"]}
        rows.append(_check_model("fusion", verified_path(bundle, bundle.manifest["fusion"]["file"]), inputs, expected,
                                 runs))
    return {
        "bundle": bundle.path.name, "digest": bundle.digest, "python": platform.python_version(),
        "machine": platform.machine(), "libc": " ".join(platform.libc_ver()), "numpy": np.__version__,
        "runtime": runtime, "threads": 1, "memory_available_bytes": available_memory(),
        "golden_tolerance": GOLDEN_TOLERANCE, "models": rows, "ok": all(row["ok"] for row in rows),
    }


def _check_model(name: str, file: Path, inputs: dict, expected: dict, runs: int) -> dict:
    """One verified file on its golden input: times, and the largest relative error of its outputs (NaN is infinite)."""
    try:
        out, report = run_model(file, inputs, repeat=runs + 1)
    except ModelFailed as failure:
        return {"name": name, "ok": False, "failure": str(failure)}
    errors = np.array([np.abs(out[key] - value).max() / np.abs(value).max() for key, value in expected.items()])
    error = float(errors.max()) if np.isfinite(errors).all() else float("inf")
    times = report["times_ms"][1:]
    return {
        "name": name, "load_ms": report["load_ms"], "first_ms": report["first_ms"],
        "median_ms": float(np.median(times)), "max_ms": max(times), "peak_rss_bytes": report["peak_rss_bytes"],
        "golden_error": error, "ok": error <= GOLDEN_TOLERANCE, "failure": None,
    }


def table(result: dict) -> str:
    """The result of `check` for a terminal."""
    free = result["memory_available_bytes"]
    lines = [
        f"bundle {result['bundle']} ({result['digest'][:12]})",
        f"python {result['python']}, {result['machine']}, {result['libc']}, numpy {result['numpy']}, "
        f"{result['runtime']}",
        f"memory available {free / 2**20:.0f} MiB" if free else "memory available: unknown",
        f"{'model':<14}{'load ms':>9}{'first ms':>10}{'median ms':>11}{'max ms':>9}{'RSS MiB':>9}"
        f"{'golden error':>14}  verdict",
    ]
    for row in result["models"]:
        if row["failure"]:
            lines.append(f"{row['name']:<14}FAILED: {row['failure']}")
            continue
        peak = row["peak_rss_bytes"]
        lines.append(
            f"{row['name']:<14}{row['load_ms']:>9.1f}{row['first_ms']:>10.2f}{row['median_ms']:>11.2f}{row['max_ms']:>9.2f}"
            f"{f'{peak / 2**20:.0f}' if peak else '-':>9}{row['golden_error']:>14.1e}  {'ok' if row['ok'] else 'WRONG'}"
        )
    lines.append("one thread, each model in a process of its own; "
                 + ("all models answer as exported" if result["ok"] else
                    f"a process failed, or a golden error is above {result['golden_tolerance']:g}: do not use this "
                    "device; copy the bundle again"))
    return "\n".join(lines)
