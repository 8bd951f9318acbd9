"""A fleet whose HTTP port is looked at: real workers, and an aggregator that serves its page."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc

from tests.support.aggregator_process import aggregator, wait_ready
from tests.support.fleet_process import Place, health, places
from tests.support.worker_process import Worker, wait_for


@contextlib.contextmanager
def watched_fleet(
    bundle: Path, folder: Path, hosted: Sequence[Sequence[int]]
) -> Iterator[tuple[list[Place], Worker, grpc.Channel]]:
    """(places, aggregator, a channel to it) of a device for each of `hosted`, all ready; an answer
    of one sub-model is an answer.
    """
    with (
        places(bundle, folder, hosted) as made,
        aggregator(
            bundle,
            folder,
            [place.address for place in made],
            "--metrics",
            "127.0.0.1:0",
            "--min-submodels",
            "1",
        ) as one,
        one.channel() as channel,
    ):
        wait_ready(channel)
        ready = ["ready"] * len(hosted)
        wait_for(lambda: [device["state"] for device in health(one)["devices"]] == ready)
        yield made, one, channel
