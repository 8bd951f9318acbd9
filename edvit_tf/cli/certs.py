"""`edvit certs ...`: the authority of a fleet, the identities of its machines, and the key that
signs bundles; `edvit sign`, which uses that.
"""

import argparse

from edvit_tf.cli.values import user_path
from edvit_tf.device.rpc.tls import ROLES


def add_certs(commands) -> None:
    """Adds `certs init`, `issue` and `signer`, and `sign`, to the subparsers of `edvit`."""
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
    issue.add_argument("role", choices=ROLES)
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

    signer = certs.add_parser(
        "signer", help="a key to sign bundles: signer.key, and signer.pem for the devices"
    )
    signer.add_argument("folder", type=user_path)
    signer.set_defaults(run=_signer)

    _add_sign(commands)


def _add_sign(commands) -> None:
    sign = commands.add_parser("sign", help="sign a bundle, for devices that ask for it")
    sign.add_argument("bundle", type=user_path)
    sign.add_argument(
        "--key", type=user_path, required=True, help="signer.key of `edvit certs signer`"
    )
    sign.add_argument("--overwrite", action="store_true", help="replace another signature")
    sign.set_defaults(run=_sign)


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


def _signer(args) -> int:
    from edvit_tf.operate import certs

    folder = certs.make_signer(args.folder)
    print(
        f"{folder}: keep signer.key where bundles are made, and back it up; signer.pem goes to "
        "each device: python -m edvit_tf.device.update STORE trust signer.pem"
    )
    return 0


def _sign(args) -> int:
    from edvit_tf.operate.signing import sign

    print(f"{sign(args.bundle, args.key, args.overwrite)}: copy it with the bundle")
    return 0


def _days(text: str) -> int:
    """A whole number of days, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days; write 1 or more")
    return int(text)
