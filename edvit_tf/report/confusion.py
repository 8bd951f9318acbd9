"""The section of the page that shows which classes are taken for which."""

from edvit_tf.report.figures import matrix, note
from edvit_tf.report.results import Results


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

    return matrix(results.confusion, labels) + note(
        f"Test {results.data.noun}s, fused .tflite files: counts, shaded by the share of the true "
        f"class.{crossing}"
    )
