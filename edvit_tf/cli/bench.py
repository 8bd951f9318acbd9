"""`edvit bench ...`: what this machine is measured with."""

import json
import sys
from pathlib import Path

from edvit_tf.cli.bench_backends import add_backends
from edvit_tf.cli.bench_calibrate import add_calibrate
from edvit_tf.cli.bench_engines import add_engines
from edvit_tf.cli.bench_heads import add_heads
from edvit_tf.cli.bench_load import add_load
from edvit_tf.cli.bench_many import add_availability, add_many
from edvit_tf.cli.bench_scaling import add_scaling
from edvit_tf.cli.bench_sizes import add_nets, add_paper
from edvit_tf.cli.output import add_json, show
from edvit_tf.cli.values import counts, names, natural, positive, share, user_path
from edvit_tf.device.strict_json import finite_json


def add_bench(commands) -> None:
    """Adds `bench plan`, `bench availability`, `bench many`, `bench scores`, `bench training`,
    `bench scaling`, `bench backends`, `bench latency`, `bench engines`, `bench heads`,
    `bench calibrate`, `bench fleet`, `bench load`, `bench views`, `bench nets` and `bench paper` to
    those of `edvit`.
    """
    parser = commands.add_parser("bench", help="benchmarks of this machine")
    benches = parser.add_subparsers(required=True, metavar="WHAT")
    _add_plan(benches)
    add_availability(benches)
    add_many(benches)
    _add_scores(benches)
    _add_training(benches)
    add_scaling(benches)
    add_backends(benches)
    _add_latency(benches)
    add_engines(benches)
    add_heads(benches)
    add_calibrate(benches)
    _add_fleet(benches)
    add_load(benches)
    _add_views(benches)
    add_nets(benches)
    add_paper(benches)


def _add_plan(benches) -> None:
    parser = benches.add_parser(
        "plan", help="greedy planning of a large fleet; greedy against optimal"
    )
    parser.add_argument("--sub-models", type=int, default=1000, help="default 1000")
    parser.add_argument("--devices", type=int, default=1000, help="default 1000")
    parser.add_argument(
        "--runs", type=int, default=20, help="timed runs of greedy, after 3 to warm up (default 20)"
    )
    parser.add_argument(
        "--instances", type=int, default=200, help="random instances for the gap (default 200)"
    )
    parser.add_argument("--seed", type=natural, default=0)
    add_json(parser)
    parser.set_defaults(run=_bench_plan)


def _bench_plan(args) -> int:
    from edvit_tf.bench.plan import bench_plan, plan_text

    result = bench_plan(args.sub_models, args.devices, args.runs, args.instances, args.seed)
    show(args, result, plan_text(result))
    return 0


def _add_scores(benches) -> None:
    parser = benches.add_parser(
        "scores", help="seconds and memory of linearised scores, and against leave-one-out"
    )
    parser.add_argument(
        "--model",
        default="vit_base",
        help="preset (default vit_base), random weights",
    )
    parser.add_argument(
        "--image-size", type=positive, default=224, help="pixels a side, 3 channels (default 224)"
    )
    parser.add_argument("--patch-size", type=positive, help="default: the preset's")
    parser.add_argument("--classes", type=positive, default=10, help="default 10")
    parser.add_argument(
        "--samples", type=positive, default=64, help="calibration images (default 64)"
    )
    parser.add_argument(
        "--units",
        type=positive,
        default=8,
        help="leave-one-out is extrapolated from so many units "
        "a layer, and twice as many (default 8)",
    )
    parser.add_argument("--runs", type=positive, default=3, help="alternating runs (default 3)")
    parser.add_argument("--seed", type=natural, default=0)
    add_json(parser)
    parser.set_defaults(run=_bench_scores)


def _bench_scores(args) -> int:
    from edvit_tf.models import preset
    from edvit_tf.study.scores import cost, cost_table

    patches = {} if args.patch_size is None else {"patch_size": args.patch_size}
    size = args.image_size
    config = preset(args.model, (size, size, 3), args.classes, **patches)

    figures = cost(config, samples=args.samples, units=args.units, runs=args.runs, seed=args.seed)
    show(args, figures, f"{args.model}: {cost_table(figures)}")
    return 0


def _add_training(benches) -> None:
    parser = benches.add_parser(
        "training", help="a training step: float32 and bfloat16, our layers and Keras's"
    )
    parser.add_argument(
        "--model", default="vit_small", help="preset (default vit_small), random weights"
    )
    parser.add_argument(
        "--image-size", type=positive, default=98, help="pixels a side, 3 channels (default 98)"
    )
    parser.add_argument("--patch-size", type=positive, default=14, help="default 14")
    parser.add_argument(
        "--heads", type=positive, help="heads kept, all but narrower (default: the whole base)"
    )
    parser.add_argument("--batch", type=positive, default=64, help="default 64")
    parser.add_argument("--threads", type=positive, default=1, help="default 1")
    parser.add_argument(
        "--patch-dropout", type=share, default=0.5, help="share of patches left out (default 0.5)"
    )
    parser.add_argument("--turns", type=positive, default=5, help="alternating turns (default 5)")
    parser.add_argument(
        "--steps", type=positive, default=3, help="a turn, after 2 to warm up (default 3)"
    )
    parser.add_argument(
        "--optimizers",
        choices=("float32", "bfloat16"),
        help="AdamW and Muon instead, ours and Keras's, in fits of this precision, on all patches",
    )
    add_json(parser)
    parser.set_defaults(run=_bench_training)


def _bench_training(args) -> int:
    from edvit_tf.bench.training import (
        bench_optimizers,
        bench_training,
        optimizers_text,
        training_text,
    )
    from edvit_tf.models import preset

    size = args.image_size
    config = preset(args.model, (size, size, 3), 10, patch_size=args.patch_size)

    # As a sub-model is trained: cut to its width, here with all heads kept and narrower.
    if args.heads is not None:
        config = config.pruned(args.heads, 10, "keep")

    if args.optimizers is not None:
        result = bench_optimizers(
            config,
            batch=args.batch,
            threads=args.threads,
            precision=args.optimizers,
            turns=args.turns,
            steps=args.steps,
        )
        show(args, result, optimizers_text(result))
        return 0

    result = bench_training(
        config,
        batch=args.batch,
        threads=args.threads,
        patch_dropout=args.patch_dropout,
        turns=args.turns,
        steps=args.steps,
    )
    show(args, result, training_text(result))
    return 0


def _add_latency(benches) -> None:
    parser = benches.add_parser(
        "latency", help="a sub-model in the TFLite runtimes, beside other runtimes"
    )
    parser.add_argument(
        "bundle", type=user_path, nargs="?", help="a bundle, or one .keras file; without it --model"
    )
    parser.add_argument("--submodel", type=natural, default=0, help="of the bundle (default 0)")
    parser.add_argument(
        "--model",
        default="vit_base",
        help="preset (default vit_base), random weights",
    )
    parser.add_argument(
        "--image-size", type=positive, default=224, help="pixels a side, 3 channels (default 224)"
    )
    parser.add_argument("--patch-size", type=positive, help="default: the preset's")
    parser.add_argument("--heads", type=positive, default=2, help="heads kept (default 2)")
    parser.add_argument(
        "--cut-heads",
        choices=("merge", "keep"),
        default="merge",
        help="widths of that cut (default merge)",
    )
    parser.add_argument(
        "--pre-gelu", type=float, default=1.5, help="standard deviation before GELU (default 1.5)"
    )
    parser.add_argument("--threads", type=counts, default=(1,), help="e.g. 1,2 (default 1)")
    parser.add_argument(
        "--runs", type=positive, default=40, help="a turn, after 5 to warm up (default 40)"
    )
    parser.add_argument("--turns", type=positive, default=5, help="alternating turns (default 5)")
    parser.add_argument(
        "--against",
        type=names,
        help="rivals, e.g. onnxruntime,openvino; none (default: all that are installed)",
    )
    parser.add_argument("--naive", action="store_true", help="Keras's own export beside ours")
    parser.add_argument(
        "--quantizer",
        action="store_true",
        help="what ai-edge-quantizer makes of a preset, int8 and int4",
    )
    parser.add_argument(
        "--store",
        action="store_true",
        help="keep the figures in the bundle, as latency.json, and show them in its report",
    )
    add_json(parser)
    parser.set_defaults(run=_bench_latency)


def _bench_latency(args) -> int:
    from edvit_tf.bench.latency import bench_latency, latency_text
    from edvit_tf.errors import ConfigError

    # A bundle's sub-model, a .keras file, or a preset with made-up weights.
    is_bundle = args.bundle is not None and args.bundle.suffix != ".keras"
    if args.store and not is_bundle:
        raise ConfigError(
            "--store keeps figures in a bundle; none was given. Name a bundle, or use --json."
        )

    if args.quantizer and is_bundle:
        raise ConfigError(
            "--quantizer is for a preset or a .keras file; `edvit study quantized` measures a "
            "bundle."
        )

    # One model, from wherever it comes; only a bundle brings files of its own, else they are
    # exported.
    if is_bundle:
        config, weights, files = _model_of_bundle(args.bundle, args.submodel)
    elif args.bundle is not None:
        config, weights = _model_of_keras_file(args.bundle)
        files = {}
    else:
        config, weights = _random_model(args)
        files = {}

    result = bench_latency(
        config,
        weights,
        threads=args.threads,
        runs=args.runs,
        turns=args.turns,
        against=None if args.against is None else [n for n in args.against if n != "none"],
        naive=args.naive,
        quantizer=args.quantizer,
        **files,
    )

    if args.store:
        _store(args.bundle, args.submodel, result)
    show(args, result, latency_text(result))
    return 0


def _random_model(args) -> tuple:
    """Configuration and weights of a preset that is cut as `--heads` and `--cut-heads` say."""
    from edvit_tf.models import preset
    from edvit_tf.models.vit.spread import spread_weights

    patches = {} if args.patch_size is None else {"patch_size": args.patch_size}
    size = args.image_size
    config = preset(args.model, (size, size, 3), 10, **patches)
    config = config.pruned(args.heads, 10, args.cut_heads)

    # As wide before GELU as in a trained model: near 0 its erf is several times faster.
    return config, spread_weights(config, args.pre_gelu)


def _model_of_keras_file(path: Path) -> tuple:
    """Configuration and weights of a ViT in a .keras file of ours; ConfigError for another
    model.
    """
    from edvit_tf.errors import ConfigError
    from edvit_tf.models.vit.keras_model import config_of
    from edvit_tf.models.weights import get_weights, load_keras

    try:
        model = load_keras(path)
        return config_of(model), get_weights(model)
    except ValueError as error:
        raise ConfigError(
            f"{path} is no .keras file of a ViT of ours: {error}. Take one from a bundle."
        ) from error


def _model_of_bundle(path: Path, index: int) -> tuple:
    """Configuration and weights of a sub-model, and its own files for `bench_latency`."""
    from edvit_tf.device.model.bundle import open_bundle, verified_path

    bundle = open_bundle(path)
    entry = bundle.entry(index)
    config, weights = _model_of_keras_file(verified_path(bundle, entry.keras))

    files = {}
    for flavour, stored in entry.flavours.items():
        files[flavour] = verified_path(bundle, stored.file)

    given = bundle.input
    options = {"files": files, "input_name": given.name, "input_dtype": given.dtype}

    return config, weights, options


def _store(path: Path, index: int, result: dict) -> None:
    """latency.json of a bundle, in the place of an older one: the newest measurement is what was
    asked for.
    """
    from edvit_tf.device.model.bundle import open_bundle
    from edvit_tf.report.page import write_report

    stored = {"submodel": open_bundle(path).entry(index).name, **result}
    (path / "latency.json").write_text(json.dumps(finite_json(stored), indent=1), encoding="utf-8")

    print(f"stored in {path / 'latency.json'}; shown in {write_report(path)}", file=sys.stderr)


def _add_fleet(benches) -> None:
    parser = benches.add_parser(
        "fleet", help="workers, an aggregator and a client here: milliseconds beside the models'"
    )
    parser.add_argument("bundle", type=user_path)
    parser.add_argument("--devices", type=positive, help="workers (default: one a sub-model)")
    parser.add_argument(
        "--runs", type=positive, default=200, help="requests, after 20 to warm up (default 200)"
    )
    add_json(parser)
    parser.set_defaults(run=_bench_fleet)


def _bench_fleet(args) -> int:
    from edvit_tf.bench.fleet import bench_fleet, fleet_text

    result = bench_fleet(args.bundle, args.devices, args.runs)
    show(args, result, fleet_text(result))
    return 0


def _add_views(benches) -> None:
    parser = benches.add_parser("views", help="what a view of an input costs a worker")
    parser.add_argument(
        "--size", type=positive, default=98, help="rows and columns of the input (default 98)"
    )
    parser.add_argument(
        "--runs", type=positive, default=2000, help="views, after 20 to warm up (default 2000)"
    )
    add_json(parser)
    parser.set_defaults(run=_bench_views)


def _bench_views(args) -> int:
    from edvit_tf.bench.views import bench_views, views_text

    rows = bench_views(args.size, args.runs)
    show(args, rows, views_text(rows))
    return 0
