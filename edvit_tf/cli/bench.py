"""`edvit bench ...`: what this machine is measured with."""

import json
import sys
from pathlib import Path

from edvit_tf.cli.values import counts, natural, positive, share


def add_bench(commands) -> None:
    """Adds `bench plan`, `bench scores`, `bench training`, `bench latency` and `bench fleet` to
    those of `edvit`.
    """
    bench = commands.add_parser("bench", help="benchmarks of this machine").add_subparsers(
        required=True, metavar="WHAT"
    )
    planning = bench.add_parser(
        "plan", help="greedy planning of a large fleet; greedy against optimal"
    )
    planning.add_argument("--sub-models", type=int, default=1000)
    planning.add_argument("--devices", type=int, default=1000)
    planning.add_argument(
        "--runs", type=int, default=20, help="timed runs of greedy, after 3 to warm up (default 20)"
    )
    planning.add_argument(
        "--instances", type=int, default=200, help="random instances for the gap (default 200)"
    )
    planning.add_argument("--seed", type=natural, default=0)
    planning.add_argument("--json", action="store_true")
    planning.set_defaults(run=_bench_plan)

    scoring = bench.add_parser(
        "scores", help="seconds and memory of linearised scores, and against leave-one-out"
    )
    scoring.add_argument(
        "--model",
        default="vit_base",
        help="preset (default vit_base), 224 x 224 x 3, random weights",
    )
    scoring.add_argument("--classes", type=positive, default=10)
    scoring.add_argument(
        "--samples", type=positive, default=64, help="calibration images (default 64)"
    )
    scoring.add_argument(
        "--units",
        type=positive,
        default=8,
        help="leave-one-out is extrapolated from so many units "
        "a layer, and twice as many (default 8)",
    )
    scoring.add_argument("--runs", type=positive, default=3, help="alternating runs (default 3)")
    scoring.add_argument("--seed", type=natural, default=0)
    scoring.add_argument("--json", action="store_true")
    scoring.set_defaults(run=_bench_scores)

    training = bench.add_parser(
        "training", help="a training step: float32 and bfloat16, our layers and Keras's"
    )
    training.add_argument(
        "--model", default="vit_small", help="preset (default vit_small), random weights"
    )
    training.add_argument(
        "--image-size", type=positive, default=98, help="pixels a side, 3 channels (default 98)"
    )
    training.add_argument("--patch-size", type=positive, default=14, help="default 14")
    training.add_argument(
        "--heads", type=positive, help="heads kept, all but narrower (default: the whole base)"
    )
    training.add_argument("--batch", type=positive, default=64)
    training.add_argument("--threads", type=positive, default=1)
    training.add_argument(
        "--patch-dropout", type=share, default=0.5, help="share of patches left out (default 0.5)"
    )
    training.add_argument("--turns", type=positive, default=5, help="alternating turns (default 5)")
    training.add_argument(
        "--steps", type=positive, default=3, help="a turn, after 2 to warm up (default 3)"
    )
    training.add_argument("--json", action="store_true")
    training.set_defaults(run=_bench_training)

    latency = bench.add_parser(
        "latency", help="a sub-model in the TFLite runtimes, beside other runtimes"
    )
    latency.add_argument(
        "bundle", type=Path, nargs="?", help="a bundle, or one .keras file; without it --model"
    )
    latency.add_argument("--submodel", type=natural, default=0, help="of the bundle (default 0)")
    latency.add_argument(
        "--model",
        default="vit_base",
        help="preset (default vit_base), 224 x 224 x 3, random weights",
    )
    latency.add_argument("--heads", type=positive, default=2, help="heads kept (default 2)")
    latency.add_argument(
        "--cut-heads", choices=("merge", "keep"), default="merge", help="widths of that cut"
    )
    latency.add_argument(
        "--pre-gelu", type=float, default=1.5, help="standard deviation before GELU (default 1.5)"
    )
    latency.add_argument("--threads", type=counts, default=(1,), help="e.g. 1,2 (default 1)")
    latency.add_argument(
        "--runs", type=positive, default=40, help="a turn, after 5 to warm up (default 40)"
    )
    latency.add_argument("--turns", type=positive, default=5, help="alternating turns (default 5)")
    latency.add_argument(
        "--against",
        help="rivals, e.g. onnxruntime,openvino; none (default: all that are installed)",
    )
    latency.add_argument("--naive", action="store_true", help="Keras's own export beside ours")
    latency.add_argument(
        "--store",
        action="store_true",
        help="keep the figures in the bundle, as latency.json, and show them in its report",
    )
    latency.add_argument("--json", action="store_true")
    latency.set_defaults(run=_bench_latency)

    fleet = bench.add_parser(
        "fleet", help="workers, an aggregator and a client here: milliseconds beside the models'"
    )
    fleet.add_argument("bundle", type=Path)
    fleet.add_argument("--devices", type=positive, help="workers (default: one a sub-model)")
    fleet.add_argument(
        "--runs", type=positive, default=200, help="requests, after 20 to warm up (default 200)"
    )
    fleet.add_argument("--json", action="store_true")
    fleet.set_defaults(run=_bench_fleet)


def _bench_plan(args) -> int:
    from edvit_tf.bench.plan import bench_plan, plan_text

    result = bench_plan(args.sub_models, args.devices, args.runs, args.instances, args.seed)
    print(json.dumps(result, indent=1) if args.json else plan_text(result))
    return 0


def _bench_fleet(args) -> int:
    from edvit_tf.bench.fleet import bench_fleet, fleet_text
    from edvit_tf.device.model.bundle import open_bundle

    devices = len(open_bundle(args.bundle).sub_models) if args.devices is None else args.devices
    result = bench_fleet(args.bundle, devices, args.runs)
    print(json.dumps(result, indent=1) if args.json else fleet_text(result))
    return 0


def _bench_training(args) -> int:
    from edvit_tf.bench.training import bench_training, training_text
    from edvit_tf.models.vit.presets import vit_config

    size = args.image_size
    config = vit_config(args.model, (size, size, 3), 10, patch_size=args.patch_size)
    if args.heads is not None:
        config = config.pruned(args.heads, 10, "keep")
    result = bench_training(
        config,
        batch=args.batch,
        threads=args.threads,
        patch_dropout=args.patch_dropout,
        turns=args.turns,
        steps=args.steps,
    )
    print(json.dumps(result, indent=1) if args.json else training_text(result))
    return 0


def _bench_latency(args) -> int:
    from edvit_tf.bench.latency import bench_latency, latency_text, spread_weights
    from edvit_tf.errors import ConfigError
    from edvit_tf.models.vit.presets import vit_config

    if args.store and (args.bundle is None or args.bundle.suffix == ".keras"):
        raise ConfigError(
            "--store keeps figures in a bundle; none was given. Name a bundle, or use --json."
        )
    against = (
        None if args.against is None else tuple(n for n in args.against.split(",") if n != "none")
    )
    options = {
        "threads": args.threads,
        "runs": args.runs,
        "turns": args.turns,
        "against": against,
        "naive": args.naive,
    }
    if args.bundle is None:
        config = vit_config(args.model, (224, 224, 3), 10).pruned(args.heads, 10, args.cut_heads)
        result = bench_latency(config, spread_weights(config, args.pre_gelu), **options)
    elif args.bundle.suffix == ".keras":
        result = bench_latency(*_keras_file(args.bundle), **options)
    else:
        from edvit_tf.device.model.bundle import open_bundle, verified_path

        bundle = open_bundle(args.bundle)
        entry = bundle.entry(args.submodel)
        files = {
            name: verified_path(bundle, flavour["file"])
            for name, flavour in entry["flavours"].items()
        }
        result = bench_latency(
            *_keras_file(verified_path(bundle, entry["keras"])),
            files=files,
            input_name=bundle.manifest["input"]["name"],
            **options,
        )
        if args.store:
            _store(args.bundle, {"submodel": entry["name"], **result})
    print(json.dumps(result, indent=1) if args.json else latency_text(result))
    return 0


def _store(bundle: Path, result: dict) -> None:
    """latency.json of a bundle, in the place of an older one: the newest measurement is what was
    asked for.
    """
    from edvit_tf.report.page import write_report

    (bundle / "latency.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(f"stored in {bundle / 'latency.json'}; shown in {write_report(bundle)}", file=sys.stderr)


def _keras_file(path: Path) -> tuple:
    """Configuration and weights of a ViT in a .keras file of ours; ConfigError for another
    model.
    """
    import keras

    import edvit_tf.models.vit.layers  # noqa: F401  (registers what .keras files hold)
    from edvit_tf.errors import ConfigError
    from edvit_tf.models.vit.keras_model import config_of, get_weights

    try:
        model = keras.models.load_model(path, compile=False)
        return config_of(model), get_weights(model)
    except ValueError as error:
        raise ConfigError(
            f"{path} is no .keras file of a ViT of ours: {error}. Take one from a bundle."
        ) from error


def _bench_scores(args) -> int:
    from edvit_tf.models.vit.presets import vit_config
    from edvit_tf.study.scores import cost, cost_table

    config = vit_config(args.model, (224, 224, 3), args.classes)
    figures = cost(config, samples=args.samples, units=args.units, runs=args.runs, seed=args.seed)
    print(json.dumps(figures, indent=1) if args.json else f"{args.model}: {cost_table(figures)}")
    return 0
