"""The command line of a device.

    python -m edvit_tf.device BUNDLE --check [--submodel 0 ...] [--json]       versions, memory, sha256, golden answers
    python -m edvit_tf.device BUNDLE --tune [--submodel 0 ...] [--json]        the fastest file and thread count here
    python -m edvit_tf.device BUNDLE --predict FILE... [--missing 1,3] [--json]  label and probabilities, on this device

Exit codes: 0 done, 1 a check failed, 2 wrong usage, 7 the bundle is missing or was changed, 9 no usable runtime,
10 a file cannot be used as input, 12 too little memory, 13 a model failed in its process, 14 tuning cannot be stored.
"""

import argparse
import json
import sys

from edvit_tf.device.bundle import BundleError
from edvit_tf.device.memory import MemoryShort
from edvit_tf.device.process import ModelFailed
from edvit_tf.device.runtime import RuntimeMissing
from edvit_tf.device.tune import TuneError

EXIT_BAD_INPUT = 10


def main(argv: list[str] | None = None) -> int:
    """Parses the arguments, runs the check or the prediction, returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m edvit_tf.device", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", help="folder that a recipe exported, or a copy of it")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="check this device with this bundle")
    action.add_argument("--predict", nargs="+", metavar="FILE", help="pictures or recordings")
    action.add_argument("--tune", action="store_true", help="measure, and remember for --predict")
    parser.add_argument("--flavour", help="run this flavour of the files, e.g. float32 (default: the fastest)")
    parser.add_argument("--submodel", type=int, action="append", help="only this sub-model (may be given again)")
    parser.add_argument("--missing", type=_indices, default=(), help="sub-models to leave out, e.g. 1,3")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    if not args.predict and args.missing:
        parser.error("--missing goes with --predict; --check and --tune take --submodel")
    if args.predict and args.submodel:
        parser.error("--submodel goes with --check and --tune; --predict takes --missing")
    if args.flavour and not args.predict:
        parser.error("--flavour goes with --predict; --check and --tune run every flavour")
    try:
        return _check(args) if args.check else _tune(args) if args.tune else _predict(args)
    except (BundleError, RuntimeMissing, MemoryShort, ModelFailed, TuneError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT


def _check(args) -> int:
    from edvit_tf.device.selfcheck import check, table

    result = check(args.bundle, args.submodel)
    print(json.dumps(result, indent=1) if args.json else table(result))
    return 0 if result["ok"] else 1


def _tune(args) -> int:
    from edvit_tf.device.bundle import open_bundle
    from edvit_tf.device.tune import table, tune

    bundle = open_bundle(args.bundle)
    results, failed = [], None
    for index in args.submodel or range(len(bundle.sub_models)):
        try:
            results.append(tune(bundle, index))
        except ModelFailed as failure:  # the others are measured, and said, all the same
            print(f"error: {failure}", file=sys.stderr)
            failed = failure
    if results or args.json:
        print(json.dumps(results, indent=1) if args.json else table(results))
    return 0 if failed is None else failed.exit_code


def _predict(args) -> int:
    from edvit_tf.device.answer import answer_file, load_fleet

    fleet = load_fleet(args.bundle, args.missing, args.flavour)
    for file in args.predict:
        answer = answer_file(fleet, file)
        degraded = f"  (without sub-models {answer['missing']})" if answer["missing"] else ""
        print(json.dumps(answer) if args.json
              else f"{answer['file']}: {answer['label']} {answer['probability']:.3f}{degraded}", flush=True)
    return 0


def _indices(text: str) -> tuple[int, ...]:
    """ "1,3" -> (1, 3)."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of sub-models; write numbers, e.g. 1,3") from None


if __name__ == "__main__":
    raise SystemExit(main())
