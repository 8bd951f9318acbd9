"""`edvit bench ...` and `edvit study ...`: what this machine and the method are measured with."""

import argparse
import contextlib
import json
import sys
from pathlib import Path


def add_bench(commands) -> None:
    """Adds `bench plan`, `bench scores`, `bench latency` and `bench fleet` to the subparsers of `edvit`."""
    bench = commands.add_parser("bench", help="benchmarks of this machine").add_subparsers(
        required=True, metavar="WHAT")
    planning = bench.add_parser("plan", help="greedy planning of a large fleet; greedy against optimal")
    planning.add_argument("--sub-models", type=int, default=1000)
    planning.add_argument("--devices", type=int, default=1000)
    planning.add_argument("--runs", type=int, default=20, help="timed runs of greedy, after 3 to warm up (default 20)")
    planning.add_argument("--instances", type=int, default=200, help="random instances for the gap (default 200)")
    planning.add_argument("--seed", type=natural, default=0)
    planning.add_argument("--json", action="store_true")
    planning.set_defaults(run=_bench_plan)

    scoring = bench.add_parser("scores", help="seconds and memory of linearised scores, and against leave-one-out")
    scoring.add_argument("--model", default="vit_base", help="preset (default vit_base), 224 x 224 x 3, random weights")
    scoring.add_argument("--classes", type=positive, default=10)
    scoring.add_argument("--samples", type=positive, default=64, help="calibration images (default 64)")
    scoring.add_argument("--units", type=positive, default=8, help="leave-one-out is extrapolated from so many units "
                         "a layer, and twice as many (default 8)")
    scoring.add_argument("--runs", type=positive, default=3, help="alternating runs (default 3)")
    scoring.add_argument("--seed", type=natural, default=0)
    scoring.add_argument("--json", action="store_true")
    scoring.set_defaults(run=_bench_scores)

    latency = bench.add_parser("latency", help="a sub-model in the TFLite runtimes, beside other runtimes")
    latency.add_argument("bundle", type=Path, nargs="?", help="a bundle, or one .keras file; without it --model")
    latency.add_argument("--submodel", type=natural, default=0, help="of the bundle (default 0)")
    latency.add_argument("--model", default="vit_base", help="preset (default vit_base), 224 x 224 x 3, random weights")
    latency.add_argument("--heads", type=positive, default=2, help="heads kept (default 2)")
    latency.add_argument("--cut-heads", choices=("merge", "keep"), default="merge", help="widths of that cut")
    latency.add_argument("--pre-gelu", type=float, default=1.5, help="standard deviation before GELU (default 1.5)")
    latency.add_argument("--threads", type=counts, default=(1,), help="e.g. 1,2 (default 1)")
    latency.add_argument("--runs", type=positive, default=40, help="a turn, after 5 to warm up (default 40)")
    latency.add_argument("--turns", type=positive, default=5, help="alternating turns (default 5)")
    latency.add_argument("--against", help="rivals, e.g. onnxruntime,openvino; none (default: all that are installed)")
    latency.add_argument("--naive", action="store_true", help="Keras's own export beside ours")
    latency.add_argument("--store", action="store_true", help="keep the figures in the bundle, as latency.json, and "
                         "show them in its report")
    latency.add_argument("--json", action="store_true")
    latency.set_defaults(run=_bench_latency)

    fleet = bench.add_parser("fleet", help="workers, an aggregator and a client here: milliseconds beside the models'")
    fleet.add_argument("bundle", type=Path)
    fleet.add_argument("--devices", type=positive, help="workers (default: one a sub-model)")
    fleet.add_argument("--runs", type=positive, default=200, help="requests, after 20 to warm up (default 200)")
    fleet.add_argument("--json", action="store_true")
    fleet.set_defaults(run=_bench_fleet)


def add_study(commands) -> None:
    """Adds `study scores` and `study cuts`."""
    study = commands.add_parser("study", help="tables of the method on a trained base").add_subparsers(
        required=True, metavar="WHAT")
    few = study.add_parser("clusters", help="weights on few values: bytes over a slow link against accuracy")
    few.add_argument("bundle", type=Path)
    few.add_argument("--data-dir", type=Path)
    few.add_argument("--clusters", type=counts, default=(64, 32, 16), help="values a matrix (default 64,32,16)")
    few.add_argument("--epochs", type=naturals, default=(0, 1), help="of training the centroids (default 0,1)")
    few.add_argument("--samples", type=positive, default=600, help="training inputs of an epoch (default 600)")
    few.add_argument("--split", choices=("validation", "test"), default="validation")
    few.add_argument("--out", type=Path, help="JSON lines of finished rows; the same command goes on after them")
    few.add_argument("--seed", type=natural, default=0)
    few.add_argument("--json", action="store_true", help="the rows, in the place of the table")
    few.set_defaults(run=_study_clusters)
    for name, text, run in (("scores", "rank agreement of the scores with leave-one-out", _study_scores),
                            ("cuts", "accuracy after each cut, repair and fit, by every option", _study_cuts)):
        each = study.add_parser(name, help=text)
        each.add_argument("--base", required=True, metavar="WEIGHTS", help="a base fine-tuned on the data set: .keras, "
                          "checkpoint folder or hub name")
        each.add_argument("--data", default="cifar10", help="data set (default cifar10)")
        each.add_argument("--data-dir", type=Path)
        each.add_argument("--out", type=Path, help="JSON lines of finished rows; the same command goes on after them")
        each.add_argument("--seed", type=natural, default=0)
        each.add_argument("--json", action="store_true", help="the rows, in the place of the table")
        each.set_defaults(run=run)
        if name == "scores":
            each.add_argument("--samples", type=positive, default=64, help="inputs (default 64)")
            each.add_argument("--units", type=positive, default=32, help="units of each layer (default 32)")
            continue
        each.add_argument("--part", choices=("residual", "grid", "best"), default="grid",
                          help="the residual stage alone; all three stages by every option; or the default options")
        each.add_argument("--heads", type=counts, default=(3, 2), help="heads kept, e.g. 3,2 (the default)")
        each.add_argument("--calibration", type=positive, default=128,
                          help="inputs of scores and repairs (default 128)")
        each.add_argument("--train", type=positive, default=5000, help="inputs of the one epoch (default 5000)")
        each.add_argument("--split", choices=("validation", "test"), default="validation")
        each.add_argument("--held-out", type=positive, default=600,
                          help="inputs that accuracy is taken on (default 600)")


def add_sweep(commands) -> None:
    """Adds `sweep` to the subparsers of `edvit`."""
    each = commands.add_parser("sweep", help="a recipe over several numbers of devices: tables and one page",
                               epilog="what follows -- goes to the recipe, e.g. -- --data-dir DIR --budget 50MiB")
    each.add_argument("recipe", type=Path, help="e.g. recipes/mnist.py")
    each.add_argument("--devices", type=counts, default=(1, 2, 3, 5, 10), help="numbers (default 1,2,3,5,10)")
    each.add_argument("--seeds", type=naturals, default=(0,), help="a run of each (default 0)")
    each.add_argument("--strategies", type=_names, default=(), help="ways to group classes, a run of each: "
                      "random,similar,dissimilar (default: the recipe's own)")
    each.add_argument("--jobs", type=positive, default=1, help="runs at once (default 1)")
    each.add_argument("--out", type=Path, help="folder of bundles, sweep.json and report.html; the same command goes "
                      "on after a stop (default exports/<recipe>-sweep)")
    each.add_argument("--json", action="store_true", help="the rows, in the place of the table")
    each.set_defaults(run=_sweep)


def _names(text: str) -> tuple[str, ...]:
    """ "random,similar" -> ("random", "similar")."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _sweep(args) -> int:
    from edvit_tf.report.sweep import sweep_text
    from edvit_tf.study.sweep import sweep

    out = args.out or Path("exports") / f"{args.recipe.stem}-sweep"
    with contextlib.redirect_stdout(sys.stderr):
        rows = sweep(args.recipe, out, args.devices, args.seeds, args.options, args.jobs, args.strategies)
    print(json.dumps(rows, indent=1) if args.json else f"{sweep_text(rows)}\n\nreport: {out / 'report.html'}")
    return 0


def _bench_plan(args) -> int:
    from edvit_tf.bench.plan import bench_plan, plan_text

    result = bench_plan(args.sub_models, args.devices, args.runs, args.instances, args.seed)
    print(json.dumps(result, indent=1) if args.json else plan_text(result))
    return 0


def _bench_fleet(args) -> int:
    from edvit_tf.bench.fleet import bench_fleet, fleet_text
    from edvit_tf.device.bundle import open_bundle

    devices = len(open_bundle(args.bundle).sub_models) if args.devices is None else args.devices
    result = bench_fleet(args.bundle, devices, args.runs)
    print(json.dumps(result, indent=1) if args.json else fleet_text(result))
    return 0


def _bench_latency(args) -> int:
    from edvit_tf.bench.latency import bench_latency, latency_text, spread_weights
    from edvit_tf.errors import ConfigError
    from edvit_tf.models.presets import vit_config

    if args.store and (args.bundle is None or args.bundle.suffix == ".keras"):
        raise ConfigError("--store keeps figures in a bundle; none was given. Name a bundle, or use --json.")
    against = None if args.against is None else tuple(n for n in args.against.split(",") if n != "none")
    options = {"threads": args.threads, "runs": args.runs, "turns": args.turns, "against": against, "naive": args.naive}
    if args.bundle is None:
        config = vit_config(args.model, (224, 224, 3), 10).pruned(args.heads, 10, args.cut_heads)
        result = bench_latency(config, spread_weights(config, args.pre_gelu), **options)
    elif args.bundle.suffix == ".keras":
        result = bench_latency(*_keras_file(args.bundle), **options)
    else:
        from edvit_tf.device.bundle import open_bundle, verified_path

        bundle = open_bundle(args.bundle)
        entry = bundle.entry(args.submodel)
        files = {name: verified_path(bundle, flavour["file"]) for name, flavour in entry["flavours"].items()}
        result = bench_latency(*_keras_file(verified_path(bundle, entry["keras"])), files=files,
                               input_name=bundle.manifest["input"]["name"], **options)
        if args.store:
            _store(args.bundle, {"submodel": entry["name"], **result})
    print(json.dumps(result, indent=1) if args.json else latency_text(result))
    return 0


def _store(bundle: Path, result: dict) -> None:
    """latency.json of a bundle, in the place of an older one: the newest measurement is what was asked for."""
    from edvit_tf.report.page import write_report

    (bundle / "latency.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(f"stored in {bundle / 'latency.json'}; shown in {write_report(bundle)}", file=sys.stderr)


def _keras_file(path: Path) -> tuple:
    """Configuration and weights of a ViT in a .keras file of ours; ConfigError for another model."""
    import keras

    import edvit_tf.models.layers  # noqa: F401  (registers what .keras files hold)
    from edvit_tf.errors import ConfigError
    from edvit_tf.models.vit import config_of, get_weights

    try:
        model = keras.models.load_model(path, compile=False)
        return config_of(model), get_weights(model)
    except ValueError as error:
        raise ConfigError(f"{path} is no .keras file of a ViT of ours: {error}. Take one from a bundle.") from error


def _bench_scores(args) -> int:
    from edvit_tf.models.presets import vit_config
    from edvit_tf.study.scores import cost, cost_table

    config = vit_config(args.model, (224, 224, 3), args.classes)
    figures = cost(config, samples=args.samples, units=args.units, runs=args.runs, seed=args.seed)
    print(json.dumps(figures, indent=1) if args.json else f"{args.model}: {cost_table(figures)}")
    return 0


def _study_scores(args) -> int:
    from edvit_tf.study.common import Rows, load_trained
    from edvit_tf.study.scores import agreement, agreement_table

    base = load_trained(args.base, args.data, args.data_dir, args.seed)
    rows = Rows(args.out, {"samples": args.samples, "units": args.units, "seed": args.seed, **base.identity})
    done = []
    for row in agreement(base, rows, samples=args.samples, units=args.units, seed=args.seed):
        done.append(row)
        print(f"{row['name']}: " + ", ".join(
            f"{m} {row[m]['spearman']:.3f}" for m in ("linearised", "fisher", "magnitude", "exact_again")),
            file=sys.stderr, flush=True)
    print(json.dumps(done, indent=1) if args.json else agreement_table(done))
    return 0


def _study_clusters(args) -> int:
    from edvit_tf.device.bundle import open_bundle
    from edvit_tf.evaluate import data_of
    from edvit_tf.study.clusters import clusters_study, clusters_table
    from edvit_tf.study.common import Rows

    bundle = open_bundle(args.bundle)
    settings = {"samples": args.samples, "split": args.split, "seed": args.seed, "bundle": bundle.digest}
    done = []
    for row in clusters_study(bundle, data_of(bundle, args.data_dir), Rows(args.out, settings), clusters=args.clusters,
                              epochs=args.epochs, samples=args.samples, split=args.split, seed=args.seed):
        done.append(row)
        print(clusters_table(done).splitlines()[-1], file=sys.stderr, flush=True)
    print(json.dumps(done, indent=1) if args.json else clusters_table(done))
    return 0


def _study_cuts(args) -> int:
    from edvit_tf.study import cuts
    from edvit_tf.study.common import Rows, load_trained

    base = load_trained(args.base, args.data, args.data_dir, 0)
    settings = {key: getattr(args, key) for key in ("calibration", "train", "split", "held_out")}
    rows = Rows(args.out, {**settings, "fit": cuts.FIT.to_dict(), **base.identity})
    done = []
    with contextlib.redirect_stdout(sys.stderr):  # Keras' progress; the figures alone go to standard output
        bench = cuts.Bench(base, calibration=args.calibration, train=args.train, test=args.held_out, split=args.split,
                           seed=args.seed)
        print(", ".join(f"{name} {100 * value:.1f} %" for name, value in bench.whole().items()), flush=True)
        found = {"residual": lambda: cuts.residual_study(bench, rows, args.heads),
                 "grid": lambda: cuts.grid_study(bench, rows, args.heads, cuts.full_grid()),
                 "best": lambda: cuts.grid_study(bench, rows, args.heads, cuts.best_two())}[args.part]()
        for row in found:
            done.append(row)
            print(cuts.cuts_table([row], base.config.num_heads), flush=True)
    print(json.dumps(done, indent=1) if args.json else cuts.cuts_table(done, base.config.num_heads))
    return 0


def counts(text: str) -> tuple[int, ...]:
    """ "3,2" -> (3, 2), each 1 or more."""
    found = naturals(text)
    if 0 in found:
        raise argparse.ArgumentTypeError(f"{text!r} holds 0; each number must be 1 or more, e.g. 3,2")
    return found


def naturals(text: str) -> tuple[int, ...]:
    """ "0,1" -> (0, 1), each 0 or more."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers; write e.g. 3,2")
    return tuple(int(part) for part in parts)


def positive(text: str) -> int:
    """An integer, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def natural(text: str) -> int:
    """An integer, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)
