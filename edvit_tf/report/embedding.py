"""The section of the page that shows features in two dimensions, by class: what `edvit study tsne
--store` kept (the paper's Figure 8).

tsne.npz holds the coordinates (n, 2) of every panel under its key, `labels` (n,), `recordings` (n,)
their places in the split, and `figures`: JSON of what was measured.
"""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from edvit_tf.device.errors import BundleError
from edvit_tf.device.model.array_file import read_npz
from edvit_tf.report.figures import note, panels, short, table

FILE = "tsne.npz"
SIDE = 320  # of a panel
EDGE = 8
_NAMED = 20  # classes that a legend names
# What other content raises than `embedding` expects; of a file that is no .npz it is a ValueError.
_DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)


def read_embedding(folder: Path) -> dict | None:
    """The figures that were stored, each panel with its "points" (n, 2), and "point_labels" (n,);
    None where none were. Raises BundleError for a damaged file.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        stored = read_npz(file)
        found = json.loads(str(stored["figures"]))
        found["point_labels"] = _checked_labels(stored["labels"], len(found["labels"]))
        for panel in found["panels"]:
            panel["points"] = stored[panel["key"]]
            if panel["points"].shape != (len(found["point_labels"]), 2):
                raise ValueError(f"{panel['key']} has not two coordinates for each label")
        # all that the section shows is read here, and not when half of the page is made
        embedding(found)
    except _DAMAGED as error:
        raise BundleError(
            f"{file} cannot be read ({error}). Delete it, or make it anew: edvit study tsne "
            "BUNDLE --store."
        ) from error
    return found


def _checked_labels(labels: np.ndarray, classes: int) -> np.ndarray:
    """ValueError for labels that name no class."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError("its labels are no list of whole numbers")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"a label is none of its {classes} classes")
    return labels


def embedding(found: dict) -> str:
    """The panels beside each other, the table of what was measured, and how."""
    labels = found["labels"]
    drawn = []
    rows = []
    for panel in found["panels"]:
        said = (
            f"{panel['title']}. 10-NN {_percent(panel['knn'])}, silhouette "
            f"{_signed(panel['silhouette'])}, AUC {_share(panel['auc'])}"
        )
        drawn.append(points(said, panel["points"], found["point_labels"], labels))
        rows.append(
            [
                panel["title"],
                panel["width"],
                _percent(panel["knn"]),
                _signed(panel["silhouette"]),
                _share(panel["auc"]),
                panel["auc_of"],
            ]
        )
    head = ["features", "values", "10-NN", "silhouette", "AUC", "AUC of"]
    return (
        panels(drawn)
        + _legend(labels)
        + table(head, rows, text=(0, 5), wrap=5)
        + "".join(note(line) for line in found["notes"])
    )


def points(title: str, places: np.ndarray, classes: np.ndarray, labels: Sequence[str]) -> str:
    """An SVG figure of points (n, 2), coloured by class; those that are no numbers are counted."""
    finite = np.isfinite(places).all(axis=1)
    astray = ""
    if not finite.all():
        astray = f" ({int((~finite).sum())} not drawn: no numbers)"
    places, classes = places[finite], classes[finite]

    parts = []
    if len(places):
        low, high = places.min(axis=0), places.max(axis=0)
        # one scale for both axes: distances are what such a picture is made for
        span = max(float((high - low).max()), 1e-9)
        scaled = EDGE + (SIDE - 2 * EDGE) * (places - (low + high) / 2 + span / 2) / span
        for label in np.unique(classes):
            # dots are line ends: a path a class is a tenth of as many circles
            dots = "".join(f"M{x:.0f} {y:.0f}h0" for x, y in scaled[classes == label])
            parts.append(
                f'<path d="{dots}" style="fill:none;stroke:{colour(int(label), len(labels))};'
                'stroke-width:3.4;stroke-linecap:round;stroke-opacity:.75">'
                f"<title>{escape(labels[int(label)])}</title></path>"
            )
    said = escape(f"{title}{astray}")
    return (
        f'<figure><figcaption>{said}</figcaption><svg role="img" aria-label="{said}" '
        f'viewBox="0 0 {SIDE} {SIDE}">{"".join(parts)}</svg></figure>'
    )


def colour(index: int, count: int) -> str:
    """Of a class: hues around the circle, light and dark in turn, seen on white and on black."""
    light = (46, 60)[index % 2]
    return f"hsl({360 * index / max(1, count):.0f} 62% {light}%)"


def _legend(labels: Sequence[str]) -> str:
    keys = []
    for index, label in enumerate(labels[:_NAMED]):
        keys.append(
            f'<span style="white-space:nowrap"><span style="color:{colour(index, len(labels))}">'
            f"&#9679;</span> {escape(short(label))}</span>"
        )
    more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    return f'<p class="soft">{" ".join(keys)}{more}</p>'


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
