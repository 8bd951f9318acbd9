"""`--html FILE` of a study: the page of what it prints."""

import sys
from collections.abc import Sequence

from edvit_tf.cli.output import add_json
from edvit_tf.cli.values import user_path


def add_page(parser) -> None:
    """Adds `--html`, `--overwrite` and `--json` to a parser."""
    parser.add_argument("--html", type=user_path, metavar="FILE", help="a page with charts, too")
    parser.add_argument("--overwrite", action="store_true", help="replace the page that is there")
    add_json(parser)


def check_page(args) -> None:
    """OutputError where the page cannot go: before the work, not after it."""
    from edvit_tf.study.page import check_new

    if args.html is not None:
        check_new(args.html, args.overwrite)


def write_page(args, title: str, sections: Sequence[tuple[str, str]]) -> None:
    """The page of these (heading, HTML), where one was asked for."""
    from edvit_tf.study.page import page, write

    if args.html is not None:
        write(args.html, page(title, sections, args.words))
        print(f"page: {args.html}", file=sys.stderr)
