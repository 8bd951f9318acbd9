"""Which file and how many threads are fastest on this device? Measured once for each sub-model,
then remembered. Copies of one model, each with another view, have the same files, and what was
measured of one counts for all.

More threads are not always faster: tflite-runtime 2.14 gets slower with two on a small sub-model
and faster on a whole ViT-Base. The record is a small JSON file in $EDVIT_CACHE or
~/.cache/edvit_tf, named after the files of the sub-model, the processor and the runtime: where one
of them changes, the first file runs on one thread until it is tuned again.
"""

import contextlib
import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from edvit_tf.device.errors import BundleError, ModelFailed, TuneError
from edvit_tf.device.model.bundle import Bundle, canonical_json, verified_path
from edvit_tf.device.model.file_lock import hold
from edvit_tf.device.model.golden import expected_answers, limit
from edvit_tf.device.model.runtime import runtime_name
from edvit_tf.device.model.runtime_names import package_of
from edvit_tf.device.model.subprocess_run import run_model

# A choice with more threads must take at most this share of the time of one with fewer.
GAIN = 0.95
# Of each choice in a turn; in two turns, so that a slow moment hits no choice alone.
RUNS = 30
WARM_UP = 5
TURNS = 2


@dataclass(frozen=True)
class Choice:
    """A file of a sub-model and a thread count, with its median milliseconds (None: not
    measured).
    """

    flavour: str
    file: str
    threads: int
    median_ms: float | None = None


def candidates(
    bundle: Bundle, index: int, runtime: str, flavour: str | None = None
) -> list[Choice]:
    """Files of a sub-model that list `runtime` ("tflite-runtime 2.14.0"), by thread counts 1, 2, 3,
    4, 8 ... to all cores.

    Raises BundleError if there is none, or none of the flavour asked for, or if the manifest's
    `files` lacks one.
    """
    # a flavour lists packages, without versions
    package = package_of(runtime)
    entry = bundle.entry(index)
    fitting = {}  # flavour -> file
    for name, listed in entry.flavours.items():
        if package in listed.runtimes and flavour in (None, name):
            fitting[name] = listed.file

    if not fitting:
        asked = "no flavour" if flavour is None else f"no flavour {flavour}"
        has = [f"{name} ({', '.join(f.runtimes)})" for name, f in entry.flavours.items()]
        raise BundleError(
            f"{entry.name} has {asked} for {package}; it has: {', '.join(has)}. Install another "
            "runtime, or export that flavour."
        )

    for file in fitting.values():
        if file not in bundle.files:
            raise BundleError(
                f"{file} of {entry.name} is not a file that {bundle.path}/manifest.json lists with "
                "its sha256. Copy the bundle again, or export it again."
            )

    return [Choice(name, file, threads) for name, file in fitting.items() for threads in _threads()]


def choice(
    bundle: Bundle, index: int, flavour: str | None = None, runtime: str | None = None
) -> Choice:
    """What was measured fastest on this device, or the first file on one thread where nothing was
    measured yet; in `runtime`, with its version (None: the first that is installed).
    """
    runtime = runtime or runtime_name()
    possible = candidates(bundle, index, runtime, flavour)
    recorded = _recorded(bundle, index, runtime)
    # all flavours are on record together; here one may be asked for
    measured = [one for one in recorded if replace(one, median_ms=None) in possible]
    return fastest(measured) if measured else possible[0]


def tune(bundle: Bundle, index: int, asked: str | None = None) -> dict:
    """Measures every candidate on the golden input, each in a process of its own, and stores the
    medians; in the runtime `asked` for (of NAMES; None: the first installed).

    Returns {"name", "runtime", "processor", "at" (Unix time), "chosen", "measured", "failed"}, the
    choices as dictionaries. A file whose process fails, or which does not give the golden answers,
    is out. Raises ModelFailed if all are, TuneError when nothing could be stored or another process
    is tuning, BundleError as `candidates`.
    """
    runtime = runtime_name(asked)
    name = bundle.entry(index).name
    possible = candidates(bundle, index, runtime)

    with _locked() as folder:
        measured, failures = _measure(bundle, index, possible, runtime)
        if not measured:
            raise ModelFailed(
                f"no file of {name} runs on this device: {'; '.join(failures.values())}"
            )

        result = {
            "name": name,
            "runtime": runtime,
            "processor": processor(),
            "at": int(time.time()),
            "chosen": asdict(fastest(measured)),
            "measured": [asdict(one) for one in measured],
            "failed": [{**asdict(one), "failure": failure} for one, failure in failures.items()],
        }
        _store(folder / _record_name(bundle, index, runtime), result)

    return result


def _measure(
    bundle: Bundle, index: int, possible: list[Choice], runtime: str
) -> tuple[list[Choice], dict[Choice, str]]:
    """The choices with their medians, and why the others are out."""
    inputs, expected = expected_answers(bundle, index)
    times: dict[Choice, list[float]] = {one: [] for one in possible}
    failures: dict[Choice, str] = {}

    for _ in range(TURNS):
        for one in possible:
            if one in failures:
                continue

            file = verified_path(bundle, one.file)
            try:
                answers, report = run_model(
                    file,
                    inputs,
                    threads=one.threads,
                    repeat=WARM_UP + RUNS,
                    runtime=runtime.split()[0],
                    unprivileged=True,
                )
            except ModelFailed as failure:
                failures[one] = str(failure)
                continue

            times[one] += report["times_ms"][WARM_UP:]

            # fast, and wrong: out as well
            allowed = limit(bundle, index, one.flavour)
            error = allowed.error(answers, expected)
            if error > allowed.largest:
                failures[one] = f"golden error {error:.1e}"

    measured = []
    for one in possible:
        if one not in failures:
            measured.append(replace(one, median_ms=round(float(np.median(times[one])), 4)))

    return measured, failures


def fastest(measured: list[Choice]) -> Choice:
    """The least median; of two that lie within 5 % of each other the one with fewer threads."""
    # from the fewest threads up: more of them must be worth it
    best, *others = sorted(measured, key=lambda one: one.threads)
    for one in others:
        gain = GAIN if one.threads > best.threads else 1
        if _median(one) < _median(best) * gain:
            best = one

    return best


def _median(one: Choice) -> float:
    return float("inf") if one.median_ms is None else one.median_ms


def processor() -> str:
    """What this machine is: the board's name, or the processor's, and its cores."""
    name = _board_name() or _processor_name()
    machine = f"{platform.machine()}, {max(_threads())} cores"
    return f"{name}, {machine}" if name else machine


def _board_name() -> str:
    lines = _lines("/proc/device-tree/model")
    return lines[0] if lines else ""


def _processor_name() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return ""


def _lines(file: str) -> list[str]:
    # the device tree ends its texts with a zero byte
    try:
        return Path(file).read_text(errors="replace").replace("\0", "").splitlines()
    except OSError:
        return []


def _threads() -> list[int]:
    """Thread counts to try: 1 to 4, 8 ... and all cores."""
    # what this process may use: a container, or taskset, may leave less than the machine has
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1

    # three as well: on a board of four cores it leaves one to what brings the requests
    few = [count for count in range(1, 4) if count < cores]
    powers = [2**i for i in range(8) if 2**i < cores]
    return sorted({*few, *powers, cores})


def _folder() -> Path:
    given = os.environ.get("EDVIT_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "edvit_tf"


def _record_name(bundle: Bundle, index: int, runtime: str) -> str:
    digests = {bundle.files[one.file].sha256 for one in candidates(bundle, index, runtime)}
    text = canonical_json([sorted(digests), runtime, processor()])
    key = hashlib.sha256(text.encode()).hexdigest()
    return f"tuned-{bundle.entry(original(bundle, index)).name}-{key[:16]}.json"


def original(bundle: Bundle, index: int) -> int:
    """The first sub-model that has the very same files: `index` itself, unless it is a copy."""
    own = _digests(bundle, index)
    return next(i for i in range(index + 1) if _digests(bundle, i) == own)


def _digests(bundle: Bundle, index: int) -> dict[str, str | None]:
    """sha256 of a sub-model's files by flavour; None where the manifest lists none."""
    flavours = bundle.entry(index).flavours.items()
    listed = {name: bundle.files.get(flavour.file) for name, flavour in flavours}
    return {name: None if file is None else file.sha256 for name, file in listed.items()}


def of_copy(bundle: Bundle, index: int, result: dict) -> dict:
    """The result of `tune` for its original, as that of a copy: with its own name and files."""
    entry = bundle.entry(index)

    def own(row: dict) -> dict:
        return {**row, "file": entry.flavours[row["flavour"]].file}

    return {
        **result,
        "name": entry.name,
        "chosen": own(result["chosen"]),
        "measured": [own(row) for row in result["measured"]],
        "failed": [own(row) for row in result["failed"]],
    }


def _recorded(bundle: Bundle, index: int, runtime: str) -> list[Choice]:
    """What is on record; nothing where there is no home, no permission, or a spoilt file: as if not
    measured.
    """
    try:
        text = (_folder() / _record_name(bundle, index, runtime)).read_text(encoding="utf-8")
        found = []
        for row in json.loads(text)["measured"]:
            one = Choice(**row)
            if isinstance(one.median_ms, float) and isinstance(one.threads, int):
                found.append(replace(one, file=_own_file(bundle, index, one)))
        return found
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        return []


def _own_file(bundle: Bundle, index: int, recorded: Choice) -> str:
    """The sub-model's own name for a file on record, which may be that of a copy."""
    own = bundle.entry(index).flavours[recorded.flavour].file
    listed = bundle.files.get(recorded.file)
    is_copy = listed is not None and listed.sha256 == bundle.files[own].sha256
    return own if is_copy else recorded.file


def _store(path: Path, result: dict) -> None:
    """Writes a record, whole or not at all."""
    partial = path.with_suffix(".partial")
    try:
        partial.write_text(json.dumps(result), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise TuneError(_unwritable(path.parent, error)) from error


@contextlib.contextmanager
def _locked() -> Iterator[Path]:
    """The folder of records, made and found writable before anything is measured, and held for this
    process alone.
    """
    try:
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "w")  # noqa: SIM115 (held to the end of the block)
    except (OSError, RuntimeError) as error:
        raise TuneError(_unwritable("the cache", error)) from error

    with lock:
        try:
            # the kernel lets go of it with the process, however that ends
            hold(lock)
        except BlockingIOError as error:
            raise TuneError(
                f"another process is tuning with {folder}; two would measure each other. Wait for "
                "it."
            ) from error

        yield folder


def _unwritable(folder: Path | str, error: Exception) -> str:
    return (
        f"{folder} cannot be written ({error}); the result would be lost. Set EDVIT_CACHE to a "
        "folder that can."
    )


def table(results: list[dict]) -> str:
    """Results of `tune` for a terminal; the chosen line is marked."""
    first = results[0]
    lines = [
        f"{first['processor']}; {first['runtime']}; median ms of {TURNS * RUNS} runs",
        f"{'model':<14}{'flavour':<10}{'threads':>8}{'median ms':>11}",
    ]
    for result in results:
        # those that are out stand below, with the reason
        for row in [*result["measured"], *result["failed"]]:
            if "failure" in row:
                figure = f"  FAILED: {row['failure']}"
            else:
                figure = f"{row['median_ms']:>11.3f}"

            mark = "  chosen" if row == result["chosen"] else ""
            start = f"{result['name']:<14}{row['flavour']:<10}{row['threads']:>8}"
            lines.append(f"{start}{figure}{mark}")

    return "\n".join(lines)
