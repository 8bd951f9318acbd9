"""The bundle's README.md: what is in the folder, for which input, how to run it. Figures stand in
results.json.
"""

from edvit_tf.device.model.input_kinds import spec_from_dict


def card(manifest: dict) -> str:
    """Markdown text for a manifest."""
    labels, entry = manifest["labels"], manifest["input"]
    devices = len({name for s in manifest["sub_models"] for name in s["devices"]})
    synthetic = (
        "\n> **The data were a synthetic stand-in**, made because no real data were found. "
        "Accuracies mean nothing.\n"
        if manifest["data"]["synthetic"]
        else ""
    )
    rows = "\n".join(
        f"| {s['name']} | {', '.join(s['labels'])} | {s['config']['num_heads']} | {s['params']:,} "
        "| "
        f"{s['macs'] / 1e6:.1f} | "
        f"{manifest['files'][s['file']]['bytes']:,} | {', '.join(s['devices'])} |"
        for s in manifest["sub_models"]
    )
    return f"""# {manifest["name"]}: a Vision Transformer split over {devices} device{
        "s" * (devices != 1)
    }
{synthetic}
Task: {manifest["task"]}, {len(labels)} classes: {", ".join(labels)}.
Data: {manifest["data"]["name"]} ({manifest["data"]["source"]}), seed {manifest["seed"]}.
Input of each sub-model: `{entry["name"]}`, {entry["dtype"]} [1, {
        ", ".join(map(str, entry["shape"]))
    }], a {spec_from_dict(entry["spec"]).described};
how it is made from a file is in `manifest.json` under `input.spec`. Normalisation is inside the models.

| sub-model | classes | heads | parameters | MACs (M, no attention products) | file bytes | planned on |
|---|---|---|---|---|---|---|
{rows}

Each sub-model returns `features` [1, d] and `logits` [1, classes + 1]; the last logit is "other"{
        " (not here: one sub-model holds all classes)" if len(manifest["sub_models"]) == 1 else ""
    }.
`fusion.tflite` takes the features of all, in this order (zeros for a missing one), and `present`; \
it returns `probabilities`.

    python -m edvit_tf.device THIS_FOLDER --check              # on a Pi: pip install './edvit_tf[device]', a clone
    python -m edvit_tf.device THIS_FOLDER --predict FILE...
    edvit evaluate THIS_FOLDER --data-dir DATA                 # on the host
    edvit audit THIS_FOLDER

`.keras` files open with `keras.models.load_model` after `import edvit_tf.models.vit.keras_model`. \
Figures: `results.json`, `report.html`.
"""
