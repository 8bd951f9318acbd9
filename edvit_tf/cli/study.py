"""`edvit study ...` and `edvit sweep`: what the method is measured with."""

import contextlib
import json
import sys
from pathlib import Path

from edvit_tf.cli.values import counts, names, natural, naturals, positive


def add_study(commands) -> None:
    """Adds `study scores` and `study cuts`."""
    study = commands.add_parser(
        "study", help="tables of the method on a trained base"
    ).add_subparsers(required=True, metavar="WHAT")
    few = study.add_parser(
        "clusters", help="weights on few values: bytes over a slow link against accuracy"
    )
    few.add_argument("bundle", type=Path)
    few.add_argument("--data-dir", type=Path)
    few.add_argument(
        "--clusters", type=counts, default=(64, 32, 16), help="values a matrix (default 64,32,16)"
    )
    few.add_argument(
        "--epochs", type=naturals, default=(0, 1), help="of training the centroids (default 0,1)"
    )
    few.add_argument(
        "--samples", type=positive, default=600, help="training inputs of an epoch (default 600)"
    )
    few.add_argument("--split", choices=("validation", "test"), default="validation")
    few.add_argument(
        "--out", type=Path, help="JSON lines of finished rows; the same command goes on after them"
    )
    few.add_argument("--seed", type=natural, default=0)
    few.add_argument("--json", action="store_true", help="the rows, in the place of the table")
    few.set_defaults(run=_study_clusters)
    for name, text, run in (
        ("scores", "rank agreement of the scores with leave-one-out", _study_scores),
        ("cuts", "accuracy after each cut, repair and fit, by every option", _study_cuts),
    ):
        each = study.add_parser(name, help=text)
        each.add_argument(
            "--base",
            required=True,
            metavar="WEIGHTS",
            help="a base fine-tuned on the data set: .keras, checkpoint folder or hub name",
        )
        each.add_argument("--data", default="cifar10", help="data set (default cifar10)")
        each.add_argument("--data-dir", type=Path)
        each.add_argument(
            "--out",
            type=Path,
            help="JSON lines of finished rows; the same command goes on after them",
        )
        each.add_argument("--seed", type=natural, default=0)
        each.add_argument("--json", action="store_true", help="the rows, in the place of the table")
        each.set_defaults(run=run)
        if name == "scores":
            each.add_argument("--samples", type=positive, default=64, help="inputs (default 64)")
            each.add_argument(
                "--units", type=positive, default=32, help="units of each layer (default 32)"
            )
            continue
        each.add_argument(
            "--part",
            choices=("residual", "grid", "best"),
            default="grid",
            help="the residual stage alone; all three stages by every option; or the default "
            "options",
        )
        each.add_argument(
            "--heads", type=counts, default=(3, 2), help="heads kept, e.g. 3,2 (the default)"
        )
        each.add_argument(
            "--calibration",
            type=positive,
            default=128,
            help="inputs of scores and repairs (default 128)",
        )
        each.add_argument(
            "--train", type=positive, default=5000, help="inputs of the one epoch (default 5000)"
        )
        each.add_argument("--split", choices=("validation", "test"), default="validation")
        each.add_argument(
            "--held-out",
            type=positive,
            default=600,
            help="inputs that accuracy is taken on (default 600)",
        )


def add_sweep(commands) -> None:
    """Adds `sweep` to the subparsers of `edvit`."""
    each = commands.add_parser(
        "sweep",
        help="a recipe over several numbers of devices: tables and one page",
        epilog="what follows -- goes to the recipe, e.g. -- --data-dir DIR --budget 50MiB",
    )
    each.add_argument("recipe", type=Path, help="e.g. recipes/mnist.py")
    each.add_argument(
        "--devices", type=counts, default=(1, 2, 3, 5, 10), help="numbers (default 1,2,3,5,10)"
    )
    each.add_argument("--seeds", type=naturals, default=(0,), help="a run of each (default 0)")
    each.add_argument(
        "--strategies",
        type=names,
        default=(),
        help="ways to group classes, a run of each: "
        "random,similar,dissimilar (default: the recipe's own)",
    )
    each.add_argument("--jobs", type=positive, default=1, help="runs at once (default 1)")
    each.add_argument(
        "--out",
        type=Path,
        help="folder of bundles, sweep.json and report.html; the same command goes "
        "on after a stop (default exports/<recipe>-sweep)",
    )
    each.add_argument("--json", action="store_true", help="the rows, in the place of the table")
    each.set_defaults(run=_sweep)


def _sweep(args) -> int:
    from edvit_tf.report.sweep import sweep_text
    from edvit_tf.study.sweep import sweep

    out = args.out or Path("exports") / f"{args.recipe.stem}-sweep"
    with contextlib.redirect_stdout(sys.stderr):
        rows = sweep(
            args.recipe, out, args.devices, args.seeds, args.options, args.jobs, args.strategies
        )
    print(
        json.dumps(rows, indent=1)
        if args.json
        else f"{sweep_text(rows)}\n\nreport: {out / 'report.html'}"
    )
    return 0


def _study_scores(args) -> int:
    from edvit_tf.study.common import Rows, load_trained
    from edvit_tf.study.scores import agreement, agreement_table

    base = load_trained(args.base, args.data, args.data_dir, args.seed)
    rows = Rows(
        args.out, {"samples": args.samples, "units": args.units, "seed": args.seed, **base.identity}
    )
    done = []
    for row in agreement(base, rows, samples=args.samples, units=args.units, seed=args.seed):
        done.append(row)
        print(
            f"{row['name']}: "
            + ", ".join(
                f"{m} {row[m]['spearman']:.3f}"
                for m in ("linearised", "fisher", "magnitude", "exact_again")
            ),
            file=sys.stderr,
            flush=True,
        )
    print(json.dumps(done, indent=1) if args.json else agreement_table(done))
    return 0


def _study_clusters(args) -> int:
    from edvit_tf.device.model.bundle import open_bundle
    from edvit_tf.evaluation.evaluate import data_of
    from edvit_tf.study.clusters import clusters_study, clusters_table
    from edvit_tf.study.common import Rows

    bundle = open_bundle(args.bundle)
    settings = {
        "samples": args.samples,
        "split": args.split,
        "seed": args.seed,
        "bundle": bundle.digest,
    }
    done = []
    for row in clusters_study(
        bundle,
        data_of(bundle, args.data_dir),
        Rows(args.out, settings),
        clusters=args.clusters,
        epochs=args.epochs,
        samples=args.samples,
        split=args.split,
        seed=args.seed,
    ):
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
    with contextlib.redirect_stdout(
        sys.stderr
    ):  # Keras' progress; the figures alone go to standard output
        bench = cuts.Bench(
            base,
            calibration=args.calibration,
            train=args.train,
            test=args.held_out,
            split=args.split,
            seed=args.seed,
        )
        print(
            ", ".join(f"{name} {100 * value:.1f} %" for name, value in bench.whole().items()),
            flush=True,
        )
        found = {
            "residual": lambda: cuts.residual_study(bench, rows, args.heads),
            "grid": lambda: cuts.grid_study(bench, rows, args.heads, cuts.full_grid()),
            "best": lambda: cuts.grid_study(bench, rows, args.heads, cuts.best_two()),
        }[args.part]()
        for row in found:
            done.append(row)
            print(cuts.cuts_table([row], base.config.num_heads), flush=True)
    print(json.dumps(done, indent=1) if args.json else cuts.cuts_table(done, base.config.num_heads))
    return 0
