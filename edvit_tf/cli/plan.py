"""`edvit plan`: what a fleet would hold, from cost figures alone."""

import sys
from dataclasses import asdict

from edvit_tf.cli.options import add_options, changed
from edvit_tf.cli.output import add_json, show
from edvit_tf.cli.planning_options import FLEET, PLANNING
from edvit_tf.cli.values import positive, user_path
from edvit_tf.config import FLAVOURS, PlanConfig, PruneConfig

# merged heads have the paper's widths
DEFAULTS = PlanConfig(pruning=PruneConfig(heads="merge"))
OPTIONS = (*PLANNING, FLEET)


def add_plan(commands) -> None:
    """Adds `plan` to the subparsers of `edvit`."""
    parser = commands.add_parser(
        "plan", help="heads, bytes and devices of every sub-model, from cost figures alone"
    )
    parser.add_argument("--model", default="vit_base", help="preset (default vit_base)")
    parser.add_argument("--classes", type=positive, default=10, help="default 10")
    parser.add_argument(
        "--channels", type=positive, default=3, help="3 for pictures (the default), 1 for audio"
    )
    parser.add_argument(
        "--image-size",
        type=positive,
        default=224,
        help="height and width of the input (default 224)",
    )
    parser.add_argument(
        "--flavour",
        choices=FLAVOURS,
        default="float32",
        help="of the files that are counted (default float32, which is what recipes export)",
    )
    parser.add_argument(
        "--latency",
        type=user_path,
        metavar="FILE",
        help="of `edvit bench calibrate`: milliseconds beside the MACs, for that processor",
    )
    add_options(parser, OPTIONS, DEFAULTS)
    add_json(parser)
    parser.set_defaults(run=_plan)


def _plan(args) -> int:
    from edvit_tf.errors import PlanError
    from edvit_tf.models import preset
    from edvit_tf.planning.fleets import planned_fleet
    from edvit_tf.planning.latency import read_calibration
    from edvit_tf.planning.plan import plan_groups
    from edvit_tf.report.planned_energy import energy_text, planned_energy
    from edvit_tf.report.planned_fleet import decided_later, fleet_text
    from edvit_tf.report.planned_latency import latency_text, planned_latency
    from edvit_tf.report.planned_ways import planned_ways, planned_ways_table

    config = changed(DEFAULTS, OPTIONS, args)
    if config.strategy != "random":
        raise PlanError(
            f"strategy is {config.strategy!r}; it groups by the confusions of a trained base, "
            "which `edvit plan` does not have. Leave it out (random groups have the same sizes and "
            "cost the same), or give it to a recipe."
        )

    calibration = None if args.latency is None else read_calibration(args.latency)
    base = preset(args.model, (args.image_size, args.image_size, args.channels), args.classes)

    split = plan_groups(config, base, flavour=args.flavour)
    fleet = planned_fleet(config, base, split)
    # the table has it; of JSON for programs standard error is the place
    if args.json and fleet.warning:
        print(fleet.warning, file=sys.stderr)
    ways = planned_ways(split, base, config)
    result = fleet.to_dict() | {
        "fleet": config.fleet,
        "decided_later": decided_later(config, split),
        "ways": [asdict(way) for way in ways],
    }
    text = f"{fleet_text(config, base, split)}\n\n{planned_ways_table(ways)}"
    energy = planned_energy(fleet)
    if energy is not None:
        result["energy"] = energy.to_dict()
        text += f"\n\n{energy_text(energy)}"
    if calibration is not None:
        latency = planned_latency(fleet, base, calibration)
        result["latency"] = {
            "processor": calibration.processor,
            "estimates": [one.to_dict() for one in latency],
        }
        text += f"\n\n{latency_text(calibration, latency)}"
    show(args, result, text)
    return 0
