"""`edvit study tsne|retraining`: a bundle's features; what retraining makes of a recipe."""

import contextlib
import sys
from pathlib import Path

from edvit_tf.cli.engine_options import add_runs_at_once
from edvit_tf.cli.output import show
from edvit_tf.cli.study_page import add_page, check_page, write_page
from edvit_tf.cli.values import natural, naturals, positive, user_path


def add_bundle_studies(studies) -> None:
    """Adds these studies to those of `edvit study`."""
    _add_tsne(studies)
    _add_retraining(studies)


def _add_tsne(studies) -> None:
    parser = studies.add_parser(
        "tsne", help="features in two dimensions, and how well they part the classes (Figure 8)"
    )
    parser.add_argument("bundle", type=user_path)
    parser.add_argument(
        "--data-dir", type=user_path, help="folder of the data set that the bundle was made from"
    )
    parser.add_argument(
        "--base",
        type=user_path,
        metavar="FILE",
        help=".keras file of the unsplit base (default: BUNDLE.work/base/base.keras, where it is)",
    )
    parser.add_argument(
        "--each", type=positive, default=200, help="test samples of a class (default 200)"
    )
    parser.add_argument(
        "--submodel", type=natural, help="whose features are shown (default: drawn by the seed)"
    )
    parser.add_argument("--seed", type=natural, default=0)
    parser.add_argument(
        "--store",
        action="store_true",
        help="keep the figures in the bundle, as tsne.npz, and show them in its report",
    )
    parser.add_argument("--npz", type=user_path, metavar="FILE", help="coordinates and labels")
    add_page(parser)
    parser.set_defaults(run=_study_tsne)


def _study_tsne(args) -> int:
    from edvit_tf.report.embedding import FILE, embedding
    from edvit_tf.report.page import write_report
    from edvit_tf.study.page import check_new
    from edvit_tf.study.tsne import figures, store, tsne_study, tsne_text

    check_page(args)
    if args.npz is not None:
        check_new(args.npz, args.overwrite)

    # Keras prints its progress; the figures alone go to standard output
    with contextlib.redirect_stdout(sys.stderr):
        found = tsne_study(
            args.bundle,
            args.data_dir,
            base=args.base,
            each=args.each,
            submodel=args.submodel,
            seed=args.seed,
        )
    if args.npz is not None:
        store(found, args.npz)
    if args.store:
        store(found, args.bundle / FILE)
        print(f"stored; shown in {write_report(args.bundle)}", file=sys.stderr)

    title = f"{found['bundle']}: features by class"
    write_page(args, title, [("Features in two dimensions", embedding(found))])
    show(args, figures(found), tsne_text(found))
    return 0


def _add_retraining(studies) -> None:
    parser = studies.add_parser(
        "retraining",
        help="a recipe's fleet averaged, with its fusion trained, trained on as a whole, and as "
        "the recipe makes it (Table 3)",
        epilog="what follows -- goes to the recipe, e.g. -- --data-dir DIR --budget 50MiB",
    )
    parser.add_argument("recipe", type=user_path, help="e.g. recipes/cifar10.py")
    parser.add_argument("--devices", type=positive, help="number (default: the recipe's own)")
    parser.add_argument("--seeds", type=naturals, default=(0,), help="three runs each (default 0)")
    parser.add_argument(
        "--out",
        type=user_path,
        help="folder of bundles; the same command goes on after a stop "
        "(default exports/<recipe>-retraining)",
    )
    add_runs_at_once(parser)
    add_page(parser)
    parser.set_defaults(run=_study_retraining)


def _study_retraining(args) -> int:
    from edvit_tf.study.retraining import retraining, retraining_html, retraining_text

    check_page(args)
    out = args.out or Path("exports") / f"{args.recipe.stem}-retraining"
    # what is started is told beside the table, not in it
    with contextlib.redirect_stdout(sys.stderr):
        rows = retraining(
            args.recipe,
            out,
            devices=args.devices,
            seeds=args.seeds,
            options=args.options,
            jobs=args.jobs,
            ray=args.ray,
        )
    title = f"{args.recipe.stem}: what retraining is worth"
    write_page(args, title, [("Accuracy", retraining_html(rows))])
    show(args, rows, retraining_text(rows))
    return 0
