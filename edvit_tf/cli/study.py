"""`edvit study ...` and `edvit sweep`: what the method is measured with."""

import contextlib
import shutil
import sys
from pathlib import Path

from edvit_tf.cli.engine_options import add_runs_at_once
from edvit_tf.cli.output import add_json, show
from edvit_tf.cli.study_bundles import add_bundle_studies
from edvit_tf.cli.study_tables import add_tables
from edvit_tf.cli.values import counts, names, natural, naturals, positive, user_path


def add_study(commands) -> None:
    """Adds all of `study`: scores, cuts, clusters, quantized, fleet, and those of other modules."""
    parser = commands.add_parser("study", help="tables of the method, and of what it costs")
    studies = parser.add_subparsers(required=True, metavar="WHAT")
    _add_scores(studies)
    _add_cuts(studies)
    _add_clusters(studies)
    _add_quantized(studies)
    _add_fleet(studies)
    add_tables(studies)
    add_bundle_studies(studies)


def _add_base(parser) -> None:
    """Options of a study that begins with a trained base."""
    parser.add_argument(
        "--base",
        required=True,
        metavar="WEIGHTS",
        help="a base fine-tuned on the data set: .keras, checkpoint folder or hub name",
    )
    parser.add_argument("--data", default="cifar10", help="data set (default cifar10)")
    _add_rows(parser)


def _add_rows(parser) -> None:
    """Options of every study."""
    parser.add_argument("--data-dir", type=user_path, help="folder of the data set")
    parser.add_argument(
        "--out",
        type=user_path,
        help="JSON lines of finished rows; the same command goes on after them",
    )
    parser.add_argument("--seed", type=natural, default=0)
    add_json(parser)


def _add_scores(studies) -> None:
    parser = studies.add_parser("scores", help="rank agreement of the scores with leave-one-out")
    _add_base(parser)
    parser.add_argument("--samples", type=positive, default=64, help="inputs (default 64)")
    parser.add_argument(
        "--units", type=positive, default=32, help="units of each layer (default 32)"
    )
    parser.set_defaults(run=_study_scores)


def _study_scores(args) -> int:
    from edvit_tf.study.common import Rows, load_trained
    from edvit_tf.study.scores import METHODS, agreement, agreement_table

    base = load_trained(args.base, args.data, args.data_dir, args.seed)
    settings = {"samples": args.samples, "units": args.units, "seed": args.seed, **base.identity}

    # Finished rows are taken up again; a file of rows with other settings is refused.
    rows = Rows(args.out, settings)

    done = []
    for row in agreement(base, rows, samples=args.samples, units=args.units, seed=args.seed):
        done.append(row)

        ranks = ", ".join(f"{method} {row[method]['spearman']:.3f}" for method in METHODS)
        print(f"{row['name']}: {ranks}", file=sys.stderr, flush=True)

    show(args, done, agreement_table(done))
    return 0


def _add_cuts(studies) -> None:
    parser = studies.add_parser(
        "cuts", help="accuracy after each cut, repair and fit, by every option"
    )
    _add_base(parser)
    parser.add_argument(
        "--part",
        choices=("residual", "grid", "heads", "best"),
        default="grid",
        help="the residual stage alone; all three stages by every option (the default); by every "
        "way of making attention narrower; or the default options",
    )
    parser.add_argument(
        "--epochs", type=positive, default=1, help="of the fit after the cuts (default 1)"
    )
    parser.add_argument(
        "--optimizer",
        choices=("adamw", "muon"),
        default="adamw",
        help="of the fit (default adamw, at a rate of 3e-5; muon: at 5e-4)",
    )
    parser.add_argument(
        "--heads", type=counts, default=(3, 2), help="heads kept, e.g. 3,2 (the default)"
    )
    parser.add_argument(
        "--calibration",
        type=positive,
        default=128,
        help="inputs of scores and repairs (default 128)",
    )
    parser.add_argument(
        "--train", type=positive, default=5000, help="inputs of the fit (default 5000)"
    )
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument(
        "--held-out",
        type=positive,
        default=600,
        help="inputs that accuracy is taken on (default 600)",
    )
    parser.set_defaults(run=_study_cuts)


def _study_cuts(args) -> int:
    from edvit_tf.study import cuts
    from edvit_tf.study.common import Rows, load_trained

    fitting = cuts.FIT.replace(epochs=args.epochs)
    if args.optimizer == "muon":
        fitting = fitting.replace(optimizer="muon", learning_rate=5e-4)
    base = load_trained(args.base, args.data, args.data_dir, 0)
    settings = {
        "calibration": args.calibration,
        "train": args.train,
        "split": args.split,
        "held_out": args.held_out,
        "fit": fitting.to_dict(),
        **base.identity,
    }
    rows = Rows(args.out, settings)

    # Keras prints its progress; the figures alone go to standard output
    with contextlib.redirect_stdout(sys.stderr):
        bench = cuts.Bench(
            base,
            calibration=args.calibration,
            train=args.train,
            test=args.held_out,
            split=args.split,
            seed=args.seed,
            fitting=fitting,
        )
        whole = ", ".join(f"{name} {100 * share:.1f} %" for name, share in bench.whole().items())
        print(whole, flush=True)

        if args.part == "residual":
            found = cuts.residual_study(bench, rows, args.heads)
        else:
            grids = {"grid": cuts.full_grid, "heads": cuts.heads_grid, "best": cuts.best_two}
            grid = grids[args.part]()
            found = cuts.grid_study(bench, rows, args.heads, grid)

        done = []
        for row in found:
            done.append(row)
            print(cuts.cuts_table([row], base.config.num_heads), flush=True)

    show(args, done, cuts.cuts_table(done, base.config.num_heads))
    return 0


def _add_fleet(studies) -> None:
    parser = studies.add_parser(
        "fleet",
        help="packs data and base for `python -m edvit_tf.study.fleet`, which trains whole fleets "
        "on an accelerator",
    )
    _add_base(parser)
    parser.add_argument("pack", type=user_path, metavar="FOLDER", help="new folder for the pack")
    parser.set_defaults(run=_study_fleet)


def _study_fleet(args) -> int:
    from edvit_tf.study.common import load_trained
    from edvit_tf.study.fleet.pack import write_pack

    base = load_trained(args.base, args.data, args.data_dir, args.seed)
    write_pack(base.dataset, base.config, base.weights, args.pack)

    size = sum(path.stat().st_size for path in args.pack.iterdir())
    text = (
        f"{args.pack}: {size / 2**20:.1f} MiB. Where the accelerator is: python -m "
        f"edvit_tf.study.fleet {args.pack.name} --out RESULTS"
    )
    show(args, {"pack": str(args.pack), "size_bytes": size}, text)
    return 0


def _add_clusters(studies) -> None:
    parser = studies.add_parser(
        "clusters", help="weights on few values: bytes over a slow link against accuracy"
    )
    parser.add_argument("bundle", type=user_path)
    _add_rows(parser)
    parser.add_argument(
        "--clusters", type=counts, default=(64, 32, 16), help="values a matrix (default 64,32,16)"
    )
    parser.add_argument(
        "--epochs", type=naturals, default=(0, 1), help="of training the centroids (default 0,1)"
    )
    parser.add_argument(
        "--samples", type=positive, default=600, help="training inputs of an epoch (default 600)"
    )
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.set_defaults(run=_study_clusters)


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

    found = clusters_study(
        bundle,
        data_of(bundle, args.data_dir),
        Rows(args.out, settings),
        clusters=args.clusters,
        epochs=args.epochs,
        samples=args.samples,
        split=args.split,
        seed=args.seed,
    )

    done = []
    for row in found:
        done.append(row)
        print(clusters_table(done).splitlines()[-1], file=sys.stderr, flush=True)

    show(args, done, clusters_table(done))
    return 0


def _add_quantized(studies) -> None:
    parser = studies.add_parser(
        "quantized", help="our int8 files beside those of ai-edge-quantizer, int8 and int4"
    )
    parser.add_argument("bundle", type=user_path)
    parser.add_argument("--data-dir", type=user_path, help="of the bundle's data set")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--turns", type=positive, default=7, help="of the times (default 7)")
    parser.add_argument("--runs", type=positive, default=200, help="a turn (default 200)")
    add_json(parser)
    parser.set_defaults(run=_study_quantized)


def _study_quantized(args) -> int:
    from edvit_tf.device.model.bundle import open_bundle
    from edvit_tf.evaluation.evaluate import data_of
    from edvit_tf.study.quantized import quantized_study, quantized_table

    bundle = open_bundle(args.bundle)
    dataset = data_of(bundle, args.data_dir)
    rows = quantized_study(bundle, dataset, split=args.split, turns=args.turns, runs=args.runs)
    show(args, rows, quantized_table(rows))
    return 0


def add_sweep(commands) -> None:
    """Adds `sweep` to the subparsers of `edvit`."""
    parser = commands.add_parser(
        "sweep",
        help="a recipe over several numbers of devices: tables and one page",
        epilog="what follows -- goes to the recipe, e.g. -- --data-dir DIR --budget 50MiB",
    )
    parser.add_argument("recipe", type=user_path, help="e.g. recipes/mnist.py")
    parser.add_argument(
        "--devices", type=counts, default=(1, 2, 3, 5, 10), help="numbers (default 1,2,3,5,10)"
    )
    parser.add_argument("--seeds", type=naturals, default=(0,), help="a run of each (default 0)")
    parser.add_argument(
        "--strategies",
        type=names,
        default=(),
        help="ways to group classes, a run of each: "
        "random,similar,dissimilar (default: the recipe's own)",
    )
    parser.add_argument(
        "--budgets",
        type=names,
        default=(),
        help="training budgets, a run of each: epochs of the one model, as in 8e,16e, or minutes, "
        "as in 30m,90m (default: the recipe's own)",
    )
    add_runs_at_once(parser)
    parser.add_argument(
        "--out",
        type=user_path,
        help="folder of bundles, sweep.json and report.html; the same command goes "
        "on after a stop (default exports/<recipe>-sweep)",
    )
    add_json(parser)
    parser.set_defaults(run=_sweep)


def _sweep(args) -> int:
    from edvit_tf.report.sweep import sweep_text
    from edvit_tf.report.tables import LINE
    from edvit_tf.study.sweep import sweep

    out = args.out or Path("exports") / f"{args.recipe.stem}-sweep"
    # What the recipe prints goes beside the table, not into it.
    with contextlib.redirect_stdout(sys.stderr):
        rows = sweep(
            args.recipe,
            out,
            args.devices,
            args.seeds,
            args.options,
            args.jobs,
            args.strategies,
            args.budgets,
            args.ray,
        )
    # of a file or a pipe nobody knows the width
    width = shutil.get_terminal_size((LINE, 24)).columns
    show(args, rows, f"{sweep_text(rows, width)}\n\nreport: {out / 'report.html'}")
    return 0
