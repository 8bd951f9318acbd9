"""How often a fleet can answer with so many devices down: a simulation of planned placements beside
the closed form, and with whole racks down.

Every sub-model is on `replicas` devices, none of which holds another: N devices hold N // replicas
sub-models. That is what `edvit plan --groups N//replicas --replicas R` gives, and here the planner
itself places them. A sub-model is covered while one of its devices is up.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from edvit_tf.config import DeviceSpec
from edvit_tf.errors import ConfigError
from edvit_tf.planning.placement import Placement, Stuck, make_problem, spread


@dataclass(frozen=True)
class Row:
    """What share of all ways in which `failed` devices (or racks) can be down leaves an answer."""

    devices: int
    replicas: int
    sub_models: int
    least: int  # sub-models that an answer needs: --min-submodels of `edvit serve`
    failed: int
    all_exact: float | None  # every sub-model is covered, by the closed form
    all_simulated: float
    least_exact: float | None  # at least `least` are
    least_simulated: float
    racks: int | None = None  # how many there are, where whole racks fail


def bench_availability(
    devices: Sequence[int],
    replicas: Sequence[int],
    failed: Sequence[int],
    least_share: float = 0.9,
    trials: int = 2000,
    seed: int = 0,
    rack: int | None = None,
    apart: bool = False,
) -> list[Row]:
    """A row for each number of devices, of replicas, and of those that failed.

    With `rack` devices stand in racks of so many, and whole racks fail; then there is no closed
    form. They are listed rack by rack, or with `apart` one of each rack in turn, which puts copies
    into different racks: the planner takes neighbours of the list. Raises ConfigError where nothing
    is left to be computed.
    """
    if not 0 < least_share <= 1:
        raise ConfigError(f"least is {least_share}; it must be more than 0 and at most 1.")
    rng = np.random.default_rng(seed)
    rows = []
    for count in devices:
        for copies in replicas:
            if copies > count:
                continue
            placement = placed(count, copies)
            least = _least(least_share, len(placement))
            units = units_of(count, rack, apart)
            for down in failed:
                if down < len(units):
                    rows.append(_row(placement, count, copies, least, units, down, trials, rng))
    if not rows:
        raise ConfigError(
            f"failed is {tuple(failed)}; it must be fewer than the devices (or racks) that there "
            "are. Give smaller numbers, or more devices."
        )
    return rows


def placed(devices: int, replicas: int) -> Placement:
    """Where the planner puts equal sub-models: devices of each."""
    specs = [DeviceSpec(f"device-{i:05d}") for i in range(devices)]
    count = devices // replicas
    found = spread(make_problem([1] * count, [1] * count, specs, replicas=replicas))
    assert not isinstance(found, Stuck)  # devices without limits hold anything
    return found


def units_of(devices: int, rack: int | None, apart: bool = False) -> list[np.ndarray]:
    """What fails together: each device, or the devices of a rack."""
    every = np.arange(devices)
    size = 1 if rack is None else rack
    count = math.ceil(devices / size)
    if apart:
        return [every[i::count] for i in range(count)]
    return [every[i * size : (i + 1) * size] for i in range(count)]


def _row(
    placement: Placement,
    devices: int,
    replicas: int,
    least: int,
    units: Sequence[np.ndarray],
    failed: int,
    trials: int,
    rng: np.random.Generator,
) -> Row:
    count = len(placement)
    covered = simulated(placement, devices, units, failed, trials, rng)
    single = len(units) == devices
    return Row(
        devices=devices,
        replicas=replicas,
        sub_models=count,
        least=least,
        failed=failed,
        all_exact=exact(devices, count, replicas, failed, count) if single else None,
        all_simulated=float(np.mean(covered == count)),
        least_exact=exact(devices, count, replicas, failed, least) if single else None,
        least_simulated=float(np.mean(covered >= least)),
        racks=None if single else len(units),
    )


def simulated(
    placement: Placement,
    devices: int,
    units: Sequence[np.ndarray],
    failed: int,
    trials: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Sub-models that are covered in each trial, (trials,): `failed` units are down, each choice of
    them as likely as another.
    """
    held = np.array(placement)  # (sub-models, replicas)
    covered = np.empty(trials, dtype=int)
    for trial in range(trials):
        up = np.ones(devices, dtype=bool)
        for unit in rng.choice(len(units), failed, replace=False):
            up[units[unit]] = False
        covered[trial] = up[held].any(axis=1).sum()
    return covered


def exact(devices: int, sub_models: int, replicas: int, failed: int, least: int) -> float:
    """The share of the C(devices, failed) choices that leaves at least `least` sub-models covered.

    Of those that lose exactly m there are, by inclusion and exclusion,
    C(G, m) sum_k (-1)^k C(G - m, k) C(N - r (m + k), failed - r (m + k)); in whole numbers, for
    terms of hundreds of digits cancel.
    """
    lost_at_most = min(sub_models - least, failed // replicas)
    good = 0
    for m in range(lost_at_most + 1):
        ways = 0
        for k in range(min(sub_models - m, failed // replicas - m) + 1):
            gone = replicas * (m + k)
            term = math.comb(sub_models - m, k) * math.comb(devices - gone, failed - gone)
            ways += term if k % 2 == 0 else -term
        good += math.comb(sub_models, m) * ways
    return float(Fraction(good, math.comb(devices, failed)))


@dataclass(frozen=True)
class Chance:
    """The share of the time that leaves an answer, where each device is down for a share `p` of it,
    whatever the others are.
    """

    devices: int
    replicas: int
    p: float
    all_exact: float
    all_simulated: float
    least_exact: float
    least_simulated: float


def by_chance(
    devices: Sequence[int],
    replicas: Sequence[int],
    p: float,
    least_share: float = 0.9,
    trials: int = 2000,
    seed: int = 0,
) -> list[Chance]:
    """A row for each number of devices and of replicas. A sub-model is covered with probability
    1 - p^r, so the closed form is a binomial one. Raises ConfigError for a p outside 0 to 1.
    """
    from scipy.stats import binom

    if not 0 <= p <= 1:
        raise ConfigError(f"p is {p}; it is a share of the time, from 0 to 1.")
    rng = np.random.default_rng(seed)
    rows = []
    for count in devices:
        for copies in replicas:
            if copies > count:
                continue
            held = np.array(placed(count, copies))
            least = _least(least_share, len(held))
            up = rng.random((trials, count)) >= p
            covered = up[:, held].any(axis=2).sum(axis=1)
            exactly = binom(len(held), 1 - p**copies)
            rows.append(
                Chance(
                    devices=count,
                    replicas=copies,
                    p=p,
                    all_exact=float(exactly.pmf(len(held))),
                    all_simulated=float(np.mean(covered == len(held))),
                    least_exact=float(exactly.sf(least - 1)),
                    least_simulated=float(np.mean(covered >= least)),
                )
            )
    return rows


def _least(share: float, sub_models: int) -> int:
    """So many of the sub-models, rounded up; 0.9 of 10 are 9."""
    return math.ceil(share * sub_models - 1e-9)


def availability_text(rows: Sequence[Row], trials: int) -> str:
    """The table: percent of the ways in which so many can be down."""
    racks = any(row.racks is not None for row in rows)
    what = "racks down" if racks else "devices down"
    lines = [
        f"{'devices':>8}{'copies':>8}{'sub-models':>12}{what:>14}{'all answer %':>15}"
        f"{'simulated':>11}{'least':>7}{'answer %':>10}{'simulated':>11}"
    ]
    for row in rows:
        down = f"{row.failed} of {row.racks}" if row.racks else str(row.failed)
        lines.append(
            f"{row.devices:>8}{row.replicas:>8}{row.sub_models:>12}{down:>14}"
            f"{_percent(row.all_exact):>15}{_percent(row.all_simulated):>11}{row.least:>7}"
            f"{_percent(row.least_exact):>10}{_percent(row.least_simulated):>11}"
        )
    lines.append(
        f"of all choices of those that are down; simulated: {trials} of them. least: sub-models "
        "that an answer needs (--min-submodels)"
    )
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def chance_text(rows: Sequence[Chance]) -> str:
    """The table of devices that are down by chance, each for itself."""
    lines = [
        f"{'devices':>8}{'copies':>8}{'each down %':>13}{'all answer %':>15}{'simulated':>11}"
        f"{'least answer %':>16}{'simulated':>11}"
    ]
    for row in rows:
        lines.append(
            f"{row.devices:>8}{row.replicas:>8}{_percent(row.p):>13}{_percent(row.all_exact):>15}"
            f"{_percent(row.all_simulated):>11}{_percent(row.least_exact):>16}"
            f"{_percent(row.least_simulated):>11}"
        )
    return "\n".join(lines)
