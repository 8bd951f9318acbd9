"""`edvit ...`: what is done with a bundle and with plans. Recipes have a command line of their own
(edvit_tf.cli.recipe).
"""

import argparse
import json
import os
import sys
from pathlib import Path

from edvit_tf.cli.bench import add_bench
from edvit_tf.cli.certs import add_certs
from edvit_tf.cli.fleet import add_fleet
from edvit_tf.cli.study import add_study, add_sweep
from edvit_tf.cli.values import natural
from edvit_tf.config import HEADS
from edvit_tf.device.errors import DeviceError, DeviceExit, exit_codes_text
from edvit_tf.errors import EXIT_CODES, EdvitError, OutputError


def main(argv: list[str] | None = None) -> int:
    """Parses the arguments, runs one command, returns the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    own = (
        given.index("--") if given[:1] == ["sweep"] and "--" in given else len(given)
    )  # the rest is the recipe's
    args = _parser().parse_args(given[:own])
    args.options = given[own + 1 :]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        return args.run(args)
    except (EdvitError, DeviceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error}; mend the path or its permissions and try again.", file=sys.stderr)
        return OutputError.exit_code
    except KeyboardInterrupt:
        print(
            "\ninterrupted; no bundle was changed, and rows that a study had finished are kept.",
            file=sys.stderr,
        )
        return DeviceExit.INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edvit",
        description=__doc__,
        epilog=exit_codes_text(EXIT_CODES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    plan = commands.add_parser(
        "plan", help="heads, bytes and devices of every sub-model, from cost figures alone"
    )
    plan.add_argument("--model", default="vit_base", help="preset (default vit_base)")
    plan.add_argument("--classes", type=int, default=10)
    plan.add_argument("--channels", type=int, default=3, help="3 for pictures, 1 for audio")
    plan.add_argument(
        "--image-size", type=int, default=224, help="height and width of the input (default 224)"
    )
    plan.add_argument("--devices", default="5", help="number of equal devices, or a devices.toml")
    plan.add_argument("--groups", type=int, help="sub-models (default: one a device)")
    plan.add_argument(
        "--strategy",
        choices=("random", "similar", "dissimilar"),
        default="random",
        help="similar and dissimilar need a trained base: give them to a recipe",
    )
    plan.add_argument("--budget", help="bytes of all deployed files together, e.g. 180MiB")
    plan.add_argument(
        "--start-heads",
        type=int,
        metavar="K",
        help="heads of each sub-model, if more than h / N, before the budget takes any",
    )
    plan.add_argument(
        "--flavour",
        choices=("float32", "float16", "int8"),
        default="float32",
        help="of the files that are counted (default float32, which is what recipes export)",
    )
    plan.add_argument("--assignment", choices=("greedy", "optimal"), default="greedy")
    plan.add_argument(
        "--heads",
        choices=HEADS,
        default="merge",
        help="how heads are cut: merge and whole give the paper's widths (default merge); the head "
        "widths of keep are rounded down",
    )
    plan.add_argument(
        "--samples",
        type=int,
        default=1,
        help="L of Eq. 1: inferences that the compute limits must hold",
    )
    plan.add_argument("--replicas", type=int, default=1, help="devices that hold each sub-model")
    plan.add_argument("--seed", type=natural, default=0)
    plan.add_argument("--json", action="store_true")
    plan.set_defaults(run=_plan)

    add_bench(commands)
    add_study(commands)
    add_sweep(commands)
    add_certs(commands)
    add_fleet(commands)

    evaluate = commands.add_parser("evaluate", help="accuracy, measured on the .tflite files")
    evaluate.add_argument("bundle", type=Path)
    evaluate.add_argument(
        "--data-dir", type=Path, help="folder of the data set that the bundle was made from"
    )
    evaluate.add_argument("--split", choices=("test", "validation", "train", "all"), default="test")
    evaluate.add_argument(
        "--missing", type=_indices, default=(), help="sub-models to leave out, e.g. 0,3"
    )
    evaluate.add_argument("--json", action="store_true")
    evaluate.set_defaults(run=_evaluate)

    audit = commands.add_parser(
        "audit", help="Keras summaries; params, MACs and bytes reconciled with the files"
    )
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
    from edvit_tf.models.vit.presets import vit_config
    from edvit_tf.planning.devices import load_devices, parse_size
    from edvit_tf.planning.partition import partition
    from edvit_tf.planning.plan import plan
    from edvit_tf.report.tables import plan_table

    if args.strategy != "random":
        raise PlanError(
            f"strategy is {args.strategy!r}; it groups by the confusions of a trained base, which "
            "`edvit plan` does "
            "not have. Leave it out (random groups have the same sizes and cost the same), or give "
            "it to a recipe."
        )
    devices = (
        tuple(DeviceSpec(f"device-{i:02d}") for i in range(int(args.devices)))
        if args.devices.isdecimal()
        else load_devices(args.devices)
    )
    base = vit_config(args.model, (args.image_size, args.image_size, args.channels), args.classes)
    count = len(devices) if args.groups is None else args.groups
    groups = partition(args.classes, count, "random", args.seed)
    planned = plan(
        base,
        groups,
        devices,
        None if args.budget is None else parse_size(args.budget),
        args.samples,
        args.assignment,
        "random",
        args.replicas,
        flavour=args.flavour,
        cut_heads=args.heads,
        start_heads=args.start_heads,
    )
    print(json.dumps(planned.to_dict(), indent=1) if args.json else plan_table(planned))
    return 0


def _evaluate(args) -> int:
    from edvit_tf.evaluation.evaluate import evaluate

    result = evaluate(args.bundle, args.data_dir, args.split, args.missing)
    if args.json:
        print(json.dumps(result, indent=1))
        return 0
    if result["data"]["synthetic"]:
        print("SYNTHETIC stand-in: these accuracies mean nothing.")
    lost = f", without sub-models {result['missing']}" if result["missing"] else ""
    print(
        f"{result['bundle']} on {result['data']['name']} ({result['data']['source']}), "
        f"{result['split']} split{lost}, measured on the .tflite files:"
    )
    if result["note"]:
        print(f"  note: {result['note']}")
    for name, key in (("fused", "accuracy"), ("softmax average", "average")):
        a = result[key]
        print(
            f"  {name:<16}{a['recording'] * 100:>7.2f} % of {a['recordings']} recordings, "
            f"{a['window'] * 100:>7.2f} % of {a['windows']} windows"
        )
    for entry, process in enumerate(result["processes"]):
        print(
            f"  submodel-{entry:02d}: {process['runtime']}, {process['threads']} thread, median "
            f"{process['invoke_ms']['median']:.2f} ms, p95 {process['invoke_ms']['p95']:.2f} ms, "
            f"peak RSS {process['peak_rss_bytes'] / 2**20:.0f} MiB, no TensorFlow in the process"
        )
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
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of sub-models; write numbers, e.g. 0,3"
        ) from None
