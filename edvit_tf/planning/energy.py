"""Joules of an answer: an estimate, from multiply-accumulates, bytes moved, and what is published
of the boards.

    seconds     all MACs (products of attention too) at the device's measured speed, or at the
                published one of its board
    computing   seconds times what computing adds to a board's watts (loaded less idle)
    network     at most: seconds of the bytes at the published Wi-Fi rate, as if the board worked
                meanwhile; nobody published what they cost
    idle        watts that the board draws, asked or not

Left out: the aggregator, the access point, losses of a power supply, a file that is read from the
card, and that fewer than four threads draw less and take longer. Computing that touches much memory
can draw more than the stress tests which the watts are of.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edvit_tf.checked import Checked
from edvit_tf.config import DeviceSpec
from edvit_tf.errors import PlanError
from edvit_tf.models import ModelConfig, architecture
from edvit_tf.planning.boards import Board, Range, board_of, boards
from edvit_tf.planning.placement import Joules

PICO = 10**12
FLOAT = 4  # bytes of a feature
# Bytes of a value of the input: numbers of word pieces; all else is uint8.
VALUE_BYTES = {"bert": 4}


@dataclass(frozen=True)
class Spent(Checked):
    """What a device spends on one question."""

    seconds: Range  # of computing
    computing_joules: Range
    network_joules: float | None  # at most; None: no Wi-Fi rate of the board is published
    idle_watts: Range


def moved_bytes(config: ModelConfig) -> int:
    """Bytes over the network for one question to a sub-model: the input's tensor, and features back
    as float32. An encoded picture is smaller, and a sensor on the device sends none.
    """
    value = VALUE_BYTES.get(config.architecture, 1)
    return value * int(np.prod(config.input_shape)) + FLOAT * config.feature_dim


def spent(device: DeviceSpec, configs: Sequence[ModelConfig]) -> Spent | None:
    """What a device spends on one question to all of these; None where its board is not named.

    Raises ConfigError for a board that is not known.
    """
    macs = sum(architecture(config).macs_full(config) for config in configs)
    return spent_on(device, macs, sum(map(moved_bytes, configs)))


def spent_on(device: DeviceSpec, macs: int, moved: int) -> Spent | None:
    """The same of so many MACs (all of them) and bytes over the network."""
    if device.board is None:
        return None
    board = board_of(device.board)
    seconds = macs / _speed(device, board)
    network = None
    if board.wifi is not None:
        network = 8 * moved / (1e6 * board.wifi.mbit) * board.working_watts.high
    return Spent(seconds, seconds * board.working_watts, network, board.idle_watts)


def _speed(device: DeviceSpec, board: Board) -> Range:
    """MACs a second: the device's own, or those of its board."""
    own = device.macs_per_second
    return board.macs_per_second if own is None else Range(own, own, own)


def joules_of(
    configs: Sequence[ModelConfig], devices: Sequence[DeviceSpec], samples: int
) -> Joules:
    """What Eq. 1 needs in the place of MACs: joules of computing, `samples` questions each.

    Raises PlanError where a device has no board, or one that is not known.
    """
    picojoules = []
    for device in devices:
        if device.board is None:
            raise PlanError(
                f"objective is 'joules', and nothing says what {device.name} draws; each device "
                f'needs a board of: {", ".join(boards())}. Write board = "..." into its table of '
                "devices.toml, or give --board for all."
            )
        board = board_of(device.board)
        per_mac = board.working_watts.middle / _speed(device, board).middle
        picojoules.append(max(1, round(PICO * per_mac)))

    limits = []
    for device in devices:
        own = device.energy_joules
        limits.append(None if own is None else int(own * PICO))
    # of a thousand sub-models most have the widths of another
    macs = {config: architecture(config).macs_full(config) for config in dict.fromkeys(configs)}
    work = tuple(samples * macs[config] for config in configs)
    return Joules(work, tuple(picojoules), tuple(limits))


def no_limits_in_joules(devices: Sequence[DeviceSpec]) -> None:
    """Raises PlanError where a device has a limit in joules, which Eq. 1 in MACs does not read."""
    for device in devices:
        if device.energy_joules is not None:
            raise PlanError(
                f"{device.name} may spend {device.energy_joules:g} J, which objective 'macs' does "
                "not read; give --objective joules, or drop the line energy from its table."
            )
