"""The head of a bundle's README.md, in YAML, by which the hub lists it: what it is, and what was
measured. What was not measured is not in it.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

FENCE = "---\n"
TAGS = ("edvit", "tflite", "edge", "raspberry-pi")


def with_head(text: str, manifest: Mapping[str, Any], results: Mapping[str, Any] | None) -> str:
    """A README.md with this head in the place of what head it had."""
    if text.startswith(FENCE) and FENCE in text[len(FENCE) :]:
        text = text[len(FENCE) :].partition(FENCE)[2].lstrip("\n")
    return f"{FENCE}{_yaml(_head(manifest, results))}{FENCE}\n{text}"


def _head(manifest: Mapping[str, Any], results: Mapping[str, Any] | None) -> dict[str, Any]:
    data = manifest["data"]
    task = manifest["task"]  # as the hub names it
    head: dict[str, Any] = {
        "library_name": "edvit_tf",
        "pipeline_tag": task,
        "tags": [*TAGS, *_architectures(manifest)],
    }
    # figures of made-up data would be compared with those of real ones
    if data["synthetic"]:
        head["tags"].append("synthetic-data")
        return head

    metrics = _metrics(results or {})
    if metrics:
        head["metrics"] = ["accuracy"]
        head["model-index"] = [
            {
                "name": manifest["name"],
                "results": [
                    {
                        "task": {"type": task},
                        "dataset": {
                            "name": data["name"],
                            "type": _slug(data["name"]),
                            "split": "test",
                        },
                        "metrics": metrics,
                    }
                ],
            }
        ]
    return head


def _architectures(manifest: Mapping[str, Any]) -> list[str]:
    """What its sub-models are, as the hub tags it: vit, bert, vgg, snn."""
    configs = [sub.get("config", {}) for sub in manifest.get("sub_models", ())]
    # those of before other architectures do not say
    return sorted({str(config.get("architecture", "vit")) for config in configs})


def _metrics(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the .tflite files came to on the test split."""
    fusion = results.get("fusion") or {}
    right = fusion.get("tflite") or {}
    count = right.get("recordings")
    found = [("accuracy", f"accuracy of the fused fleet, {count} of the test split", right)]
    single = (results.get("single") or {}).get("tflite") or {}
    found.append(("accuracy", "accuracy of one model of a device's size, same split", single))

    metrics = []
    for kind, name, one in found:
        value = one.get("recording")
        if isinstance(value, int | float) and math.isfinite(value):
            metrics.append({"type": kind, "name": name, "value": round(float(value), 4)})
    ece = (fusion.get("calibration") or {}).get("ece")
    if isinstance(ece, int | float) and math.isfinite(ece):
        name = "expected calibration error of the fused fleet"
        metrics.append({"type": "ece", "name": name, "value": round(float(ece), 4)})
    return metrics


def _slug(name: str) -> str:
    """A name as the hub takes one of a data set."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-.") or "own-data"


def _yaml(value: Any, indent: str = "") -> str:
    """YAML of dictionaries and lists; a text or a number is as JSON has it, which YAML takes."""
    lines = []
    pairs = value.items() if isinstance(value, dict) else ((None, one) for one in value)
    for key, one in pairs:
        start = f"{indent}- " if key is None else f"{indent}{key}:"
        if isinstance(one, dict | list):
            inner = _yaml(one, indent + "  ")
            # the first line of a list's entry stands behind its dash
            lines.append(start + inner.lstrip() if key is None else f"{start}\n{inner}")
        else:
            space = "" if key is None else " "
            lines.append(f"{start}{space}{json.dumps(one, ensure_ascii=False)}\n")
    return "".join(lines)
