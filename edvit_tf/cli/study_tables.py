"""`edvit study flops|against-n|energy`: what models cost against the number of devices."""

import argparse
import contextlib
import sys

from edvit_tf.cli.output import show
from edvit_tf.cli.study_page import add_page, check_page, write_page
from edvit_tf.cli.values import counts, names, positive, user_path


def add_tables(studies) -> None:
    """Adds these studies to those of `edvit study`."""
    _add_flops(studies)
    _add_against_n(studies)
    _add_energy(studies)


def _add_models(parser) -> None:
    """Which models, at which input size, over how many devices."""
    parser.add_argument(
        "--models",
        type=names,
        default=("vit_small", "vit_base", "vit_large"),
        help="presets (default vit_small,vit_base,vit_large)",
    )
    parser.add_argument(
        "--devices", type=counts, default=(1, 2, 3, 5, 10), help="numbers (default 1,2,3,5,10)"
    )
    parser.add_argument(
        "--image-size", type=positive, default=224, help="pixels a side (default 224)"
    )
    parser.add_argument(
        "--channels", type=positive, default=3, help="3 for pictures (the default), 1 for audio"
    )
    parser.add_argument("--classes", type=positive, default=10, help="default 10")


def _add_flops(studies) -> None:
    parser = studies.add_parser(
        "flops", help="MACs by both conventions and bytes against the number of devices (Table 4)"
    )
    _add_models(parser)
    add_page(parser)
    parser.set_defaults(run=_study_flops)


def _study_flops(args) -> int:
    from edvit_tf.study.flops import bases, flops, flops_html, flops_text

    check_page(args)
    models = bases(args.models, args.image_size, args.channels, args.classes)
    rows = flops(models, args.devices)
    write_page(args, "MACs against the number of devices", [("Sub-models", flops_html(rows))])
    show(args, rows, flops_text(rows))
    return 0


def _add_against_n(studies) -> None:
    parser = studies.add_parser(
        "against-n",
        help="sizes, latency and memory against the number of devices, beside accuracies of runs "
        "(Figures 3 to 5)",
    )
    _add_models(parser)
    parser.add_argument(
        "--budgets",
        type=_budgets,
        metavar="MODEL=SIZE,...",
        help="of all files together (default: the paper's, "
        "vit_small=50MiB,vit_base=180MiB,vit_large=600MiB)",
    )
    parser.add_argument(
        "--accuracy",
        type=user_path,
        action="append",
        default=[],
        metavar="RUN",
        help="folder of a sweep, its sweep.json, or a bundle; may be given several times",
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="export files of these widths, with random weights, and time them here",
    )
    parser.add_argument("--threads", type=positive, default=1, help="of a worker (default 1)")
    parser.add_argument(
        "--runs", type=positive, default=10, help="a turn, after 3 to warm up (default 10)"
    )
    parser.add_argument("--turns", type=positive, default=3, help="alternating turns (default 3)")
    parser.add_argument(
        "--runtimes", type=names, help="e.g. tflite-runtime (default: all that are installed)"
    )
    add_page(parser)
    parser.set_defaults(run=_study_against_n)


def _budgets(text: str) -> dict[str, int]:
    """ "vit_base=180MiB,vit_small=50MiB" in bytes by preset."""
    from edvit_tf.errors import EdvitError
    from edvit_tf.planning.devices import parse_size

    found = {}
    for part in names(text):
        name, equals, size = part.partition("=")
        if not equals:
            raise argparse.ArgumentTypeError(
                f"{part!r} is no budget of a model; write e.g. vit_base=180MiB"
            )
        try:
            found[name] = parse_size(size)
        except EdvitError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return found


def _study_against_n(args) -> int:
    from edvit_tf.errors import ConfigError
    from edvit_tf.study.against_n import (
        BUDGETS,
        accuracies,
        against_n,
        against_n_html,
        against_n_text,
        speedups,
    )
    from edvit_tf.study.flops import bases

    check_page(args)
    unknown = sorted(set(args.budgets or ()) - set(args.models))
    if unknown:
        raise ConfigError(
            f"--budgets names {', '.join(unknown)}, which --models does not. Give both the same "
            "models."
        )

    models = bases(args.models, args.image_size, args.channels, args.classes)
    rows = against_n(models, args.devices, BUDGETS | (args.budgets or {}))
    runs = accuracies(args.accuracy)
    if args.measure:
        from edvit_tf.study.timed import timed

        # the converter prints; the figures alone go to standard output
        with contextlib.redirect_stdout(sys.stderr):
            rows = speedups(
                timed(
                    rows,
                    threads=args.threads,
                    runs=args.runs,
                    turns=args.turns,
                    runtimes=args.runtimes,
                )
            )

    title = "Accuracy, latency and memory against the number of devices"
    write_page(args, title, against_n_html(rows, runs))
    show(args, {"models": rows, "runs": runs}, against_n_text(rows, runs))
    return 0


def _add_energy(studies) -> None:
    parser = studies.add_parser(
        "energy", help="what stands for energy: MACs, spikes and bytes moved, in one table"
    )
    parser.add_argument(
        "bundles", type=user_path, nargs="*", metavar="BUNDLE", help="of any architecture"
    )
    parser.add_argument(
        "--models",
        type=names,
        help="presets, by their widths alone (default without bundles: vit_base,vgg16,snn16,"
        "bert_base)",
    )
    parser.add_argument("--devices", type=positive, default=10, help="of --models (default 10)")
    parser.add_argument("--classes", type=positive, default=10, help="of --models (default 10)")
    parser.add_argument(
        "--budget", metavar="SIZE", help="of all files of each of --models, e.g. 94MiB"
    )
    parser.add_argument(
        "--board",
        help="also joules, estimated from published figures of this Raspberry Pi: "
        "pi3b+, pi4b, pi5 or zero2w",
    )
    parser.add_argument(
        "--boards", action="store_true", help="print those figures, each with its source, and end"
    )
    add_page(parser)
    parser.set_defaults(run=_study_energy)


def _study_energy(args) -> int:
    from edvit_tf.planning.boards import board_of, boards
    from edvit_tf.planning.devices import parse_size
    from edvit_tf.study.boards import boards_text
    from edvit_tf.study.energy import (
        energy_html,
        energy_of_bundle,
        energy_of_models,
        energy_text,
    )

    if args.boards:
        show(args, [board.to_dict() for board in boards().values()], boards_text())
        return 0
    board = None if args.board is None else board_of(args.board).key
    check_page(args)
    presets = args.models
    if presets is None:
        presets = () if args.bundles else ("vit_base", "vgg16", "snn16", "bert_base")
    rows = [energy_of_bundle(path, board) for path in args.bundles]
    rows += energy_of_models(
        presets,
        args.devices,
        classes=args.classes,
        budget_bytes=None if args.budget is None else parse_size(args.budget),
        board=board,
    )
    write_page(args, "What stands for energy", [("Of one question", energy_html(rows))])
    show(args, rows, energy_text(rows))
    return 0
