"""`edvit bench load`: rates one after the other, each from an empty line."""

import asyncio
import math
import selectors
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edvit_tf.aggregate.client import Client
from edvit_tf.bench.load.arrivals import arrivals
from edvit_tf.bench.load.drive import drive
from edvit_tf.bench.load.figures import figures, knee
from edvit_tf.bench.load.perf_analyzer import perf_analyzer
from edvit_tf.bench.load.target import Target, made_input, requests
from edvit_tf.device.rpc import tls
from edvit_tf.device.terminal import counted
from edvit_tf.errors import ConfigError, RequestFailed

MOST_REQUESTS = 2_000_000  # of a rate: each is remembered
_FEW_REQUESTS = 10  # of a rate that had none, in the time that is advised


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """What is sent how."""

    rates: Sequence[float]  # requests a second
    seconds: float = 10.0
    warm_up_seconds: float = 2.0  # before them, at the same rate
    poisson: bool = True
    seed: int = 0
    most_in_flight: int = 256
    connections: int = 1
    timeout_ms: float = 5000.0


def bench_load(
    server: str,
    own: tls.Identity | None,
    options: LoadOptions,
    files: Sequence[bytes] = (),
) -> dict:
    """{"server", "bundle_digest", "input", the options, "rates": `figures` of each, "knee",
    "perf_analyzer"} of an aggregator that is asked for `files` in turn, or, without any, for an
    input that is made.

    Raises RequestFailed where it is not there, does not take an input, or answers nothing at all;
    ConfigError for more than can be remembered, or for a rate without a request.
    """
    for rate in options.rates:
        _check_count(rate, options)

    client = Client(server, own, options.timeout_ms / 1e3)
    try:
        inputs = list(files) or [made_input(client, options.seed)]
        bodies = requests(client, inputs)
        digest = client.bundle_digest
    finally:
        client.close()

    # epoll's timers are of a millisecond, select's of a microsecond; few sockets are open here
    with asyncio.Runner(loop_factory=_fine_loop) as runner:
        rows = runner.run(_rates(server, own, options, bodies))

    if not any(row["answered"] for row in rows):
        failed = ", ".join(sorted(set().union(*(row["failed"] for row in rows))))
        raise RequestFailed(f"none of the requests was answered ({failed}). See the hub's log.")
    return {
        "server": server,
        "bundle_digest": digest,
        "input": _told(inputs, made=not files),
        "seconds": options.seconds,
        "warm_up_seconds": options.warm_up_seconds,
        "arrivals": f"Poisson (seed {options.seed})" if options.poisson else "constant",
        "most_in_flight": options.most_in_flight,
        "connections": options.connections,
        "timeout_ms": options.timeout_ms,
        "rates": rows,
        "knee": knee(rows, options.seconds),
        "perf_analyzer": perf_analyzer(
            server, own, options.rates, options.seconds, options.poisson
        ),
    }


def _check_count(rate: float, options: LoadOptions) -> None:
    count = rate * (options.seconds + options.warm_up_seconds)
    if count > MOST_REQUESTS:
        raise ConfigError(
            f"{rate:g} a second make {count:.0f} requests; {MOST_REQUESTS} can be remembered. "
            "Give fewer --seconds."
        )
    if not (_moments(rate, options) >= options.warm_up_seconds).any():
        raise ConfigError(
            f"{rate:g} a second for {options.seconds:g} s make no request, and each rate must have "
            f"one. Give --seconds {math.ceil(_FEW_REQUESTS / rate)}."
        )


def _fine_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def _rates(
    server: str, own: tls.Identity | None, options: LoadOptions, bodies: Sequence[bytes]
) -> list[dict]:
    found = []
    async with Target(server, own, options.connections, bodies) as target:
        for rate in options.rates:
            sent = await drive(
                _moments(rate, options),
                target.send,
                most_in_flight=options.most_in_flight,
                timeout_seconds=options.timeout_ms / 1e3,
            )
            found.append(figures(sent, rate, options.seconds, options.warm_up_seconds))
    return found


def _moments(rate: float, options: LoadOptions) -> np.ndarray:
    """When the requests of one rate arrive, those to warm up too."""
    return arrivals(
        rate,
        options.warm_up_seconds + options.seconds,
        options.seed if options.poisson else None,
    )


def _told(inputs: Sequence[np.ndarray | bytes], made: bool) -> str:
    sizes = [len(one) if isinstance(one, bytes) else one.nbytes for one in inputs]
    told = f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
    what = "an input that was made" if made else f"{counted(len(inputs), 'file')} in turn"
    return f"{what}, {told} bytes"
