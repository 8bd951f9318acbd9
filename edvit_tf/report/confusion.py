"""The section of the page that shows which classes are taken for which."""

from edvit_tf.report.figures import matrix, note, table
from edvit_tf.report.results import Results

# A matrix of more would be megabytes of a page, and no eye would find anything in it.
MOST_CLASSES = 40
MOST_ROWS = 30


def confusion(results: Results) -> str:
    """Counts of true against predicted classes, and how many errors cross from one sub-model's
    group to another's.
    """
    labels = results.labels
    # label -> index of the sub-model that knows it
    group_of = {}
    for j, sub in enumerate(results.sub_models):
        for label in sub.labels:
            group_of[label] = j

    # An error within a group is the sub-model's own; one across groups is the split's.
    errors = across = 0
    for r, row in enumerate(results.confusion):
        for c, count in enumerate(row):
            if r == c:
                continue
            errors += count
            if group_of[labels[r]] != group_of[labels[c]]:
                across += count

    crossing = ""
    if len(results.sub_models) > 1 and not results.knows_all:
        crossing = f" {across} of the {errors} errors are between classes of different sub-models."

    if len(labels) > MOST_CLASSES:
        return _most_confused(results) + note(
            f"Test {results.data.noun}s, fused .tflite files: the {MOST_ROWS} pairs that are "
            f"confused most often; results.json has all counts.{crossing}"
        )
    return matrix(results.confusion, labels) + note(
        f"Test {results.data.noun}s, fused .tflite files: counts, shaded by the share of the true "
        f"class.{crossing}"
    )


def _most_confused(results: Results) -> str:
    """A row for each pair of a true and another class that was named, the most frequent first."""
    pairs = []
    for r, row in enumerate(results.confusion):
        total = sum(row)
        for c, count in enumerate(row):
            if r != c and count:
                pairs.append((count, total, row[r], r, c))
    pairs.sort(key=lambda pair: -pair[0])

    rows = []
    for count, total, right, r, c in pairs[:MOST_ROWS]:
        share = f"{100 * right / total:.0f} % of {total}"
        rows.append([results.labels[r], results.labels[c], count, share])
    head = ["true class", "named", "times", "named right"]
    return table(head, rows, text=(0, 1))
