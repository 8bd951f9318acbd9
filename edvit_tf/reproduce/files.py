"""Latency of exported files: ViT-Base whole, and sub-models, in alternating turns.

Weights are made up: they change no latency. Another machine's figures, of a Raspberry Pi, come as
JSON.
"""

import json
import math
from pathlib import Path

from edvit_tf.errors import ConfigError, ExportError
from edvit_tf.reproduce.asked import Asked
from edvit_tf.study.against_n import against_n, against_n_html, speedups
from edvit_tf.study.flops import DEVICES, bases
from edvit_tf.study.timed import timed

MODEL = "vit_base"
MIB = 2**20
KEYS = ("median_base_ms", "median_n10_ms")
# numbers of devices, runs a turn, turns
SIZES = {
    "quick": ((10,), 3, 2),
    "recipes": (DEVICES, 10, 3),
    "full": (DEVICES, 10, 3),
}


def latency(asked: Asked) -> dict:
    """Milliseconds of the files and their ratio, with bytes and memory; `--latency-from` has the
    seconds of the machine that they were taken on.
    """
    if asked.latency_from is not None:
        return _given(asked.latency_from)

    counts, runs, turns = SIZES[asked.mode]
    rows = speedups(timed(against_n(bases([MODEL]), counts), runs=runs, turns=turns))
    whole, part = (row["measured"] for row in (rows[0], rows[-1]))
    runtime = _first_runtime(whole, part)
    whole, part = whole[runtime], part[runtime]
    figures = {
        "ratio": part["speedup"],
        "ms_base": whole["median_ms"],
        "ms_n10": part["median_ms"],
        "file_mib_base": rows[0]["exported_bytes"] / MIB,
        "file_mib_n10": rows[-1]["exported_bytes"] / MIB,
        "rss_mib_base": whole["peak_rss_bytes"] / MIB,
        "rss_mib_n10": part["peak_rss_bytes"] / MIB,
    }
    drawn = "".join(f"<h3>{title}</h3>{html}" for title, html in against_n_html(rows))
    return {
        "figures": figures,
        "missing": dict.fromkeys(
            ("seconds_base", "seconds_n10"), "It has milliseconds of this machine alone"
        ),
        "data": "no data but a made-up picture",
        "base": f"none, random weights; {runtime}, one thread",
        "seeds": [0],
        "command": "edvit study against-n --models vit_base --measure",
        "html": drawn,
    }


def _first_runtime(whole: dict, part: dict) -> str:
    """The first runtime that both the unsplit model and the sub-model ran in."""
    failures = []
    for runtime in whole:
        failed = [one[runtime]["failure"] for one in (whole, part) if "failure" in one[runtime]]
        if not failed:
            return runtime
        failures.append(f"{runtime}: {failed[0]}")
    raise ExportError(
        f"the files of {MODEL} did not both run ({'; '.join(failures)}). Install another TFLite "
        "runtime, or leave figures 3 to 5 out."
    )


def _given(path: Path) -> dict:
    """The figures of another machine: {"median_base_ms", "median_n10_ms", "machine"}. Raises
    ConfigError for a file that has not both.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
        whole, part = (float(found[key]) for key in KEYS)
        if not all(math.isfinite(value) and value > 0 for value in (whole, part)):
            raise ValueError(f"{whole} and {part} are no milliseconds")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--latency-from {path} cannot be used ({error!r}); it must be JSON with "
            f"{' and '.join(KEYS)}, the medians of `edvit bench latency --model vit_base --heads "
            "12` and `--heads 2`, and may have machine."
        ) from error
    return {
        "figures": {
            "ratio": whole / part,
            "seconds_base": whole / 1000,
            "seconds_n10": part / 1000,
        },
        "data": "no data but a made-up picture",
        "base": f"none, random weights; {found.get('machine', 'a machine that is not named')}",
        "seeds": [0],
        "command": "edvit bench latency --model vit_base --heads 2",
    }
