"""Reads temperature and throttling every few seconds, in a thread of its own: an answer never waits
for a sensor, nor for a program that is started to ask the firmware.
"""

import asyncio
import shutil
import threading
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from edvit_tf.device.rpc.condition import Condition, said, throttled_samples
from edvit_tf.device.rpc.jsonlog import log_seldom
from edvit_tf.device.rpc.metrics import Gauge, Sample
from edvit_tf.device.worker import power

READ_SECONDS = 5.0
_TRIES = 3  # of vcgencmd, in a row without a word; then it is left alone for a while
_AGAIN_SECONDS = 120.0
# A reading is no word of now after so long: a sensor may hang, and vcgencmd takes its 5 s.
_STALE_SECONDS = 30.0
_UNKNOWN = power.Power((), {}, {}, None)


class PowerWatch:
    """What was read last, and nothing where that is long ago. Any thread may look at it: a reading
    and its moment are replaced as a whole.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = (_UNKNOWN, clock())
        self._over = threading.Event()
        self._program = shutil.which("vcgencmd")
        self._silent = 0
        self._asks_from = 0.0  # by the clock, when vcgencmd may be asked again

    @property
    def read(self) -> power.Power:
        read, moment = self._last
        return read if self._clock() - moment <= _STALE_SECONDS else _UNKNOWN

    @property
    def condition(self) -> Condition:
        return self.read.condition()

    @property
    def properties(self) -> dict[str, str]:
        return said(self.condition)

    async def run(self) -> NoReturn:
        """Reads until cancelled."""
        # a daemon: a sensor that hangs must not hold up the end of the process
        threading.Thread(target=self._keep_reading, name="power", daemon=True).start()
        try:
            while True:
                await asyncio.sleep(3600)
        finally:
            self._over.set()

    def _keep_reading(self) -> None:
        while not self._over.is_set():
            try:
                self._look()
            except Exception:  # noqa: BLE001 (whatever a file of the kernel says, the worker goes on)
                log_seldom("failed", "power", traceback=traceback.format_exc())
            self._over.wait(READ_SECONDS)

    def _look(self) -> None:
        asks = self._clock() >= self._asks_from
        read = power.read_power(power.SYSTEM, self._program if asks else None)
        if asks:
            self._silent = 0 if read.source == "vcgencmd" else self._silent + 1
        if self._silent >= _TRIES:
            # not needed, not allowed here, or the board has too much to do just now
            self._silent, self._asks_from = 0, self._clock() + _AGAIN_SECONDS
        self._last = (read, self._clock())

    def gauges(self) -> list[Gauge]:
        zones: list[Sample] = []
        for zone in self.read.zones:
            zones.append(({"zone": zone.name, "type": zone.kind}, zone.temperature_c))
        return [
            Gauge("edvit_temperature_celsius", "Of each thermal zone of the kernel.", zones),
            Gauge(
                "edvit_throttled",
                "1 while the board's firmware holds it back for this reason, or did since boot.",
                throttled_samples({}, self.condition),
            ),
        ]
