"""What stands for energy where nobody has a power meter: multiply-accumulates, spikes, and bytes
moved, of bundles and of models by their widths alone, in one table.

    macs             of one sub-model and question, all of them (products of attention too)
    spikes           of one inference of a spiking net, counted on test inputs by its run; None of
                     other nets, and of a model that has no weights yet
    weights_read     bytes of the largest device's files: each question reads all of them
    input_bytes      of the tensor that goes to each device (an encoded picture is smaller)
    answer_bytes     of the features that each sub-model sends back, float32
    moved_bytes      over the network for one question: both, of all sub-models
    total_macs       of all sub-models: what the fleet spends, not how long it takes
    joules           of computing, all sub-models together, on devices of a board that is named:
                     an estimate from published figures (planning/energy.py), and its range

No Raspberry Pi profits from spikes that stay away: its .tflite file multiplies by zeros too, T
times. They count on neuromorphic hardware alone.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edvit_tf.config import DeviceSpec
from edvit_tf.device.model.bundle import Bundle, open_bundle
from edvit_tf.errors import ConfigError
from edvit_tf.models import ARCHITECTURES, ModelConfig, architecture, config_from_dict, preset
from edvit_tf.planning.boards import Range, boards
from edvit_tf.planning.energy import spent
from edvit_tf.planning.partition import partition
from edvit_tf.planning.plan import plan
from edvit_tf.report.figures import Bar, bars, note, panels, table
from edvit_tf.report.planned_energy import LEFT_OUT, range_text
from edvit_tf.report.results import read_results
from edvit_tf.report.tables import LINE
from edvit_tf.report.units import count as count_said
from edvit_tf.report.units import macs as macs_said
from edvit_tf.report.units import size
from edvit_tf.study.page import COLOURS, text_table

# An input of each architecture, and bytes of one of its values: uint8 pixels, int32 pieces.
INPUTS: dict[str, tuple[tuple[int, ...], int]] = {
    "vit": ((224, 224, 3), 1),
    "vgg": ((32, 32, 3), 1),
    "snn": ((32, 32, 3), 1),
    "bert": ((128,), 4),
}
FLOAT = 4  # bytes of a feature

NOTES = (
    "Proxies, not joules. MACs: all of them, attention products too; of a spiking net over all of "
    "its steps. Moved: the input's tensor to every device and float32 features back, for one "
    "question; an encoded picture is smaller, and a sensor on the device sends none. No Raspberry "
    "Pi profits from sparse spikes: a .tflite file multiplies by zeros too."
)


def energy_of_models(
    names: Sequence[str],
    devices: int = 10,
    *,
    classes: int = 10,
    budget_bytes: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    board: str | None = None,
) -> list[dict]:
    """A row for each preset, split over so many devices by Algorithm 1 with `budget_bytes` of all
    files; `input_shape` None: INPUTS. Raises ConfigError, PlanError.
    """
    rows = []
    for name in names:
        known = architecture_of(name)
        shape, width = INPUTS[known]
        base = preset(name, input_shape or shape, classes)
        specs = [DeviceSpec(f"device-{i}") for i in range(devices)]
        made = plan(base, partition(classes, devices), specs, budget_bytes)
        configs = [sub.config for sub in made.sub_models]
        held = {sub.devices[0]: sub.size_bytes for sub in made.sub_models}
        input_bytes = width * int(np.prod(base.input_shape))
        rows.append(_row(name, configs, input_bytes, max(held.values()), board))
    return rows


def architecture_of(name: str) -> str:
    """The architecture that has a preset; ConfigError for a name that none has."""
    for known in ARCHITECTURES:
        if name in architecture(known).PRESETS and known in INPUTS:
            return known
    every = [one for known in INPUTS for one in architecture(known).PRESETS]
    raise ConfigError(f"there is no model preset {name!r}; the presets are: {', '.join(every)}.")


def energy_of_bundle(path: Path, board: str | None = None) -> dict:
    """The row of a bundle: of its files, and with the spikes that its run counted."""
    bundle = open_bundle(path)
    configs = [config_from_dict(entry.config) for entry in bundle.sub_models]
    results = read_results(bundle.path)
    one = np.dtype(bundle.input.dtype).itemsize * int(np.prod(bundle.input.shape))

    row = _row(bundle.manifest.name, configs, one, _fullest(bundle), board)
    counted = [sub.spikes for sub in results.sub_models if sub.spikes is not None]
    if counted:
        most = max(counted, key=lambda found: found.spikes)
        row |= {"spikes": most.spikes, "spike_rate": most.rate}
    ms = [sub.process.invoke_ms.median for sub in results.sub_models]
    return row | {
        "ms": max(ms),
        "accuracy": results.fusion.tflite.recording,
        "data": results.data.name,
        "synthetic": results.data.synthetic,
    }


def _fullest(bundle: Bundle) -> int:
    """Bytes of the files on the device that holds most."""
    held: dict[str, int] = {}
    for entry in bundle.sub_models:
        for device in entry.devices:
            held[device] = held.get(device, 0) + bundle.files[entry.file].bytes
    return max(held.values())


def _row(
    name: str,
    configs: Sequence[ModelConfig],
    input_bytes: int,
    weights_read: int,
    board: str | None,
) -> dict:
    known = architecture(configs[0])
    macs = [known.macs_full(config) for config in configs]
    answers = [FLOAT * config.feature_dim for config in configs]
    return {
        "name": name,
        "architecture": configs[0].architecture,
        "sub_models": len(configs),
        "input_shape": list(configs[0].input_shape),
        "steps": getattr(configs[0], "steps", 1),
        "macs": max(macs),
        "total_macs": sum(macs),
        "spikes": None,
        "spike_rate": None,
        "weights_read": weights_read,
        "input_bytes": input_bytes,
        "answer_bytes": max(answers),
        "moved_bytes": len(configs) * input_bytes + sum(answers),
        "board": board,
        "joules": _joules(configs, board),
        "ms": None,
        "accuracy": None,
    }


def _joules(configs: Sequence[ModelConfig], board: str | None) -> dict | None:
    """Of computing on devices of this board, one for each sub-model."""
    each = [spent(DeviceSpec("device", board=board), [config]) for config in configs]
    known = [one.computing_joules for one in each if one is not None]
    return sum(known, Range(0.0, 0.0, 0.0)).to_dict() if known else None


def _grid(rows: Sequence[Mapping]) -> list[list[str]]:
    grid = [
        [
            *("model", "N", "input", "MACs a\ndevice", "MACs of\nall", "spikes an\ninference"),
            *("weights\nread", "input\nin", "features\nout", "moved,\nall", "J, all"),
            *("ms", "accuracy\n%"),
        ]
    ]
    for row in rows:
        spikes = "-"
        if row["spikes"] is not None:
            spikes = f"{count_said(row['spikes'], 3)} ({100 * row['spike_rate']:.1f} %)"
        accuracy = "-" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f}"
        if row.get("synthetic"):
            accuracy += " *"
        grid.append(
            [
                f"{row['name']} ({row['architecture']})",
                str(row["sub_models"]),
                " x ".join(map(str, row["input_shape"])),
                macs_said(row["macs"]),
                macs_said(row["total_macs"]),
                spikes,
                *(size(row[key], 3) for key in ("weights_read", "input_bytes", "answer_bytes")),
                size(row["moved_bytes"], 3),
                "-" if row["joules"] is None else range_text(Range(**row["joules"])),
                "-" if row["ms"] is None else f"{row['ms']:.2f}",
                accuracy,
            ]
        )
    return grid


def energy_text(rows: Sequence[Mapping]) -> str:
    """The table for a terminal: without columns that no row fills, and without the parts of what is
    moved, which are in JSON and on the page.
    """
    grid = _filled(_grid(rows))
    parts = [i for i, title in enumerate(grid[0]) if title in ("input\nin", "features\nout")]
    short = [[cell for i, cell in enumerate(row) if i not in parts] for row in grid]
    return f"{text_table(short, left=(0, 2))}\n\n{textwrap.fill(_notes(rows), LINE)}"


def _notes(rows: Sequence[Mapping]) -> str:
    notes = NOTES
    named = {row["board"] for row in rows} - {None}
    if named:
        notes = notes.replace("Proxies, not joules.", "Proxies, and joules by an estimate.")
    for key in sorted(named):
        notes += f" J: of computing, on a {boards()[key].name} for each sub-model. {LEFT_OUT}"
    if not any(row.get("synthetic") for row in rows):
        return notes
    return f"* SYNTHETIC stand-in: these accuracies mean nothing. {notes}"


def _filled(grid: list[list[str]]) -> list[list[str]]:
    used = [i for i in range(len(grid[0])) if any(row[i] != "-" for row in grid[1:])]
    return [[row[i] for i in used] for row in grid]


def energy_html(rows: Sequence[Mapping]) -> str:
    """Bars and the table for a page."""
    charts = []
    for title, key, said in (
        ("MACs of a device", "macs", macs_said),
        ("Weights that a device reads", "weights_read", size),
        ("Bytes moved for one question", "moved_bytes", size),
    ):
        drawn = []
        for i, row in enumerate(rows):
            colour = COLOURS[i % len(COLOURS)]
            drawn.append(Bar(row["name"], row[key], said(row[key]), colour))
        charts.append(bars(title, drawn))
    head, *body = _filled(_grid(rows))
    return panels(charts) + table(head, body, text=(0, 2)) + note(_notes(rows))
