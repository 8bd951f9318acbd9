"""Clients that ask an aggregator without pause, and check every answer against what a single
process answers.
"""

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc
import numpy as np

from edvit_tf.device.rpc import tls
from tests.support.aggregator_process import infer, lost_by_the_machine
from tests.support.fleet_process import missing_of
from tests.support.machine_clock import Standstill
from tests.support.worker_process import wait_for

GIVEN_UP_SECONDS = (
    30.0  # a client of ours waits so long: an aggregator must have answered long before
)


@dataclass(frozen=True)
class Row:
    """One request."""

    started: float  # time.monotonic()
    seconds: float
    picture: int
    code: str  # OK, or gRPC's
    missing: frozenset[int] | None  # as the answer says; None without one
    right: bool  # the answer is that of a single process without these; True without an answer
    device_ms: dict[int, float]  # by sub-model: compute, queue and wire
    words: str  # of the error
    inside_seconds: float | None = None  # as the aggregator counts; None without an answer
    lost: bool = False  # by the machine, which stood still at the deadline
    ended: float = 0.0  # time.monotonic()

    @property
    def whole(self) -> bool:
        return self.code == "OK" and not self.missing


class Traffic:
    """`clients` threads, from the beginning of a `with` block to its end. `rows` grows
    meanwhile.
    """

    def __init__(
        self,
        address: str,
        pictures: np.ndarray,
        wanted: dict[frozenset[int], np.ndarray],
        *,
        clients: int = 2,
        pause_seconds: float = 0.0,
        own: tls.Identity | None = None,
        deadline_seconds: float = GIVEN_UP_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        also: dict[frozenset[int], np.ndarray] | None = None,
    ) -> None:
        """`pictures` (n, 1, H, W, C), `wanted` of `fleet_process.oracle`; `clock` says how long
        requests take; an answer of `also`, of another bundle, is right too.
        """
        self.pictures, self.wanted, self.rows = pictures, wanted, []
        self._right = (wanted,) if also is None else (wanted, also)
        self._address, self._own, self._pause, self._deadline = (
            address,
            own,
            pause_seconds,
            deadline_seconds,
        )
        self._clock = clock
        self._stop, self._number = threading.Event(), itertools.count()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * GIVEN_UP_SECONDS)
            assert not thread.is_alive(), "a request hangs"

    def since(self, moment: float) -> list[Row]:
        """The requests that were sent after a moment and are answered, in the order of their
        answers.
        """
        return [row for row in list(self.rows) if row.started >= moment]

    def wait_for_more(self, count: int) -> None:
        """Until so many requests that are sent from now on are answered, however long it takes."""
        now = time.monotonic()
        wait_for(lambda: len(self.since(now)) >= count, 120)

    def wrong(self) -> list[Row]:
        return [row for row in list(self.rows) if not row.right]

    def _run(self) -> None:
        channel = (
            grpc.insecure_channel(self._address)
            if self._own is None
            else grpc.secure_channel(self._address, tls.channel_credentials(self._own))
        )
        with channel:
            while not self._stop.is_set():
                self.rows.append(self._asked(channel, next(self._number) % len(self.pictures)))
                self._stop.wait(self._pause)

    def _asked(self, channel: grpc.Channel, place: int) -> Row:
        started, begun, still = time.monotonic(), self._clock(), Standstill()
        try:
            outputs, said, _ = infer(channel, self.pictures[place], timeout=self._deadline)
        except grpc.RpcError as error:
            seconds, ended = self._clock() - begun, time.monotonic()
            return Row(
                started,
                seconds,
                place,
                error.code().name,
                None,
                True,
                {},
                error.details(),
                lost=lost_by_the_machine(error, still),
                ended=ended,
            )
        seconds, ended, missing = self._clock() - begun, time.monotonic(), missing_of(said)
        got = outputs["probabilities"][0]
        right = any(np.array_equal(got, each[missing][place]) for each in self._right) and said[
            "degraded"
        ] == bool(missing)
        device_ms = {
            j: sum(said[f"submodel-{j:02d}.{part}_ms"] for part in ("compute", "queue", "wire"))
            for j in range(100)
            if f"submodel-{j:02d}.device" in said
        }
        return Row(
            started,
            seconds,
            place,
            "OK",
            missing,
            right,
            device_ms,
            "",
            said["total_ms"] / 1e3,
            ended=ended,
        )


def distinct(wanted: dict[frozenset[int], np.ndarray]) -> bool:
    """Whether each picture and each set of missing sub-models has an answer of its own, so that a
    mix is seen.
    """
    rows = np.concatenate(list(wanted.values()))
    return len(np.unique(rows, axis=0)) == len(rows)
