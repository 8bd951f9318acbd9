"""`edvit bench calibrate`: what an estimate of milliseconds needs to know of a processor."""

import json
import sys
import tempfile
from pathlib import Path

from edvit_tf.cli.output import add_json, show
from edvit_tf.cli.values import counts, positive, user_path
from edvit_tf.errors import ConfigError, OutputError


def add_calibrate(benches) -> None:
    """Adds `calibrate` to the subparsers of `edvit bench`."""
    parser = benches.add_parser(
        "calibrate",
        help="what each kind of work costs on a processor, for the milliseconds of `edvit plan`",
    )
    parser.add_argument(
        "--out", type=user_path, help="file of the calibration, for `edvit plan --latency FILE`"
    )
    parser.add_argument(
        "--files",
        type=user_path,
        metavar="FOLDER",
        help="of the files that are timed: written there, or with --times read from there",
    )
    parser.add_argument(
        "--times",
        type=user_path,
        metavar="FILE",
        help="what `python -m edvit_tf.device.model.timing FOLDER` printed on a device; without it "
        "this machine is timed",
    )
    parser.add_argument("--threads", type=counts, default=(1,), help="e.g. 1,2 (default 1)")
    parser.add_argument("--turns", type=positive, default=5, help="alternating turns (default 5)")
    parser.add_argument("--runs", type=positive, default=30, help="of a turn (default 30)")
    add_json(parser)
    parser.set_defaults(run=_bench_calibrate)


def _bench_calibrate(args) -> int:
    from edvit_tf.bench.calibrate import calibration, calibration_text, write_files
    from edvit_tf.device.model.timing import time_files

    if args.times is None and args.out is None and args.files is None:
        raise ConfigError(
            "nothing would be kept: give --out FILE for this machine's calibration, or --files "
            "FOLDER for files to be timed on a device."
        )
    if args.out is not None and args.out.exists():
        raise OutputError(f"{args.out} exists; remove it, or give another --out.")
    if args.out is not None and not args.out.absolute().parent.is_dir():
        # said before minutes of timing, not after them
        raise OutputError(f"{args.out}: there is no folder {args.out.parent}; make it first.")

    if args.times is not None:
        if args.files is None:
            raise ConfigError("--times needs the --files FOLDER that was timed.")
        found, judged = calibration(args.files, _times(args.times))
    elif args.out is None:
        write_files(args.files)
        show(
            args,
            {"files": str(args.files)},
            f"{args.files} is written. Copy it to the device, and there run\n"
            f"  python -m edvit_tf.device.model.timing {args.files.name} > times.json\n"
            "then here, with times.json copied back,\n"
            f"  edvit bench calibrate --files {args.files} --times times.json --out FILE",
        )
        return 0
    else:
        with tempfile.TemporaryDirectory(prefix="edvit-calibrate-") as name:
            folder = args.files or Path(name) / "files"
            write_files(folder)
            times = time_files(folder, args.threads, args.turns, args.runs)
            found, judged = calibration(folder, times)

    if args.out is not None:
        args.out.write_text(json.dumps(found.to_dict(), indent=1), encoding="utf-8")
        print(f"stored in {args.out}", file=sys.stderr)
    show(
        args,
        {"calibration": found.to_dict(), "held_out": judged},
        calibration_text(found, judged),
    )
    return 0


def _times(path: Path) -> dict:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} holds no times: {error}. It is what `python -m edvit_tf.device.model.timing "
            "FOLDER` prints."
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}; times are an object.")
    return values
