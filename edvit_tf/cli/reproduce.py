"""`edvit reproduce`: what the paper says, beside what comes out here."""

import contextlib
import os
import shlex
import sys
from pathlib import Path

from edvit_tf.cli.output import add_json, show
from edvit_tf.cli.values import base_source, naturals, user_path

OUT = Path("exports") / "reproduce"


def add_reproduce(commands) -> None:
    """Adds `reproduce` to the subparsers of `edvit`."""
    parser = commands.add_parser(
        "reproduce",
        help="tables and figures of the paper: its numbers beside those that come out here, on one "
        "page; goes on where it was stopped",
    )
    for kind, examples in (("table", "2, 3, 4, 5"), ("figure", "3 to 6, 8"), ("section", "E.2")):
        parser.add_argument(
            f"--{kind}",
            action="append",
            default=[],
            metavar="WHICH",
            help=f"this {kind} alone ({examples}); may be given again (default: all there is)",
        )
    parser.add_argument(
        "--data",
        type=user_path,
        metavar="ROOT",
        help="folder of data sets (default $EDVIT_DATA): docs/howto/recipes.md",
    )
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument(
        "--quick",
        action="store_true",
        help="tiny widths and few samples: 20 minutes on two cores, to see that all works",
    )
    modes.add_argument(
        "--full",
        action="store_true",
        help="the recipes' --profile paper: days, and a --base is needed to compare accuracies",
    )
    parser.add_argument(
        "--base", type=base_source, metavar="WEIGHTS", help="a ViT to start from, as of recipes"
    )
    parser.add_argument(
        "--text-base", type=base_source, metavar="WEIGHTS", help="a BERT to start from"
    )
    parser.add_argument(
        "--latency-from",
        type=user_path,
        metavar="FILE.json",
        help="milliseconds of another machine, a Raspberry Pi: docs/howto/reproduce.md",
    )
    parser.add_argument(
        "--seeds", type=naturals, default=(0,), help="a run of each, e.g. 0,1,2 (default 0)"
    )
    parser.add_argument(
        "--recipes",
        type=user_path,
        metavar="FOLDER",
        help="of gtzan.py and the others (default: those of this clone)",
    )
    parser.add_argument(
        "--out", type=user_path, default=OUT, help=f"folder of page, JSON and runs (default {OUT})"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="start again: delete what --out holds"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="what would be run, in order, with an estimate"
    )
    add_json(parser)
    parser.set_defaults(run=_reproduce)


def _reproduce(args) -> int:
    from edvit_tf.reproduce.run import FIGURES, PAGE, chosen_items, missing_data, reproduce

    asked = _asked(args)
    places = _places(args)
    if args.dry_run:
        return _dry_run(args, asked, chosen_items(places), missing_data)

    if asked.data is not None:
        # where the recipes, and what reads their bundles, look
        os.environ["EDVIT_DATA"] = str(asked.data)
    paths = {"page": str(asked.out / PAGE), "figures": str(asked.out / FIGURES)}
    # what is told of the runs goes beside the result, not into it
    with contextlib.redirect_stdout(sys.stderr):
        rows = reproduce(asked, places, _command(args), args.overwrite)
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.state] = counts.get(row.state, 0) + 1
    told = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    show(args, {"states": counts, **paths}, f"{told}\npage: {paths['page']}")
    return 0


def _asked(args):
    """What the options say, with the folders that they leave out."""
    from edvit_tf.reproduce.asked import Asked

    data = args.data or (Path(os.environ["EDVIT_DATA"]) if os.environ.get("EDVIT_DATA") else None)
    return Asked(
        out=args.out.resolve(),
        recipes=(args.recipes or _clone()).resolve(),
        mode="quick" if args.quick else "full" if args.full else "recipes",
        data=None if data is None else data.resolve(),
        base=args.base,
        text_base=args.text_base,
        latency_from=args.latency_from,
        seeds=args.seeds,
    )


def _clone() -> Path:
    """The recipes' folder: of the clone that this package lies in, or of the folder one is in."""
    import edvit_tf

    beside = Path(edvit_tf.__file__).parents[1] / "recipes"
    return beside if beside.is_dir() else Path("recipes")


def _places(args) -> tuple[str, ...]:
    """ "table 4", "section E.2": as paper.yaml names them."""
    found = [f"table {which}" for which in args.table]
    found += [f"figure {which}" for which in args.figure]
    return (*found, *(f"section {which.upper()}" for which in args.section))


def _command(args) -> list[str]:
    """The command that makes this page, or goes on with it."""
    words = ["edvit", "reproduce"]
    for kind in ("table", "figure", "section"):
        for which in getattr(args, kind):
            words += [f"--{kind}", which]
    for name in ("quick", "full"):
        if getattr(args, name):
            words.append(f"--{name}")
    for name in ("data", "base", "text_base", "latency_from", "recipes"):
        value = getattr(args, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    if args.seeds != (0,):
        words += ["--seeds", ",".join(map(str, args.seeds))]
    return [*words, "--out", str(args.out)]


def _dry_run(args, asked, items, missing_data) -> int:
    """The items in their order, each with its runs and an estimate."""
    from edvit_tf.report.units import seconds
    from edvit_tf.reproduce.recipes import shown

    missing = missing_data(asked, items)
    seen: set[str] = set()
    lines, told = [], []
    for item in items:
        option = item.waits_for(asked)
        if option:
            lines.append(f"{item.name}: {item.title}, left out without {option}")
            told.append({"item": item.name, "seconds": 0.0, "commands": [], "lacks": option})
            continue
        runs = [run for run in item.runs(asked) if run.name not in seen]
        seen |= {run.name for run in runs}
        estimate = item.seconds[asked.mode] * (len(asked.seeds) if runs else 1)
        commands = [shown(asked, run, missing) for run in runs]
        lines.append(f"{item.name}: {item.title}, about {seconds(estimate)}")
        lines += [f"    {command}" for command in commands]
        told.append({"item": item.name, "seconds": estimate, "commands": commands})

    total = sum(one["seconds"] for one in told)
    lines.append(f"about {seconds(total)} on two cores; done items are not run again")
    if missing:
        lines.append(f"SYNTHETIC stand-ins for {', '.join(sorted(missing))}")
    again = shlex.join(_command(args))
    show(args, {"items": told, "seconds": total, "command": again}, "\n".join(lines))
    return 0
