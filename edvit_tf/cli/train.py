"""`edvit train FOLDER`: from a folder of one's own to a bundle and a report."""

import argparse
import dataclasses

from edvit_tf.cli.engine_options import add_engine
from edvit_tf.cli.method_options import METHOD
from edvit_tf.cli.options import add_options, changed
from edvit_tf.cli.planning_options import PLANNING
from edvit_tf.cli.progress_options import add_progress, before_run, log_of, shown
from edvit_tf.cli.values import base_source, minutes, natural, user_path
from edvit_tf.config import DataConfig, RunConfig, TrainConfig
from edvit_tf.device.errors import DeviceExit
from edvit_tf.progress.events import tell

# What of the recipes' options somebody with data of his own asks for; a recipe has them all.
OFFERED = ("--devices", "--budget", "--replicas", "--fleet", "--fusion", "--flavours", "--backend")
OPTIONS = tuple(option for option in (*PLANNING, *METHOD) if option.name in OFFERED)
NUM_DEVICES = 3

_FIT = TrainConfig(epochs=1)
# whose defaults the help names
_DEFAULTS = RunConfig(
    name="",
    data=DataConfig("folder", image_size=(64, 64)),
    model="vit_cpu",
    base_training=_FIT,
    stage_training=_FIT,
    fusion_training=_FIT,
    num_devices=NUM_DEVICES,
    fleet="auto",
    views="auto",
    fusion="auto",
)


def add_train(commands) -> None:
    """Adds `train` to the subparsers of `edvit`."""
    parser = commands.add_parser(
        "train",
        help="from a folder of your own (one folder a class) to a bundle and a report",
        description="Trains a fleet on pictures, sound or texts of your own. Settings follow from "
        "what is in the folder: docs/howto/own_data.md.",
    )
    parser.add_argument(
        "folder",
        type=user_path,
        metavar="FOLDER",
        help="one folder a class, in train/ validation/ test/ where you have split them; or a "
        "table FILES.csv with the columns file,label or text,label, and group where there are some",
    )
    add_data(parser.add_argument_group("data"))
    add_options(parser.add_argument_group("devices and files"), OPTIONS, _DEFAULTS)

    run = parser.add_argument_group("this run")
    run.add_argument(
        "--base",
        type=base_source,
        default="auto",
        metavar="BASE",
        help="auto: a pretrained model that is at hand, else none (the default); scratch: none; "
        "or a checkpoint folder, a .keras file of an earlier run, a name on the hub",
    )
    run.add_argument(
        "--out",
        type=user_path,
        metavar="DIR",
        help="bundle folder (default exports/ and the folder's name); stages lie beside it",
    )
    run.add_argument(
        "--overwrite", action="store_true", help="start again: delete this run's stages and bundle"
    )
    add_engine(run)
    run.add_argument(
        "--tune",
        type=minutes,
        metavar="MINUTES",
        help="first search settings of the base's fit for so many minutes, on validation data, "
        "beginning with the table's; a search that was ended goes on (needs the extra [tune])",
    )
    add_progress(run)
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="look at the folder, say what would be done, train nothing",
    )
    parser.set_defaults(run=_train, reuse=None, shared_weights=None)


def add_data(group) -> None:
    """The options that say how a folder is to be read."""
    group.add_argument(
        "--kind",
        choices=("pictures", "sound", "text"),
        help="where several are there: which is meant",
    )
    group.add_argument(
        "--group-by",
        metavar="RULE",
        help="what stays on one side of the split: a regular expression on the path in the "
        "folder, whose first group is the name, as '(site\\d+)_'; or exif:MINUTES, pictures taken "
        "within so many minutes",
    )
    group.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether training may mirror pictures (default: yes, but small grey ones, which may "
        "be digits or letters)",
    )
    group.add_argument("--seed", type=natural, default=0, help="of the split and all else")


def _train(args) -> int:
    from edvit_tf.cli.recipe import dry_run, interrupted, out_of, run_and_tell
    from edvit_tf.pipeline.elsewhere import check_engine
    from edvit_tf.pipeline.places import check_place
    from edvit_tf.pipeline.prepare import check_asked, prepare, prepared_table, tuned

    try:
        with before_run(args):
            # a devices.toml with a slip is told before thousands of files are looked at
            changed(_DEFAULTS, OPTIONS, args)
            check_asked(args.folder, args.tune)
            if not args.dry_run:
                check_engine(args.jobs, args.ray)
            if args.out is not None:
                check_place(args.out, args.folder)
            ready = prepare(
                args.folder,
                base=args.base,
                kind=args.kind,
                group_by=args.group_by,
                mirror=args.mirror,
                seed=args.seed,
            )
            config = changed(ready.config.replace(num_devices=NUM_DEVICES), OPTIONS, args)
            out = out_of(args, config, args.folder)
        ready = dataclasses.replace(ready, config=config)
        with shown(args, None if args.dry_run else log_of(out)):
            tell(f"{prepared_table(ready)}\n")
            if args.dry_run:
                if args.tune is not None:
                    s = "s" * (args.tune != 1)
                    tell(f"tune: {args.tune:g} minute{s} of search would come first\n")
                dry_run(config, ready.dataset, ready.base.source)
            else:
                config, told = tuned(ready, out, args.tune, args.overwrite)
                run_and_tell(args, config, ready.dataset, out, ready.base.source, told)
    except KeyboardInterrupt:
        return interrupted()
    return DeviceExit.DONE
