"""`edvit ...`: what is done with a bundle and with plans. Recipes have a command line of their own (edvit_tf.recipe).

Exit codes: 0 done, 1 a check failed, 2 wrong usage, 3 configuration, 4 data, 5 no plan fits, 6 output, 7 bundle,
9 no usable TFLite runtime.
"""

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path

from edvit_tf.config import HEADS
from edvit_tf.device.bundle import BundleError
from edvit_tf.device.runtime import RuntimeMissing
from edvit_tf.errors import EdvitError, OutputError


def main(argv: list[str] | None = None) -> int:
    """Parses the arguments, runs one command, returns the exit code."""
    args = _parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        return args.run(args)
    except (EdvitError, BundleError, RuntimeMissing) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error}; mend the path or its permissions and try again.", file=sys.stderr)
        return OutputError.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted; no bundle was changed, and rows that a study had finished are kept.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edvit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    plan = commands.add_parser("plan", help="heads, bytes and devices of every sub-model, from cost figures alone")
    plan.add_argument("--model", default="vit_base", help="preset (default vit_base)")
    plan.add_argument("--classes", type=int, default=10)
    plan.add_argument("--channels", type=int, default=3, help="3 for pictures, 1 for audio")
    plan.add_argument("--image-size", type=int, default=224, help="height and width of the input (default 224)")
    plan.add_argument("--devices", default="5", help="number of equal devices, or a devices.toml")
    plan.add_argument("--groups", type=int, help="sub-models (default: one a device)")
    plan.add_argument("--strategy", choices=("random", "similar", "dissimilar"), default="random",
                      help="similar and dissimilar need a trained base: give them to a recipe")
    plan.add_argument("--budget", help="bytes of all deployed files together, e.g. 180MiB")
    plan.add_argument("--flavour", choices=("float32", "float16", "int8"), default="float32",
                      help="of the files that are counted (default float32, which is what recipes export)")
    plan.add_argument("--assignment", choices=("greedy", "optimal"), default="greedy")
    plan.add_argument("--heads", choices=HEADS, default="merge",
                      help="how heads are cut: merge and whole give the paper's widths (default merge); the head "
                      "widths of keep are rounded down")
    plan.add_argument("--samples", type=int, default=1, help="L of Eq. 1: inferences that the compute limits must hold")
    plan.add_argument("--replicas", type=int, default=1, help="devices that hold each sub-model")
    plan.add_argument("--seed", type=_natural, default=0)
    plan.add_argument("--json", action="store_true")
    plan.set_defaults(run=_plan)

    bench = commands.add_parser("bench", help="benchmarks of this machine").add_subparsers(
        required=True, metavar="WHAT")
    planning = bench.add_parser("plan", help="greedy planning of a large fleet; greedy against optimal")
    planning.add_argument("--sub-models", type=int, default=1000)
    planning.add_argument("--devices", type=int, default=1000)
    planning.add_argument("--runs", type=int, default=20, help="timed runs of greedy, after 3 to warm up (default 20)")
    planning.add_argument("--instances", type=int, default=200, help="random instances for the gap (default 200)")
    planning.add_argument("--seed", type=_natural, default=0)
    planning.add_argument("--json", action="store_true")
    planning.set_defaults(run=_bench_plan)

    scoring = bench.add_parser("scores", help="seconds and memory of linearised scores, and against leave-one-out")
    scoring.add_argument("--model", default="vit_base", help="preset (default vit_base), 224 x 224 x 3, random weights")
    scoring.add_argument("--classes", type=_positive, default=10)
    scoring.add_argument("--samples", type=_positive, default=64, help="calibration images (default 64)")
    scoring.add_argument("--units", type=_positive, default=8, help="leave-one-out is extrapolated from so many units "
                         "a layer, and twice as many (default 8)")
    scoring.add_argument("--runs", type=_positive, default=3, help="alternating runs (default 3)")
    scoring.add_argument("--seed", type=_natural, default=0)
    scoring.add_argument("--json", action="store_true")
    scoring.set_defaults(run=_bench_scores)

    latency = bench.add_parser("latency", help="a sub-model in the TFLite runtimes, beside other runtimes")
    latency.add_argument("bundle", type=Path, nargs="?", help="a bundle; without it --model")
    latency.add_argument("--submodel", type=_natural, default=0, help="of the bundle (default 0)")
    latency.add_argument("--model", default="vit_base", help="preset (default vit_base), 224 x 224 x 3, random weights")
    latency.add_argument("--heads", type=_positive, default=2, help="heads kept (default 2)")
    latency.add_argument("--cut-heads", choices=("merge", "keep"), default="merge", help="widths of that cut")
    latency.add_argument("--pre-gelu", type=float, default=1.5, help="standard deviation before GELU (default 1.5)")
    latency.add_argument("--threads", type=_counts, default=(1,), help="e.g. 1,2 (default 1)")
    latency.add_argument("--runs", type=_positive, default=40, help="a turn, after 5 to warm up (default 40)")
    latency.add_argument("--turns", type=_positive, default=5, help="alternating turns (default 5)")
    latency.add_argument("--against", help="rivals, e.g. onnxruntime,openvino; none (default: all that are installed)")
    latency.add_argument("--naive", action="store_true", help="Keras's own export beside ours")
    latency.add_argument("--json", action="store_true")
    latency.set_defaults(run=_bench_latency)

    study = commands.add_parser("study", help="tables of the method on a trained base").add_subparsers(
        required=True, metavar="WHAT")
    for name, text, run in (("scores", "rank agreement of the scores with leave-one-out", _study_scores),
                            ("cuts", "accuracy after each cut, repair and fit, by every option", _study_cuts)):
        each = study.add_parser(name, help=text)
        each.add_argument("--base", required=True, metavar="WEIGHTS", help="a base fine-tuned on the data set: .keras, "
                          "checkpoint folder or hub name")
        each.add_argument("--data", default="cifar10", help="data set (default cifar10)")
        each.add_argument("--data-dir", type=Path)
        each.add_argument("--out", type=Path, help="JSON lines of finished rows; the same command goes on after them")
        each.add_argument("--seed", type=_natural, default=0)
        each.add_argument("--json", action="store_true", help="the rows, in the place of the table")
        each.set_defaults(run=run)
        if name == "scores":
            each.add_argument("--samples", type=_positive, default=64, help="inputs (default 64)")
            each.add_argument("--units", type=_positive, default=32, help="units of each layer (default 32)")
            continue
        each.add_argument("--part", choices=("residual", "grid", "best"), default="grid",
                          help="the residual stage alone; all three stages by every option; or the default options")
        each.add_argument("--heads", type=_counts, default=(3, 2), help="heads kept, e.g. 3,2 (the default)")
        each.add_argument("--calibration", type=_positive, default=128,
                          help="inputs of scores and repairs (default 128)")
        each.add_argument("--train", type=_positive, default=5000, help="inputs of the one epoch (default 5000)")
        each.add_argument("--split", choices=("validation", "test"), default="validation")
        each.add_argument("--held-out", type=_positive, default=600,
                          help="inputs that accuracy is taken on (default 600)")

    evaluate = commands.add_parser("evaluate", help="accuracy, measured on the .tflite files")
    evaluate.add_argument("bundle", type=Path)
    evaluate.add_argument("--data-dir", type=Path, help="folder of the data set that the bundle was made from")
    evaluate.add_argument("--split", choices=("test", "validation", "train", "all"), default="test")
    evaluate.add_argument("--missing", type=_indices, default=(), help="sub-models to leave out, e.g. 0,3")
    evaluate.add_argument("--json", action="store_true")
    evaluate.set_defaults(run=_evaluate)

    audit = commands.add_parser("audit", help="Keras summaries; params, MACs and bytes reconciled with the files")
    audit.add_argument("bundle", type=Path)
    audit.add_argument("--json", action="store_true")
    audit.set_defaults(run=_audit)

    report = commands.add_parser("report", help="report.html again from what the bundle stores")
    report.add_argument("bundle", type=Path)
    report.set_defaults(run=_report)
    return parser


def _plan(args) -> int:
    from edvit_tf.config import DeviceSpec
    from edvit_tf.errors import PlanError
    from edvit_tf.models.presets import vit_config
    from edvit_tf.planning.devices import load_devices, parse_size
    from edvit_tf.planning.partition import partition
    from edvit_tf.planning.plan import plan
    from edvit_tf.report.tables import plan_table

    if args.strategy != "random":
        raise PlanError(
            f"strategy is {args.strategy!r}; it groups by the confusions of a trained base, which `edvit plan` does "
            "not have. Leave it out (random groups have the same sizes and cost the same), or give it to a recipe."
        )
    devices = (tuple(DeviceSpec(f"device-{i:02d}") for i in range(int(args.devices))) if args.devices.isdecimal()
               else load_devices(args.devices))
    base = vit_config(args.model, (args.image_size, args.image_size, args.channels), args.classes)
    count = len(devices) if args.groups is None else args.groups
    groups = partition(args.classes, count, "random", args.seed)
    planned = plan(base, groups, devices, None if args.budget is None else parse_size(args.budget), args.samples,
                   args.assignment, "random", args.replicas, flavour=args.flavour, cut_heads=args.heads)
    print(json.dumps(planned.to_dict(), indent=1) if args.json else plan_table(planned))
    return 0


def _bench_plan(args) -> int:
    from edvit_tf.bench.plan import bench_plan, plan_text

    result = bench_plan(args.sub_models, args.devices, args.runs, args.instances, args.seed)
    print(json.dumps(result, indent=1) if args.json else plan_text(result))
    return 0


def _bench_latency(args) -> int:
    from edvit_tf.bench.latency import bench_latency, latency_text, spread_weights
    from edvit_tf.models.presets import vit_config

    against = None if args.against is None else tuple(n for n in args.against.split(",") if n != "none")
    options = {"threads": args.threads, "runs": args.runs, "turns": args.turns, "against": against, "naive": args.naive}
    if args.bundle is None:
        config = vit_config(args.model, (224, 224, 3), 10).pruned(args.heads, 10, args.cut_heads)
        result = bench_latency(config, spread_weights(config, args.pre_gelu), **options)
    else:
        import keras

        import edvit_tf.models.layers  # noqa: F401  (registers what .keras files hold)
        from edvit_tf.config import ViTConfig
        from edvit_tf.device.bundle import open_bundle, verified_path
        from edvit_tf.models.vit import get_weights

        bundle = open_bundle(args.bundle)
        entry = bundle.entry(args.submodel)
        weights = get_weights(keras.models.load_model(verified_path(bundle, entry["keras"]), compile=False))
        files = {name: verified_path(bundle, flavour["file"]) for name, flavour in entry["flavours"].items()}
        result = bench_latency(ViTConfig.from_dict(entry["config"]), weights, files=files,
                               input_name=bundle.manifest["input"]["name"], **options)
    print(json.dumps(result, indent=1) if args.json else latency_text(result))
    return 0


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


def _evaluate(args) -> int:
    from edvit_tf.evaluate import evaluate

    result = evaluate(args.bundle, args.data_dir, args.split, args.missing)
    if args.json:
        print(json.dumps(result, indent=1))
        return 0
    if result["data"]["synthetic"]:
        print("SYNTHETIC stand-in: these accuracies mean nothing.")
    lost = f", without sub-models {result['missing']}" if result["missing"] else ""
    print(f"{result['bundle']} on {result['data']['name']} ({result['data']['source']}), "
          f"{result['split']} split{lost}, measured on the .tflite files:")
    if result["note"]:
        print(f"  note: {result['note']}")
    for name, key in (("fused", "accuracy"), ("softmax average", "average")):
        a = result[key]
        print(f"  {name:<16}{a['recording'] * 100:>7.2f} % of {a['recordings']} recordings, "
              f"{a['window'] * 100:>7.2f} % of {a['windows']} windows")
    for entry, process in enumerate(result["processes"]):
        print(f"  submodel-{entry:02d}: {process['runtime']}, {process['threads']} thread, median "
              f"{process['invoke_ms']['median']:.2f} ms, p95 {process['invoke_ms']['p95']:.2f} ms, "
              f"peak RSS {process['peak_rss_bytes'] / 2**20:.0f} MiB, no TensorFlow in the process")
    return 0


def _audit(args) -> int:
    from edvit_tf.report.audit import audit, text

    result = audit(args.bundle)
    print(json.dumps(result, indent=1) if args.json else text(result))
    return 0 if result["reconciled"] else 1


def _report(args) -> int:
    from edvit_tf.report.page import write_report

    print(write_report(args.bundle))
    return 0


def _indices(text: str) -> tuple[int, ...]:
    """ "0,3" -> (0, 3)."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of sub-models; write numbers, e.g. 0,3") from None


def _counts(text: str) -> tuple[int, ...]:
    """ "3,2" -> (3, 2), each 1 or more."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers of heads; write e.g. 3,2")
    return tuple(int(part) for part in parts)


def _positive(text: str) -> int:
    """An integer, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def _natural(text: str) -> int:
    """An integer, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())
