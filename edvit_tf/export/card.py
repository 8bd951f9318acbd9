"""The bundle's README.md: what is in the folder, for which input, how to run it. Figures stand in
results.json.
"""

from edvit_tf.data.names import few, named
from edvit_tf.device.model.input_kinds import spec_from_dict
from edvit_tf.device.model.view import view_from_dict
from edvit_tf.models import architecture, shown_widths

SYNTHETIC = (
    "\n> **The data were a synthetic stand-in**, made because no real data were found. Accuracies "
    "mean nothing.\n"
)


def card(manifest: dict) -> str:
    """Markdown text for a manifest."""
    subs = manifest["sub_models"]
    labels = manifest["labels"]
    entry = manifest["input"]

    # cards of bundles of before other architectures
    known = architecture(subs[0]["config"].get("architecture", "vit"))

    devices = len({name for sub in subs for name in sub["devices"]})
    plural = "" if devices == 1 else "s"
    shape = ", ".join(map(str, entry["shape"]))
    given = f"`{entry['name']}`, {entry['dtype']} [1, {shape}]"
    kind = spec_from_dict(entry["spec"]).described
    split = any(len(sub["labels"]) < len(labels) for sub in subs)
    whole = "one sub-model holds" if len(subs) == 1 else "each sub-model knows"
    other = "" if split else f" (not here: {whole} all classes)"
    viewed = any(sub.get("view") for sub in subs)

    title = f"{known.TITLE} {_spread(len(subs), split)} {devices} device{plural}"

    return f"""# {manifest["name"]}: {title}
{SYNTHETIC if manifest["data"]["synthetic"] else ""}
Task: {manifest["task"]}, {_classes(labels)}.
Data: {named(manifest["data"])}, seed {manifest["seed"]}.
Input of each sub-model: {given}, a {kind};
how it is made from a file is in `manifest.json` under `input.spec`. Normalisation is inside the \
models.

{_table(manifest, known.COLUMNS)}

Each sub-model returns `features` [1, d] and `logits` [1, classes + 1]; \
the last logit is "other"{other}.{_VIEWS if viewed else ""}
`fusion.tflite` takes the features of all, in this order (zeros for a missing one), and `present`; \
it returns `probabilities`.

    python -m edvit_tf.device THIS_FOLDER --check              # on a Pi: pip install \
'./edvit_tf[device]', a clone
    python -m edvit_tf.device THIS_FOLDER --predict FILE...
    edvit evaluate THIS_FOLDER --data-dir DATA                 # on the host
    edvit advise THIS_FOLDER                                   # this fleet, or something simpler?
    edvit audit THIS_FOLDER

`.keras` files open with `edvit_tf.models.weights.load_keras`, `fusion.keras` with \
`edvit_tf.training.fusion_layers.load_fusion`. Figures: `results.json`, `report.html`; \
what each model answered to the test split: `predictions.npz`; samples that the fleet names wrong: \
`mistakes.json` (may be deleted).
"""


# Characters for names of classes: manifest.json has those of each sub-model.
_CLASSES_ROOM = 500


def _classes(labels: list[str]) -> str:
    """How many there are, and their names where they are no list of hundreds."""
    if len(", ".join(labels)) <= _CLASSES_ROOM:
        return f"{len(labels)} classes: {', '.join(labels)}"
    return f"{few(labels, _CLASSES_ROOM, 'classes')} (all: `labels.txt`)"


_VIEWS = """
Sub-models have views: whoever runs a file moves, mirrors or crops the input before, as `view` in \
`manifest.json` says. `python -m edvit_tf.device` does."""


def _spread(count: int, split: bool) -> str:
    """How the model is on its devices."""
    return "split over" if split or count == 1 else "on"


def _table(manifest: dict, columns: dict[str, str]) -> str:
    """The sub-models, a row each; `columns` are an architecture's: title -> field of its config."""
    subs = manifest["sub_models"]
    viewed = any(sub.get("view") for sub in subs)
    titles = [
        "sub-model",
        "classes",
        *(["view"] if viewed else []),
        *columns,
        "parameters",
        "MACs (M, the paper's)",
        "file bytes",
        "planned on",
    ]
    rows = [titles, ["---"] * len(titles)]
    for sub in subs:
        is_whole = len(subs) > 1 and len(sub["labels"]) == len(manifest["labels"])
        widths = map(str, shown_widths(sub["config"]).values())
        rows.append(
            [
                sub["name"],
                "all" if is_whole else few(sub["labels"], _CLASSES_ROOM, "classes"),
                *([str(view_from_dict(sub.get("view", {})))] if viewed else []),
                *widths,
                f"{sub['params']:,}",
                f"{sub['macs'] / 1e6:.1f}",
                f"{manifest['files'][sub['file']]['bytes']:,}",
                ", ".join(sub["devices"]),
            ]
        )

    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
