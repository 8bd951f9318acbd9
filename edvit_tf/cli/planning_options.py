"""The options of planning, which recipes and `edvit plan` share.

One more of them is three edits: a field of `edvit_tf.config.PlanConfig`, a row here, and the code
of `edvit_tf.planning` that heeds it.
"""

from typing import TypeVar

from edvit_tf.cli.options import Option
from edvit_tf.cli.values import natural, user_path
from edvit_tf.config import ASSIGNMENTS, FLEETS, HEADS, OBJECTIVES, STRATEGIES, PlanConfig
from edvit_tf.errors import ConfigError
from edvit_tf.planning.boards import board_of
from edvit_tf.planning.devices import load_devices, parse_size

Config = TypeVar("Config", bound=PlanConfig)


def _devices(config: Config, text: str) -> Config:
    """`--devices 5`, or `--devices devices.toml`."""
    if text.isdecimal():
        return config.replace(num_devices=int(text), devices=None)

    devices = load_devices(user_path(text))
    return config.replace(num_devices=len(devices), devices=devices)


def _spread(config: Config, given: bool) -> Config:
    """`--spread`, of when that was not the default."""
    if config.assignment == "optimal":
        raise ConfigError(
            "--spread and --assignment optimal exclude each other: the solver balances what is "
            "left by itself. Leave out one of them."
        )
    return config.replace(assignment="spread")


def _board(config: Config, key: str) -> Config:
    return config.replace(board=board_of(key).key)


def _budget(config: Config, text: str) -> Config:
    return config.replace(budget_bytes=parse_size(text))


# beside the others: a recipe's has its views to go with it (`method_options`)
FLEET = Option(
    "--fleet",
    "a class group each (classes); the one model of all classes on every device, each with "
    "another view of the input (copies); all-class members trained on together from that "
    "model (joint); or what the run chooses, copies as far as was measured (auto)",
    field="fleet",
    choices=FLEETS,
)

PLANNING = (
    Option(
        "--devices",
        "number of equal devices, or a devices.toml",
        field="num_devices",
        change=_devices,
    ),
    Option("--groups", "sub-models", field="num_groups", type=int, if_none="one a device"),
    Option(
        "--strategy",
        "how classes are grouped; similar and dissimilar go by the confusions of a trained base",
        field="strategy",
        choices=STRATEGIES,
    ),
    Option(
        "--budget",
        "bytes of all deployed files together, e.g. 180MiB",
        field="budget_bytes",
        change=_budget,
        if_none="no budget",
    ),
    Option(
        "--start-heads",
        "heads of each sub-model, if more than h / N, before the budget takes any",
        field="start_heads",
        type=int,
        metavar="K",
        if_none="h / N, rounded up",
    ),
    Option(
        "--assignment",
        "of sub-models to devices: one a device first, then by Eq. 1 (spread); the paper's "
        "Algorithm 3 (greedy), which may leave devices idle; the best by a solver (optimal)",
        field="assignment",
        choices=ASSIGNMENTS,
    ),
    Option("--spread", "the same as --assignment spread", is_switch=True, change=_spread),
    Option(
        "--objective",
        "what Eq. 1 leaves most of on the weakest device: the paper's MACs, or joules as they are "
        "estimated from published figures of the boards",
        field="objective",
        choices=OBJECTIVES,
    ),
    Option(
        "--board",
        "of each device whose table names none: tells joules; `edvit study energy --boards` lists "
        "them",
        field="board",
        change=_board,
        if_none="none",
    ),
    Option("--replicas", "devices that hold each sub-model", field="replicas", type=int),
    Option(
        "--samples",
        "L of Eq. 1: inferences that the compute limits must hold",
        field="samples",
        type=int,
    ),
    Option(
        "--cut-heads",
        "merge heads, keep them all but narrower, keep the best whole, or twice as many of them "
        "with half of their dims; merge and whole give the paper's widths",
        field="pruning.heads",
        choices=HEADS,
        former_name="--heads",
    ),
    Option(
        "--seed", "of random groups, and of all else that is random", field="seed", type=natural
    ),
)
