"""What a sub-model computes, against the number of devices N (the paper's Table 4), from widths
alone: exact, in no time, and without TensorFlow.

Two conventions, each row has both. `macs` is the paper's: patch embedding, projections, MLP and
head; `macs_full` adds the products Q K^T and A V, so that all multiply-accumulates count. One fused
multiply-add is one. What the paper calls FLOPs are these.

At N = 1 stands the unsplit model. From N = 2 on a sub-model is what Algorithm 1 starts with, of
ceil(h / N) of h heads: no budget has taken any yet (`against_n.py` has plans with budgets).
"""

import textwrap
from collections.abc import Mapping, Sequence

from edvit_tf.errors import ConfigError
from edvit_tf.models import ModelConfig, architecture, preset
from edvit_tf.planning.plan import starting_heads
from edvit_tf.report.curves import Series, curves
from edvit_tf.report.figures import note, panels, table
from edvit_tf.report.tables import LINE
from edvit_tf.study.page import COLOURS, text_table

MODELS = ("vit_small", "vit_base", "vit_large")
DEVICES = (1, 2, 3, 5, 10)

CONVENTIONS = (
    "MACs: multiply-accumulates of one sample. The paper's: embedding, projections, MLP and head, "
    "without the products of attention. All: with them. At N = 1 the unsplit model; from N = 2 on "
    "a sub-model of ceil(h / N) heads, before any budget."
)


def bases(
    names: Sequence[str], image_size: int = 224, channels: int = 3, classes: int = 10
) -> dict[str, ModelConfig]:
    """{preset: its configuration} at one input size; ConfigError for a name that there is not."""
    return {name: preset(name, (image_size, image_size, channels), classes) for name in names}


def flops(models: Mapping[str, ModelConfig], devices: Sequence[int] = DEVICES) -> list[dict]:
    """A row for each model and N: model, devices, kept of shares, widths, macs, macs_full,
    weight_bytes and file_bytes (of one sub-model, float32; the file at most), total_bytes of N.

    The sub-model is the one of the most classes. Raises ConfigError for an N below 1, or above the
    number of classes.
    """
    rows = []
    for name, base in models.items():
        for count in devices:
            _check(count, base.num_classes)
            rows.append({"model": name, "devices": count, **sub_model_costs(base, count)})
    return rows


def _check(count: int, classes: int) -> None:
    if not 1 <= count <= classes:
        raise ConfigError(
            f"N is {count} for {classes} classes; each sub-model needs a class of its own. Ask for "
            f"1 to {classes} devices, or for more classes."
        )


def sub_model_costs(base: ModelConfig, count: int) -> dict:
    """The figures of one row: the base as it is for one device, else its start of Algorithm 1."""
    kept = starting_heads(base, count)
    config = base
    if count > 1:
        largest = -(-base.num_classes // count)  # classes; then "other"
        config = base.pruned(kept, largest + 1, "merge")
    return {"kept": kept, "of": base.shares, **costs_of(config, count)}


def costs_of(config: ModelConfig, count: int = 1) -> dict:
    """Widths, MACs by both conventions and bytes of a model, `count` files of which are
    `total_bytes`.
    """
    known = architecture(config)
    file_bytes = known.file_bytes(config, "float32")
    return {
        "widths": {title: getattr(config, field) for title, field in known.COLUMNS.items()},
        "macs": known.macs(config),
        "macs_full": known.macs_full(config),
        "weight_bytes": known.size_bytes(config, "float32"),
        "file_bytes": file_bytes,
        "total_bytes": count * file_bytes,
    }


def flops_text(rows: Sequence[dict]) -> str:
    """The table for a terminal."""
    return f"{text_table(_grid(rows), left=(0, 3))}\n\n{textwrap.fill(CONVENTIONS, LINE)}"


def _grid(rows: Sequence[dict]) -> list[list[str]]:
    """Titles and cells; widths are said together, since models may have different ones."""
    grid = [
        [
            "model",
            "N",
            "kept",
            "widths",
            "G MACs,\npaper's",
            "G MACs,\nall",
            "MiB a\nfile",
            "MiB of\nall files",
        ]
    ]
    for row in rows:
        grid.append(
            [
                row["model"],
                str(row["devices"]),
                f"{row['kept']} of {row['of']}",
                widths_said(row),
                f"{row['macs'] / 1e9:.4g}",
                f"{row['macs_full'] / 1e9:.4g}",
                f"{row['file_bytes'] / 2**20:.2f}",
                f"{row['total_bytes'] / 2**20:.2f}",
            ]
        )
    return grid


def widths_said(row: Mapping) -> str:
    """ "heads 2, d 128, c 512"."""
    return ", ".join(f"{title} {value}" for title, value in row["widths"].items())


def flops_html(rows: Sequence[dict]) -> str:
    """Charts and table for a page."""
    head, *body = _grid(rows)
    charts = [
        curves("G MACs of a sub-model, the paper's convention", series(rows, "macs", 1e9)),
        curves("G MACs of a sub-model, all of them", series(rows, "macs_full", 1e9)),
        curves("MiB of a sub-model's file", series(rows, "file_bytes", 2**20)),
    ]
    return panels(charts) + table(head, body, text=(0, 3)) + note(CONVENTIONS)


def series(rows: Sequence[dict], field: str, scale: float) -> list[Series]:
    """What `curves` takes: a line for each model, of one field in units of `scale`; rows without it
    are left out.
    """
    lines: list[Series] = []
    for i, name in enumerate(dict.fromkeys(row["model"] for row in rows)):
        found = {}
        for row in rows:
            if row["model"] == name and row.get(field) is not None:
                value = row[field] / scale
                found[row["devices"]] = (value, value, value)
        lines.append((name, COLOURS[i % len(COLOURS)], found))
    return lines
