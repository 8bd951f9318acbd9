"""The section of the page that shows widths, size and latency of each file of the fleet."""

from collections.abc import Sequence

from edvit_tf.device.model.manifest import SubModelEntry
from edvit_tf.device.model.view import AS_IT_IS
from edvit_tf.models import architecture, shown_widths
from edvit_tf.report.figures import Bar, bars, note, panels, table
from edvit_tf.report.models import MACS, process_cells, runtimes_said
from edvit_tf.report.results import Results
from edvit_tf.report.units import macs, milliseconds, size


def sub_models(entries: Sequence[SubModelEntry], results: Results) -> str:
    """Widths, bytes, MACs and milliseconds of each file."""
    columns = architecture(entries[0].config.get("architecture", "vit")).COLUMNS
    viewed = any(entry.view != AS_IT_IS for entry in entries)
    head = [
        "",
        "devices",
        *(["view"] if viewed else []),
        *columns,
        "parameters",
        "MACs",
        "MACs,\nattention",
        "weights",
        "file",
        "graph,\n%",
        "load",
        "median\ntime",
        "95th\npercentile",
        "peak\nRSS",
    ]

    rows = []
    for entry, sub in zip(entries, results.sub_models, strict=True):
        # Names, shapes and operators: what a file holds that is no weight.
        graph = 100 * (sub.file_bytes - sub.weight_bytes) / sub.weight_bytes
        # Which widths there are is the architecture's to say.
        widths = shown_widths(entry.config).values()
        rows.append(
            [
                sub.name,
                ", ".join(sub.devices),
                *([str(entry.view)] if viewed else []),
                *widths,
                f"{sub.params:,}",
                macs(sub.macs),
                macs(sub.macs_full),
                size(sub.weight_bytes, 3),
                size(sub.file_bytes, 3),
                f"{graph:.1f}",
                milliseconds(sub.process.load_ms, 3),
                *process_cells(sub.process.invoke_ms, sub.process),
            ]
        )
    rows.append(_fusion_cells(results, len(columns) + viewed))

    sizes, medians = [], []
    for sub in results.sub_models:
        median = sub.process.invoke_ms.median
        sizes.append(Bar(sub.name, sub.file_bytes, size(sub.file_bytes), "fused"))
        medians.append(Bar(sub.name, median, milliseconds(median), "fused"))

    processes = [sub.process for sub in results.sub_models]
    told = note(
        f'{MACS}; the column "attention" counts them too. Graph: what the file holds beside its '
        "weights, in % of them. Each file ran in a process of its own without TensorFlow. "
        f"{runtimes_said([*processes, results.fusion.process])}"
    )

    told += _spikes_said(results)

    charts = [bars(".tflite file", sizes), bars("Median time of one input", medians)]
    return table(head, rows, text=(0, 1, 2) if viewed else (0, 1)) + told + panels(charts)


def _spikes_said(results: Results) -> str:
    """Of spiking nets how much they spike; nothing of others."""
    found = [sub.spikes for sub in results.sub_models if sub.spikes is not None]
    if not found:
        return ""
    most = max(found, key=lambda one: one.spikes)
    flips = max(one.flip_rate for one in found)
    return note(
        f"Spikes an inference: up to {most.spikes:,.0f}, {100 * most.rate:.1f} % of all neurons "
        "and steps: a proxy of energy on neuromorphic hardware. A .tflite file multiplies by zeros "
        f"too. Up to {flips:.1e} of the spikes are otherwise in the file than in Keras: a "
        "potential lies within rounding of its threshold."
    )


def _fusion_cells(results: Results, columns: int) -> list[str]:
    fusion = results.fusion
    return [
        "fusion",
        "aggregator",
        *["-"] * (columns + 4),  # widths, parameters, MACs twice, weights
        size(fusion.file_bytes, 3),
        "-",
        milliseconds(fusion.process.load_ms, 3),
        *process_cells(fusion.process.invoke_ms, fusion.process),
    ]
