"""How the files of a bundle run here: operators, what each runtime delegates, memory against the
estimate.
"""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from edvit_tf.device.errors import ModelFailed
from edvit_tf.device.model.bundle import Bundle, verified_path
from edvit_tf.device.model.golden import expected_answers
from edvit_tf.device.model.memory import needed_memory
from edvit_tf.device.model.runtime import installed_runtimes
from edvit_tf.device.model.subprocess_run import run_model

WIDTH = 116  # of the lines that list operators
RUNS = 3  # of each file: the peak of memory is reached in the first


def running(bundle: Bundle) -> list[dict]:
    """Every file of a bundle in every installed runtime that it lists, on the golden input, each in
    its own process.

    A row: name, flavour, file, runtime (with version), operators {name: count}, partitions,
    undelegated {name: count} (the three are None where the runtime does not tell), rss_bytes (the
    peak, above the process before the model was loaded), estimated_bytes (what
    `memory.check_memory` reserves), reasons: what is wrong. Linux tells the memory.
    """
    rows = []
    for index, name, flavour, file, runtimes in _listed(bundle):
        inputs, _ = expected_answers(bundle, index)
        # int8 files, for one, are listed for ai-edge-litert alone.
        for runtime in installed_runtimes():
            if runtime in runtimes:
                rows.append(_row(bundle, name, flavour, file, inputs, runtime))
    return rows


def _listed(bundle: Bundle) -> Iterator[tuple[int | None, str, str, str, Sequence[str]]]:
    """(index or None, name, flavour, file, runtimes) of every .tflite file of a bundle."""
    for index, entry in enumerate(bundle.sub_models):
        for flavour, listed in entry.flavours.items():
            yield index, entry.name, flavour, listed.file, listed.runtimes
    yield None, "fusion", "float32", bundle.fusion.file, installed_runtimes()


def running_text(rows: list[dict]) -> str:
    """The rows as plain ASCII, and the operators of each kind of file once:

    file                runtime                operators  pieces  not delegated   RSS  estimate
    submodel-00.tflite  tflite-runtime 2.14.0        118       7  BATCH_MATMUL 6  5.1      24.2
    """
    line = "{:<26}{:<22}{:>10}{:>7}  {:<30}{:>8}{:>14}"
    head = ("file", "runtime", "operators", "pieces", "not delegated", "RSS MiB", "estimate MiB")
    lines = [line.format(*head).rstrip()]

    kinds: dict[str, list[str]] = {}  # files by their operators
    for row in rows:
        operators = _counted(row["operators"])
        files = kinds.setdefault(operators, [])
        if row["file"] not in files:
            files.append(row["file"])

        # A dash where the runtime does not tell.
        total = "-" if row["operators"] is None else f"{sum(row['operators'].values())}"
        pieces = "-" if row["partitions"] is None else f"{row['partitions']}"
        left = _counted(row["undelegated"])
        rss = "-" if row["rss_bytes"] is None else f"{row['rss_bytes'] / 2**20:.1f}"
        estimate = f"{row['estimated_bytes'] / 2**20:.1f}"

        lines.append(line.format(row["file"], row["runtime"], total, pieces, left, rss, estimate))

    for operators, files in kinds.items():
        said = f"operators of {', '.join(files)}: {operators}"
        lines += textwrap.wrap(said, WIDTH, subsequent_indent="    ")
    lines.append(
        "pieces: delegated to XNNPACK as one; RSS: the peak in a process of its own, less what it "
        "held before;\nestimate: what a device wants free before it loads the file"
    )
    return "\n".join(lines)


def _row(bundle: Bundle, name: str, flavour: str, file: str, inputs: dict, runtime: str) -> dict:
    path = verified_path(bundle, file)
    row: dict[str, Any] = {
        "name": name,
        "flavour": flavour,
        "file": file,
        "runtime": runtime,
        "operators": None,
        "partitions": None,
        "undelegated": None,
        "rss_bytes": None,
        "estimated_bytes": needed_memory(path.stat().st_size),
        "reasons": [],
    }

    try:
        _, report = run_model(path, inputs, repeat=RUNS, runtime=runtime)
    except ModelFailed as failure:
        return {**row, "reasons": [f"{file} in {runtime}: {failure}"]}

    # The runtime's name comes back with its version.
    row |= {"runtime": report["runtime"], **(report["delegation"] or {})}

    if report["peak_rss_bytes"] is not None:
        row["rss_bytes"] = report["peak_rss_bytes"] - report["start_rss_bytes"]
        if row["rss_bytes"] > row["estimated_bytes"]:
            row["reasons"].append(
                f"{file} took {row['rss_bytes']:,} bytes of memory in {runtime}; a device reserves "
                f"{row['estimated_bytes']:,}"
            )

    return row


def _counted(operators: dict[str, int] | None) -> str:
    """ "FULLY_CONNECTED 98, RESHAPE 49", most first; "none", or "unknown"."""
    if operators is None:
        return "unknown"
    ordered = sorted(operators.items(), key=lambda named: (-named[1], named[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered) or "none"
