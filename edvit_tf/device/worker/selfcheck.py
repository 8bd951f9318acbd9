"""Does this device run this bundle right? Versions, memory, power, sha256, load, and the golden
input's answers.
"""

import importlib.metadata
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edvit_tf.device.errors import IdentityError, ModelFailed
from edvit_tf.device.model.bundle import Bundle, open_bundle, verified_path
from edvit_tf.device.model.golden import expected_answers, limit
from edvit_tf.device.model.memory import available_memory
from edvit_tf.device.model.runtime import runtime_name
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.device.model.tune import Choice, candidates, choice, processor
from edvit_tf.device.model.view import AS_IT_IS, View
from edvit_tf.device.worker.power import power, problems


def check(
    path: str | Path,
    sub_models: Sequence[int] | None = None,
    runs: int = 20,
    identity: Path | None = None,
    asked: str | None = None,
) -> dict:
    """Runs the sub-models of a bundle (default: all, and the fusion) on its golden input, each in a
    process of its own.

    A sub-model's view has no part in its golden answers; "view" names it, and "view_ms" is the
    median of what it takes here, which its requests take beside median_ms.

    Every flavour that the runtime loads (`asked` for, of `runtime_names.NAMES`; None: the first
    installed) is run, with the threads that were tuned for it. Per file:
    load_ms, first_ms, median_ms and max_ms of `runs` further runs, peak_rss_bytes, golden_error
    (relative); "ok" is the verdict, "failure" says how a process ended that did not answer (it may
    have crashed; the figures are then None). "problems" are of the machine: no grpcio, throttled or
    under-voltage now, an unusable folder `identity`, a certificate in it that this machine's clock
    refuses; they too make it not ok. "certificate" says when that ends
    (`certificate_expiry.state`). Plain JSON. Raises BundleError on a changed or missing file,
    RuntimeMissing without a runtime.
    """
    bundle = open_bundle(path)
    runtime = runtime_name(asked)
    rows = []

    for index in range(len(bundle.sub_models)) if sub_models is None else sub_models:
        name = bundle.entry(index).name
        # all of them: a worker may be told to take another than the fastest
        flavours = dict.fromkeys(one.flavour for one in candidates(bundle, index, runtime))
        for flavour in flavours:
            chosen = choice(bundle, index, flavour, runtime)
            rows.append(_check_file(bundle, index, name, chosen, runs, asked))

    if sub_models is None:
        # an aggregator's; a device that is asked for its own sub-models alone has none
        fusion = Choice("float32", bundle.fusion.file, 1)
        rows.append(_check_file(bundle, None, "fusion", fusion, runs, asked))

    power_state = power()
    grpcio, protobuf = _version("grpcio"), _version("protobuf")
    wrong = problems(power_state)
    if grpcio is None or protobuf is None:
        wrong.append("grpcio or protobuf is missing, which a worker needs: pip install '.[device]'")

    # without grpcio no certificate can be looked at, and that is a problem already
    certificate = None
    if identity is not None and grpcio is not None:
        certificate, certificate_problems = _check_certificate(identity)
        wrong += certificate_problems

    return {
        "bundle": bundle.path.name,
        "digest": bundle.digest,
        "python": platform.python_version(),
        "processor": processor(),
        "libc": " ".join(platform.libc_ver()),
        "numpy": np.__version__,
        "runtime": runtime,
        "grpcio": grpcio,
        "protobuf": protobuf,
        "memory_available_bytes": available_memory(),
        "power": power_state,
        "certificate": certificate,
        "problems": wrong,
        "models": rows,
        "ok": not wrong and all(row["ok"] for row in rows),
    }


def _check_certificate(folder: Path) -> tuple[dict | None, list[str]]:
    """(what `certificate_expiry.state` says of the certificate of an identity, problems)."""
    # which need grpcio
    from edvit_tf.device.rpc import certificate_expiry, tls

    try:
        own = tls.identity(folder)
    except IdentityError as error:
        return None, [str(error)]

    wrong = []
    # the files are right; whether their dates are is up to this machine's clock
    reason = tls.doubts(own)
    if reason is not None:
        wrong.append(
            f"{own.cert}: {reason}. Set this machine's clock, or issue the certificate again"
        )

    # nor does a server start with a certificate that its peers would refuse for its role
    role = None if own.names is None else tls.role_of(own.names)
    if own.names is not None and (role is None or role[0] == "client"):
        has = "no role" if role is None else "the role client"
        wrong.append(f"{own.cert} has {has}; a server takes a worker's or an aggregator's")

    return certificate_expiry.state(own.ends), wrong


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _check_file(
    bundle: Bundle, index: int | None, name: str, chosen: Choice, runs: int, runtime: str | None
) -> dict:
    """A row of the result: of a sub-model, or of the fusion (None)."""
    view = AS_IT_IS if index is None else bundle.entry(index).view
    # as it is if the process fails: every figure unknown
    row = {
        "name": name,
        "flavour": chosen.flavour,
        "threads": chosen.threads,
        "ok": False,
        "failure": None,
        "load_ms": None,
        "first_ms": None,
        "median_ms": None,
        "max_ms": None,
        "peak_rss_bytes": None,
        "golden_error": None,
        "view": str(view),
        "view_ms": None,
    }
    inputs, expected = expected_answers(bundle, index)
    file = verified_path(bundle, chosen.file)
    try:
        outputs, report = run_model(
            file,
            inputs,
            threads=chosen.threads,
            repeat=runs + 1,
            runtime=runtime,
            unprivileged=True,
        )
    except ModelFailed as failure:
        return {**row, "failure": str(failure)}

    allowed = limit(bundle, index, chosen.flavour)
    error = allowed.error(outputs, expected)
    # without the first run, which has a figure of its own
    times_ms = report["times_ms"][1:]

    return {
        **row,
        "load_ms": report["load_ms"],
        "first_ms": report["first_ms"],
        "median_ms": float(np.median(times_ms)),
        "max_ms": max(times_ms),
        "peak_rss_bytes": report["peak_rss_bytes"],
        "golden_error": error,
        "view_ms": _view_ms(view, inputs, runs),
        "ok": error <= allowed.largest,
    }


def _view_ms(view: View, inputs: dict[str, np.ndarray], runs: int) -> float:
    """The median of `runs` views of the one input."""
    if view == AS_IT_IS:
        return 0.0

    (x,) = inputs.values()
    view.applied(x)  # prepares what the later ones use
    times_ms = []
    for _ in range(runs):
        started = time.perf_counter()
        view.applied(x)
        times_ms.append(1e3 * (time.perf_counter() - started))

    return float(np.median(times_ms))


def table(result: dict) -> str:
    """The result of `check` for a terminal."""
    # the machine first, then a line a file, then the verdict
    free = result["memory_available_bytes"]
    lines = [
        f"bundle {result['bundle']} ({result['digest'][:12]})",
        f"{result['processor']}, python {result['python']}, {result['libc']}, numpy "
        f"{result['numpy']}, {result['runtime']}, grpcio {result['grpcio']}, protobuf "
        f"{result['protobuf']}",
        f"memory available {free / 2**20:.0f} MiB" if free else "memory available: unknown",
        _power_line(result["power"]),
        *_certificate_lines(result["certificate"]),
        f"{'model':<14}{'flavour':<9}{'threads':>8}{'load ms':>9}{'first ms':>10}{'median ms':>11}"
        f"{'max ms':>9}{'RSS MiB':>9}{'golden error':>14}  verdict",
    ]
    lines += [_row_line(row) for row in result["models"]]
    lines += [f"PROBLEM: {problem}" for problem in result["problems"]]
    lines.append(f"each model in a process of its own; {_verdict(result['models'])}")

    return "\n".join(lines)


def _row_line(row: dict) -> str:
    head = f"{row['name']:<14}{row['flavour']:<9}{row['threads']:>8}"
    if row["failure"]:
        return f"{head}  FAILED: {row['failure']}"

    peak = row["peak_rss_bytes"]
    peak_mib = f"{peak / 2**20:.0f}" if peak else "-"
    verdict = "ok" if row["ok"] else "WRONG"

    return (
        f"{head}{row['load_ms']:>9.1f}{row['first_ms']:>10.2f}{row['median_ms']:>11.2f}"
        f"{row['max_ms']:>9.2f}{peak_mib:>9}{row['golden_error']:>14.1e}  {verdict}{_seen(row)}"
    )


def _seen(row: dict) -> str:
    """How a sub-model sees an input, where it does not as it is."""
    if row["view"] == str(AS_IT_IS):
        return ""
    return f"  (sees it: {row['view']}, {row['view_ms']:.2f} ms more)"


def _verdict(rows: list[dict]) -> str:
    words = []
    if any(row["failure"] for row in rows):
        words.append("a process failed: see its words above")
    if any(not row["ok"] and not row["failure"] for row in rows):
        words.append(
            "WRONG answers: do not use this device; copy the bundle again, or replace the device"
        )

    return "; ".join(words) or "all models answer as exported"


def _power_line(state: dict) -> str:
    degrees = "unknown" if state["temperature_c"] is None else f"{state['temperature_c']:.0f} C"
    if state["source"] is None:
        return f"temperature {degrees}; throttling: this machine does not tell"

    now = ", ".join(state["now"]) or "none now"
    since = f"; since boot: {', '.join(state['since_boot'])}" if state["since_boot"] else ""
    return f"temperature {degrees}; throttling ({state['source']}): {now}{since}"


def _certificate_lines(certificate: dict | None) -> list[str]:
    if certificate is None:
        return []
    advice = ": issue it again (edvit certs issue)" if certificate["expiring"] else ""
    end, days = certificate["ends"][:10], certificate["days_left"]
    return [f"certificate ends {end}, in {days:g} days{advice}"]
