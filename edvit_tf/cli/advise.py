"""`edvit advise`: which way to use the devices of a finished bundle."""

from edvit_tf.cli.output import add_json, show
from edvit_tf.cli.values import user_path


def add_advise(commands) -> None:
    """Adds `advise` to the subparsers of `edvit`."""
    parser = commands.add_parser(
        "advise",
        help="one model, copies of it, a fleet or the whole base: what each gives and costs",
    )
    parser.add_argument("bundle", type=user_path)
    add_json(parser)
    parser.set_defaults(run=_advise)


def _advise(args) -> int:
    from edvit_tf.device.model.bundle import open_bundle
    from edvit_tf.report.advice import advise
    from edvit_tf.report.advised import advice_json, advice_text
    from edvit_tf.report.results import read_results

    bundle = open_bundle(args.bundle)
    results = read_results(bundle.path)
    found = advise(bundle, results)
    show(args, advice_json(found), advice_text(found, results))
    return 0
