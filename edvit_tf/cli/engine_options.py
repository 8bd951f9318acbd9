"""Who fits the members of a run, or of several runs at once: --jobs and --ray."""

import argparse

from edvit_tf.cli.values import positive


def add_engine(parser: argparse._ArgumentGroup) -> None:
    """Adds both to a group of options; one of them at most may be given."""
    who = parser.add_mutually_exclusive_group()
    who.add_argument(
        "--jobs",
        type=positive,
        default=1,
        help="processes of this machine that fit members at once; they share out the cores, and "
        "each takes memory of its own (default 1)",
    )
    who.add_argument(
        "--ray",
        metavar="auto|ADDRESS",
        help="fit members on a Ray cluster: auto, the one that this machine is a node of; or "
        "HOST:PORT, or ray://HOST:PORT (docs/howto/cluster.md; needs the extra [ray])",
    )


def add_runs_at_once(parser: argparse.ArgumentParser) -> None:
    """Adds both to a command that runs a recipe several times; they may be given together."""
    parser.add_argument("--jobs", type=positive, default=1, help="runs at once (default 1)")
    parser.add_argument(
        "--ray",
        metavar="auto|ADDRESS",
        help="fit the members of all runs on a Ray cluster, as --ray of a recipe does; with --jobs "
        "those of several runs at once",
    )
