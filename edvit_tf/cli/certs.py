"""`edvit certs ...`: the authority of a fleet and the identities of its machines."""

import argparse

from edvit_tf.cli.values import user_path


def add_certs(commands) -> None:
    """Adds `certs init` and `certs issue` to the subparsers of `edvit`."""
    certs = commands.add_parser(
        "certs", help="keys and role certificates for workers, aggregators, clients"
    ).add_subparsers(required=True, metavar="WHAT")

    init = certs.add_parser(
        "init", help="an authority: ca.pem, and ca.key, which stays on this machine"
    )
    init.add_argument("folder", type=user_path)
    init.set_defaults(run=_init)

    issue = certs.add_parser(
        "issue", help="the identity of one machine: a folder with ca.pem, cert.pem, key.pem"
    )
    issue.add_argument("folder", type=user_path, help="of the authority")
    issue.add_argument("role", choices=("worker", "aggregator", "client"))
    issue.add_argument("name", help="of the machine, e.g. pi-kitchen")
    issue.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="H",
        help="name or address at which it is "
        "reached (may be given again; default NAME and NAME.local)",
    )
    issue.add_argument(
        "--days", type=_days, default=1825, help="validity from today (default 1825)"
    )
    issue.add_argument(
        "--out", type=user_path, metavar="DIR", help="where to write it (default FOLDER/ROLE-NAME)"
    )
    issue.set_defaults(run=_issue)


def _init(args) -> int:
    from edvit_tf.operate import certs

    print(
        f"{certs.init(args.folder)}: keep ca.key on this machine and back it up; ca.pem goes with "
        "every identity"
    )
    return 0


def _issue(args) -> int:
    from edvit_tf.operate import certs

    out = certs.issue(args.folder, args.role, args.name, args.host, args.days, args.out)
    print(f"{out}: copy this folder to {args.name} over ssh, then give it as --identity")
    return 0


def _days(text: str) -> int:
    """A whole number of days, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days; write 1 or more")
    return int(text)
