"""The command line of a device.

    python -m edvit_tf.device BUNDLE --listen HOST:PORT --identity FOLDER [--submodel 0 ...]
        the worker, until SIGTERM
    python -m edvit_tf.device BUNDLE --listen HOST:PORT --identity FOLDER --print-unit
        its systemd unit, to be stored
    python -m edvit_tf.device BUNDLE --check [--submodel 0 ...] [--identity FOLDER] [--json]
        versions, memory, sha256, golden answers, the certificate's end
    python -m edvit_tf.device BUNDLE --tune [--submodel 0 ...] [--json]
        the fastest file and thread count here
    python -m edvit_tf.device BUNDLE --predict FILE... [--missing 1,3] [--json]
        label and probabilities, on this device

BUNDLE may be the link STORE/current of `python -m edvit_tf.device.update`, which installs and takes
back versions.
"""

import argparse
import json
import sys
from pathlib import Path

from edvit_tf.device.errors import (
    DecoderMissing,
    DeviceError,
    DeviceExit,
    InputError,
    ModelFailed,
    RuntimeMissing,
    exit_codes_text,
)
from edvit_tf.device.model.runtime_names import COMPILED, NAMES
from edvit_tf.device.rpc.process_limits import ends_without_memory, prepare_server
from edvit_tf.device.strict_json import finite_json
from edvit_tf.device.terminal import add_version, flushed, print_anything, reader_left, say_error


def main(argv: list[str] | None = None) -> int:
    """Parses the arguments, runs what they ask for, returns the exit code."""
    print_anything()
    parser = _parser()
    args = parser.parse_args(argv)
    _refuse_what_does_not_go_together(parser, args)
    if args.listen:
        action = _listen
    elif args.check:
        action = _check
    elif args.tune:
        action = _tune
    else:
        action = _predict

    try:
        with ends_without_memory():
            return flushed(action(args))
    except DeviceError as error:
        say_error(error)
        return error.exit_code
    except BrokenPipeError:
        return reader_left()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return DeviceExit.INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m edvit_tf.device",
        description=__doc__,
        epilog=exit_codes_text(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(parser)
    parser.add_argument("bundle", help="folder that a recipe exported, or a copy of it")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument(
        "--listen", metavar="HOST:PORT", help="be a worker: answer requests at this address"
    )
    action.add_argument("--check", action="store_true", help="check this device with this bundle")
    action.add_argument("--predict", nargs="+", metavar="FILE", help="pictures, recordings, texts")
    action.add_argument(
        "--tune", action="store_true", help="measure, and remember for workers and --predict"
    )
    parser.add_argument(
        "--flavour", help="run this flavour of the files, e.g. float32 (default: the fastest)"
    )
    parser.add_argument(
        "--runtime",
        choices=NAMES,
        help="run the files in this runtime (default: the first that is installed; "
        f"{COMPILED} is taken only where it is named)",
    )
    parser.add_argument(
        "--submodel", type=int, action="append", help="only this sub-model (may be given again)"
    )
    parser.add_argument(
        "--missing", type=_indices, default=(), help="sub-models to leave out, e.g. 1,3"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")

    worker = parser.add_argument_group("worker (with --listen)")
    worker.add_argument(
        "--identity",
        type=Path,
        metavar="FOLDER",
        help="ca.pem, cert.pem and key.pem of `edvit certs issue`",
    )
    worker.add_argument(
        "--insecure", action="store_true", help="no TLS; on loopback addresses only"
    )
    worker.add_argument(
        "--insecure-anywhere", action="store_true", help="with --insecure: on any address"
    )
    worker.add_argument(
        "--metrics", metavar="HOST:PORT", help="Prometheus metrics and /healthz, plain HTTP"
    )
    worker.add_argument(
        "--deadline-ms",
        type=positive,
        default=10_000.0,
        help="of requests that bring none, the most that one gets, and the time to drain "
        "(default 10000)",
    )
    worker.add_argument(
        "--stuck-seconds",
        type=positive,
        help="a longer inference ends the worker (default: 20 times what one takes at the start, "
        "at least 10)",
    )
    worker.add_argument(
        "--announce",
        action="store_true",
        help="on the local network, for `edvit discover` (needs the [discover] extra)",
    )
    worker.add_argument(
        "--print-unit", action="store_true", help="print a systemd unit for this worker and end"
    )

    return parser


def _refuse_what_does_not_go_together(
    parser: argparse.ArgumentParser, args: argparse.Namespace
) -> None:
    if not args.predict and args.missing:
        parser.error("--missing goes with --predict; --check, --tune and --listen take --submodel")
    if args.predict and args.submodel:
        parser.error("--submodel goes with --check, --tune and --listen; --predict takes --missing")
    if args.flavour and not (args.predict or args.listen):
        parser.error(
            "--flavour goes with --predict and --listen; --check and --tune run every flavour"
        )

    if args.runtime and args.predict:
        parser.error("--runtime goes with --listen, --check and --tune")

    if args.listen and args.json:
        parser.error("--json goes with the other actions; a worker's log is JSON anyway")
    if args.listen and bool(args.identity) == args.insecure:
        parser.error(
            "--listen takes either --identity FOLDER (mutual TLS) or --insecure (none, on loopback)"
        )

    if args.insecure_anywhere and not args.insecure:
        parser.error(
            "--insecure-anywhere is the second word after --insecure; give both, or --identity"
        )

    if args.identity and not (args.listen or args.check):
        parser.error(
            "--identity goes with --listen, and with --check, which says when its certificate ends"
        )

    worker_only = {
        "--insecure": args.insecure,
        "--metrics": args.metrics,
        "--stuck-seconds": args.stuck_seconds,
        "--announce": args.announce,
        "--print-unit": args.print_unit,
    }
    given = [name for name, value in worker_only.items() if value]
    if given and not args.listen:
        parser.error(f"{given[0]} goes with --listen")


def _listen(args) -> int:
    if not args.print_unit:
        # before gRPC and the runtime are imported, which abort without memory or descriptors
        prepare_server()

    try:
        from edvit_tf.device.worker.server import WorkerOptions, serve
    except ImportError as error:
        raise RuntimeMissing(
            f"a worker needs grpcio and protobuf ({error}). Run, in a clone of edvit_tf: "
            "pip install '.[device]'."
        ) from error

    options = WorkerOptions(
        bundle=Path(args.bundle),
        sub_models=args.submodel,
        listen=args.listen,
        identity=args.identity,
        insecure_anywhere=args.insecure_anywhere,
        metrics=args.metrics,
        deadline_ms=args.deadline_ms,
        stuck_seconds=args.stuck_seconds,
        flavour=args.flavour,
        runtime=args.runtime,
        announce=args.announce,
    )
    if args.print_unit:
        # for this command alone: a worker that serves does not need it
        from edvit_tf.device.rpc.systemd_unit import warn_of_unreadable
        from edvit_tf.device.worker.systemd_unit import unit

        print(unit(options), end="")
        warn_of_unreadable(options)
        return 0

    return serve(options)


def _check(args) -> int:
    from edvit_tf.device.worker.selfcheck import check, table

    result = check(args.bundle, args.submodel, identity=args.identity, asked=args.runtime)
    print(json.dumps(finite_json(result), indent=1) if args.json else table(result))
    return 0 if result["ok"] else 1


def _tune(args) -> int:
    from edvit_tf.device.model.bundle import open_bundle
    from edvit_tf.device.model.tune import of_copy, original, table, tune

    bundle = open_bundle(args.bundle)
    results = []
    failed = None
    tuned: dict[int, dict] = {}  # by the first of several copies

    for index in args.submodel or range(len(bundle.sub_models)):
        first = original(bundle, index)
        if first in tuned:
            results.append(of_copy(bundle, index, tuned[first]))
            continue
        try:
            tuned[first] = tune(bundle, index, args.runtime)
            results.append(tuned[first])
        except ModelFailed as failure:  # the others are measured, and said, all the same
            say_error(failure)
            failed = failure

    if results or args.json:
        print(json.dumps(finite_json(results), indent=1) if args.json else table(results))

    return 0 if failed is None else failed.exit_code


def _predict(args) -> int:
    from edvit_tf.device.model.predict import answer_file, load_fleet

    fleet = load_fleet(args.bundle, args.missing, args.flavour)
    names = [Path(file).name for file in args.predict]
    if len(set(names)) < len(names):
        names = args.predict  # two files of one name are told apart by their paths

    code = DeviceExit.DONE
    for file, name in zip(args.predict, names, strict=True):
        try:
            answer = {**answer_file(fleet, file), "file": name}
        except (InputError, DecoderMissing) as error:
            # the others are answered all the same
            say_error(error)
            code = code or error.exit_code
            continue

        # one line a file, at once: whoever reads a pipe need not wait for the last
        line = f"{answer['file']}: {answer['label']} {answer['probability']:.3f}"
        if answer["missing"]:
            line += f"  (without sub-models {answer['missing']})"
        print(json.dumps(finite_json(answer)) if args.json else line, flush=True)

    return code


def positive(text: str) -> float:
    """A number above 0, finite."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0

    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return value


def _indices(text: str) -> tuple[int, ...]:
    """ "1,3" -> (1, 3)."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of sub-models; write numbers, e.g. 1,3"
        ) from None


if __name__ == "__main__":
    raise SystemExit(main())
