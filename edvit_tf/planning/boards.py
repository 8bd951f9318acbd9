"""Published figures of Raspberry Pis: watts, multiply-accumulates a second, Wi-Fi. boards.toml
holds them, each with the address where it was published and its date.
"""

import functools
import statistics
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Self

from edvit_tf.checked import Checked
from edvit_tf.errors import ConfigError

FILE = "boards.toml"


@dataclass(frozen=True)
class Range(Checked):
    """An estimate, and the least and the most that its sources allow."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float], middle: float | None = None) -> Self:
        """That of several sources: their median, unless one of them is named."""
        found = list(values)
        chosen = statistics.median(found) if middle is None else middle
        return cls(min(found), chosen, max(found))

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.middle + other.middle, self.high + other.high)

    def __mul__(self, other: "Range | float") -> "Range":
        if not isinstance(other, Range):
            other = Range(other, other, other)
        return Range(self.low * other.low, self.middle * other.middle, self.high * other.high)

    def __rtruediv__(self, amount: float) -> "Range":
        """So much at these rates: the fastest takes least."""
        return Range(amount / self.high, amount / self.middle, amount / self.low)


@dataclass(frozen=True)
class Power(Checked):
    """Watts of a whole board, from one source."""

    idle: float
    loaded: float  # all four cores busy
    said: str
    source: str
    date: str


@dataclass(frozen=True)
class Speed(Checked):
    """Milliseconds that a network took on four threads, from one source."""

    ms: float
    macs: int
    said: str
    source: str
    date: str

    @property
    def macs_per_second(self) -> float:
        return 1000 * self.macs / self.ms


@dataclass(frozen=True)
class Wifi(Checked):
    """Megabits a second that were measured over Wi-Fi."""

    mbit: float
    source: str
    date: str


@dataclass(frozen=True)
class Board(Checked):
    """What is published of a board."""

    key: str  # as devices.toml and --board name it
    name: str
    power: tuple[Power, ...]
    speed: tuple[Speed, ...]
    wifi: Wifi | None = None

    def check(self) -> None:
        self._require(bool(self.power), "power", "a board needs its watts, with their source")
        self._require(bool(self.speed), "speed", "a board needs its speed, with its source")

    @property
    def idle_watts(self) -> Range:
        return Range.of(one.idle for one in self.power)

    @property
    def working_watts(self) -> Range:
        """What computing adds: loaded less idle, each by the same source."""
        return Range.of(one.loaded - one.idle for one in self.power)

    @property
    def macs_per_second(self) -> Range:
        """By the first source, which is nearest to what runs here; the range is that of all."""
        rates = [one.macs_per_second for one in self.speed]
        return Range.of(rates, middle=rates[0])


@functools.cache
def boards() -> dict[str, Board]:
    """Every board by its key, in the order of boards.toml."""
    text = resources.files("edvit_tf.planning").joinpath(FILE).read_text("utf-8")
    found = [Board.from_dict(entry) for entry in tomllib.loads(text)["board"]]
    return {board.key: board for board in found}


def board_of(key: str) -> Board:
    """The board of this key; ConfigError for one of which nothing is published here."""
    if key not in boards():
        raise ConfigError(
            f"there is no board {key!r}; those with published figures are: "
            f"{', '.join(boards())}. Take the nearest one."
        )
    return boards()[key]
