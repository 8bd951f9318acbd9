"""`edvit hub push`, `edvit hub pull`: bundles to the Hugging Face hub, and from it."""

from edvit_tf.cli.output import add_json, show
from edvit_tf.cli.values import user_path


def add_hub(commands) -> None:
    """Adds `hub` with `push` and `pull` to the subparsers of `edvit`."""
    hub = commands.add_parser("hub", help="bundles to the Hugging Face hub, and from it")
    actions = hub.add_subparsers(required=True, metavar="push|pull")

    push = actions.add_parser(
        "push",
        help="send a bundle with its card and report",
        description="Sends a bundle as one commit, each file verified. Needs a token that may "
        "write: hf auth login, or HF_TOKEN.",
    )
    push.add_argument("bundle", type=user_path)
    push.add_argument("repo", metavar="OWNER/NAME", help="made if it is not there")
    push.add_argument("--private", action="store_true", help="make it visible to you alone")
    push.add_argument(
        "--overwrite",
        action="store_true",
        help="replace what else the repository holds; its history keeps it",
    )
    add_json(push)
    push.set_defaults(run=_push)

    pull = actions.add_parser(
        "pull",
        help="fetch a bundle; it appears when every file is verified",
        description="Fetches what the manifest lists and the card; the report is a page with "
        "code and is not fetched (edvit report makes it anew).",
    )
    pull.add_argument("repo", metavar="OWNER/NAME")
    pull.add_argument(
        "folder", type=user_path, nargs="?", metavar="FOLDER", help="default: NAME, here"
    )
    add_json(pull)
    pull.set_defaults(run=_pull)


def _push(args) -> int:
    from edvit_tf.hub.push import push

    address = push(args.bundle, args.repo, private=args.private, overwrite=args.overwrite)
    show(args, {"address": address}, f"{args.bundle} is at {address}")
    return 0


def _pull(args) -> int:
    from edvit_tf.hub.pull import pull

    folder = pull(args.repo, args.folder)
    said = f"{args.repo} is in {folder}, verified. edvit up {folder} answers by it."
    show(args, {"bundle": str(folder)}, said)
    return 0
