"""The picture of the fleet: which device holds which sub-model, which classes that knows, and under
which view it sees an input.
"""

import statistics
from collections.abc import Sequence
from html import escape
from typing import Any

from edvit_tf.data.names import few
from edvit_tf.report.compared import counted
from edvit_tf.report.entries import SubModel
from edvit_tf.report.figures import note
from edvit_tf.report.results import Results
from edvit_tf.report.units import milliseconds, size

# Of class names on a card; its tooltip has more.
NAMES_ROOM = 70
TOOLTIP_ROOM = 2000
# A view's picture: the edge of an input, drawn so large.
EDGE = 36.0


def who_knows(results: Results, input_shape: Sequence[int]) -> str:
    """A card for each sub-model, then what makes one answer of theirs; `input_shape` (H, W, ...) is
    what moves of a view are measured by.
    """
    cards = []
    for j, sub in enumerate(results.sub_models):
        view = results.fleet.views[j] if j < len(results.fleet.views) else None
        picture = "" if view is None else _view(view, input_shape)
        strip = "" if results.knows_all else _strip(results.labels, sub.labels)
        known = few(sub.labels, NAMES_ROOM, "classes")
        if len(sub.labels) == len(results.labels):
            known = f"all {len(sub.labels)} classes"
        cards.append(
            f'<li><div class="on">{_devices(sub.devices)}</div>'
            f"<b>{escape(sub.name)}</b> <small>{escape(size(sub.file_bytes))}, "
            f"{escape(milliseconds(_median_ms(results, sub)))}</small>"
            f'{strip}<div class="view">{picture}'
            f'<span title="{escape(few(sub.labels, TOOLTIP_ROOM, "classes"))}">{escape(known)}'
            "</span></div></li>"
        )

    how = "the mean of their answers" if results.knows_all else "the fusion of their features"
    if len(results.sub_models) == 1:
        how = "its answer"
    return (
        '<div class="fleet" role="group" aria-label="devices and the classes they know">'
        f'<p class="end">one {escape(results.data.noun)}, sent to each</p>'
        f'<ul class="cards">{"".join(cards)}</ul>'
        f'<p class="end">{how}: one of {len(results.labels)} classes '
        f"({escape(size(results.fusion.file_bytes))})</p></div>" + note(_told(results))
    )


def _median_ms(results: Results, sub: SubModel) -> float:
    """Of the alternating passes, where there were such."""
    if results.turns is None:
        return sub.process.invoke_ms.median
    return statistics.median(results.turns.models[sub.name])


def _told(results: Results) -> str:
    replicas = sum(len(sub.devices) > 1 for sub in results.sub_models)
    said = "Every device that answers knows all classes."
    if not results.knows_all:
        said = "A square for each class, full where the sub-model knows it."
    if any(results.fleet.views):
        said += (
            " The dashed frame is the input, the full one what a device sees of it: moved, cropped "
            "or mirrored (arrows)."
        )
    if replicas:
        verb = "is" if replicas == 1 else "are"
        said += (
            f" {counted(replicas, 'sub-model')} {verb} on several devices: one of these can fail "
            "without any loss."
        )
    return said


def _devices(names: Sequence[str]) -> str:
    return " ".join(f"<span>{escape(name)}</span>" for name in names)


def _strip(labels: Sequence[str], known: Sequence[str]) -> str:
    """A square for each class, in rows; those that are known are full."""
    own = set(known)
    columns = min(len(labels), 10 if len(labels) <= 30 else 20 if len(labels) <= 100 else 30)
    rows = -(-len(labels) // columns)

    # one path for all squares of a kind: hundreds of classes stay a few kilobytes
    full, empty = [], []
    for i, label in enumerate(labels):
        row, column = divmod(i, columns)
        (full if label in own else empty).append(f"M{10 * column} {10 * row}h8v8h-8z")
    said = f"knows {len(own)} of {len(labels)} classes"
    return (
        f'<svg class="strip" role="img" aria-label="{said}" '
        f'viewBox="-1 -1 {10 * columns} {10 * rows}" '
        f'style="max-width:{min(20.0, 10 * columns * 0.1):.1f}rem">'
        f'<path class="no" d="{"".join(empty)}"/><path class="yes" d="{"".join(full)}"/></svg>'
    )


def _view(view: dict[str, Any], shape: Sequence[int]) -> str:
    """The input as a dashed frame, and as a full one what is seen of it."""
    rows = max(1, shape[0])
    columns = max(1, shape[1]) if len(shape) > 1 else rows
    crop = view.get("crop", 0)
    x = 8 + EDGE * crop / columns
    y = 8 + EDGE * crop / rows
    width = EDGE * max(1, columns - 2 * crop) / columns
    height = EDGE * max(1, rows - 2 * crop) / rows

    # the picture moves down, so what is seen of it lies further up
    x -= EDGE * view.get("right", 0) / columns
    y -= EDGE * view.get("down", 0) / rows

    words = [name if value is True else f"{name} {value}" for name, value in view.items() if value]
    said = ", ".join(words) or "as it is"
    arrow = ""
    if view.get("mirrored"):
        arrow = '<path class="fit" d="M19 26h14m-11-4l-4 4l4 4m8-8l4 4l-4 4"/>'
    return (
        f'<svg class="seen" role="img" aria-label="view: {escape(said)}" viewBox="0 0 52 52">'
        f"<title>view: {escape(said)}</title>"
        f'<rect class="cut" x="8" y="8" width="{EDGE:g}" height="{EDGE:g}"/>'
        f'<rect class="fit" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
        f"{arrow}</svg>"
    )
