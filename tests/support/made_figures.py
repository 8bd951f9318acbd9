"""A manifest and results as a run writes them, made up."""

LABELS = ["rock", "pop & soul", "jazz", "folk"]
TRAINING = {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3, "optimizer": "adamw"}


def accuracy(share: float, count: int = 200) -> dict:
    return {"recording": share, "recordings": count, "window": share - 0.01, "windows": 2 * count}


def process(median: float) -> dict:
    return {
        "runtime": "tflite-runtime 2.14.0",
        "threads": 1,
        "load_ms": 1.5,
        "peak_rss_bytes": 60 << 20,
        "tensorflow_loaded": False,
        "samples": 400,
        "invoke_ms": {"median": median, "p95": 2 * median},
    }


def stages(classes: int) -> list[dict]:
    return [
        {
            "stage": name,
            "config": {"num_classes": classes},
            "params": 10,
            "macs": 10,
            "seconds": 1.0,
            "history": {"samples": 100},
            "accuracy": {
                step: {"group": share - 0.1, "all": share}
                for step, share in (
                    ("before", 0.9),
                    ("cut", 0.3),
                    *([] if name == "head" else [("repair", 0.4)]),
                    ("fit", 0.6),
                )
            },
        }
        for name in ("head", "residual", "attention", "ffn")
    ]


def model(share: float, size: int, median: float, **more) -> dict:
    parity = {
        "samples": 400,
        "max_relative_error": 2e-6,
        "p95_relative_error": 1e-6,
        "tolerance": 1e-4,
        "ties": 0,
        "differing_top1": 0,
        "ok": True,
    }
    return {
        "params": size // 4,
        "macs": size,
        "macs_full": size + 9,
        "weight_bytes": size - 100,
        "file_bytes": size,
        "tflite": accuracy(share),
        "keras": accuracy(share),
        "process": process(median),
        "parity": parity,
        **more,
    }


def figures(
    fused=0.7, single=0.6, base=0.8, count=2, synthetic=False, labels=LABELS
) -> tuple[dict, dict]:
    """A manifest and results as a run writes them, of `count` sub-models."""
    groups = [labels[j::count] for j in range(count)]
    names = [f"submodel-{j:02d}" for j in range(count)]
    split = {
        "recordings": 200,
        "windows": 400,
        "per_class": {n: {"recordings": 50, "windows": 100} for n in labels},
    }
    data = {
        "name": "gtzan",
        "kind": "audio",
        "synthetic": synthetic,
        "source": "genres",
        "seed": 3,
        "labels": labels,
        "splits": dict.fromkeys(("train", "validation", "test"), split),
        "notes": ["a note"],
        "padded": 7,
        "skipped": 1,
        "skipped_files": ["jazz/jazz.00054.wav"],
    }
    parity = model(0, 1, 1)["parity"]
    rows = [
        {
            "name": n,
            "labels": g,
            "kept_heads": 2,
            "devices": [f"pi-{j}"],
            **{
                k: v
                for k, v in model(0, 40_000 + j, 0.5).items()
                if k not in ("tflite", "keras", "parity")
            },
        }
        | {"stages": stages(len(g) + 1)}
        for j, (n, g) in enumerate(zip(names, groups, strict=True))
    ]
    missing = [
        {"missing": j, "name": n, "tflite": accuracy(0.4), "other_classes": accuracy(0.65, 100)}
        for j, n in enumerate(names)
    ]
    results = {
        "name": "demo",
        "seed": 3,
        "data": data,
        "labels": labels,
        "sub_models": rows,
        "machine": {"cpu": "A CPU", "cores": 2, "system": "Linux", "machine": "x86_64"},
        "base": model(base, 160_000, 2.0, given=None, training={"samples": 1000}),
        "single": None if count == 1 else model(single, 41_000, 0.6, stages=stages(len(labels))),
        "fusion": {
            "tflite": accuracy(fused),
            "keras": accuracy(fused),
            "average": accuracy(fused - 0.02),
            "temperature": 1.25,
            "calibration": {"ece": 0.034, "nll": 0.8},
            "validation_calibration": {
                "samples": 150,
                "before": {"ece": 0.071, "nll": 0.9},
                "after": {"ece": 0.021, "nll": 0.7},
            },
            "file_bytes": 900,
            "process": process(0.1),
        },
        "losses": [
            {"missing": [j], "names": [n], "tflite": accuracy(0.4 + 0.1 * j)}
            for j, n in enumerate(names)
        ],
        "training_macs": {"fleet": 5_000_000_000_000, "single": 4_900_000_000_000},
        "parity": dict.fromkeys([*names, "fused"], parity),
        "missing_one": missing if count > 1 else [],
        "confusion": [[1000 + 10 * r + c for c in range(len(labels))] for r in range(len(labels))],
        "plan": {"total_bytes": 80_000, "budget_bytes": None},
        "seconds": 20.0,
        "peak_rss_bytes": 1 << 30,
        "stage_seconds": {
            "data": 1.0,
            "base": 2.0,
            **{f"{n}.{s['stage']}": 1.5 for n in names for s in stages(2)},
        },
    }
    entries = [
        {
            "index": j,
            "name": n,
            "file": f"{n}.tflite",
            "keras": f"{n}.keras",
            "flavours": {},
            "classes": [labels.index(label) for label in g],
            "labels": g,
            "other": True,
            "config": {"hidden_dim": 24, "num_heads": 2, "mlp_dim": 48},
            "params": 1,
            "macs": 1,
            "macs_full": 1,
            "weight_bytes": 1,
            "devices": [f"pi-{j}"],
        }
        for j, (n, g) in enumerate(zip(names, groups, strict=True))
    ]
    manifest = {
        "schema_version": 1,
        "name": "demo",
        "task": "audio-classification",
        "labels": labels,
        "input": {"name": "mel", "dtype": "float32", "shape": [64, 64, 1], "spec": {}},
        "files": {},
        "sub_models": entries,
        "fusion": {
            "file": "fusion.tflite",
            "keras": "fusion.keras",
            "widths": [24] * count,
            "lambda": 0.5,
        },
        "seed": 3,
        "versions": {"keras": "3"},
        "plan": {
            "devices": [
                {"name": f"pi-{j}", "memory_bytes": 1 << 20, "compute_macs": None}
                for j in range(count + 1)
            ],
            "budget_bytes": None,
            "strategy": "random",
            "assignment": "greedy",
            "samples": 1,
        },
        "data": {},
        "run": {
            "model": "vit_cpu",
            "budget_bytes": None,
            "data": {},
            "seed": 3,
            **dict.fromkeys(("base_training", "stage_training", "fusion_training"), TRAINING),
        },
    }
    return manifest, results


VIEWS = [
    {"down": 0, "right": 0, "mirrored": False, "crop": 0},
    {"down": 0, "right": 0, "mirrored": True, "crop": 0},
    {"down": 7, "right": 0, "mirrored": False, "crop": 0},
    {"down": 0, "right": -7, "mirrored": False, "crop": 5},
]


def with_copies(results: dict, shares: list[float]) -> None:
    """Puts copies of the single model beside a fleet: their accuracy by number of devices."""
    tested = [{"devices": n, "tflite": accuracy(share)} for n, share in enumerate(shares, 1)]
    results["copies"] = {
        "views": VIEWS[: len(shares)],
        "validation": [
            {"devices": n, "accuracy": share + 0.01} for n, share in enumerate(shares, 1)
        ],
        "test": tested,
        "file_bytes": 41_000,
        "temperature": 1.1,
        "bound": None,
        "calibration": {"ece": 0.02, "nll": 0.7},
    }


def copies_figures(shares: list[float], single: float = 0.6) -> tuple[dict, dict]:
    """A manifest and results of a fleet of copies, as many as there are `shares`."""
    count = len(shares)
    manifest, results = figures(shares[-1], single, count=count)
    with_copies(results, shares)
    results["fusion"]["average"] = results["fusion"]["tflite"]

    for sub, lost, entry, view in zip(
        results["sub_models"],
        results["missing_one"],
        manifest["sub_models"],
        VIEWS,
        strict=False,
    ):
        sub["labels"] = LABELS
        sub["stages"] = []
        lost["other_classes"] = None
        entry |= {"classes": [0, 1, 2, 3], "labels": LABELS, "other": False, "view": view}

    manifest["fusion"]["kind"] = "average"
    manifest["plan"]["strategy"] = "copies"
    results["fleet"] = {
        "kind": "copies",
        "asked": "auto",
        "reason": "of 4 classes; members trained together gain nothing below 50",
        "gap": 0.21,
        "single_validation": 0.61,
        "views": VIEWS[:count],
    }
    results["disagreement"] = 0.1
    results["members_samples"] = [4000] * count
    return manifest, results
