"""The sections of the page on the data: where they come from, how to ask a bundle about them."""

from html import escape

from edvit_tf.report.confusion import MOST_CLASSES
from edvit_tf.report.entries import Data, Size
from edvit_tf.report.figures import table


def data_used(data: Data) -> str:
    """Where the data come from, how they were split, what was left out."""
    splits = data.splits
    # Where a recording is one window, as a picture is, a second number would only repeat the first.
    windowed = any(split.windows != split.recordings for split in splits.values())

    def cell(size: Size | None) -> str:
        if size is None:
            return "-"
        windows = f" / {size.windows:,}" if windowed else ""
        return f"{size.recordings:,}{windows}"

    rows = []
    for label in _shown_classes(data):
        rows.append([label, *(cell(split.per_class.get(label)) for split in splits.values())])
    rows.append(["all", *(cell(split) for split in splits.values())])

    # Some files by name; of the others their number.
    left_out = f"left out because unreadable: {data.skipped}"
    if data.skipped_files:
        left_out += f": {', '.join(data.skipped_files)}"
    more = data.skipped - len(data.skipped_files)
    if more > 0:
        left_out += f" and {more} more"

    lines = [
        f"{data.name}, {data.source}; seed of the split {data.seed}",
        *data.notes,
        f"padded because shorter than the window: {data.padded}",
        left_out,
    ]

    told = "".join(f"<li>{escape(line)}</li>" for line in lines)
    unlisted = len(data.labels) - (len(rows) - 1)
    some = f"; the five smallest and largest of {len(data.labels)} classes" if unlisted else ""
    caption = f"{data.noun}s{' / windows' if windowed else ''}{some}"
    last = len(rows) - 1
    return f"<ul>{told}</ul>" + table(["class", *splits], rows, strong=(last,), caption=caption)


def _shown_classes(data: Data) -> list[str]:
    """All classes, or of many the smallest and the largest by their training data."""
    labels = list(data.labels)
    sizes = data.splits["train"].per_class if "train" in data.splits else {}
    if len(labels) <= MOST_CLASSES or not sizes.keys() >= set(labels):
        return labels
    labels.sort(key=lambda label: sizes[label].recordings)
    return [*labels[:5], *labels[-5:]]


def usage(data: Data) -> str:
    """The two commands: on a device, and on the computer with the data."""
    where = "" if data.synthetic else " --data-dir DATA"
    return (
        "<p>BUNDLE is the folder of this report. The first on a Raspberry Pi, after <code>pip "
        "install './edvit_tf[device]'</code> of a clone; the second on the computer that has the "
        "data.</p>\n"
        "<pre>python -m edvit_tf.device BUNDLE --predict FILE...\nedvit evaluate "
        f"BUNDLE{where}</pre>"
    )
