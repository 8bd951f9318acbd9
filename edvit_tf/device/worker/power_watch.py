"""Reads temperature and throttling every few seconds, in a thread of its own: an answer never waits
for a sensor, nor for a program that is started to ask the firmware.
"""

import asyncio
import shutil
import threading
import traceback
from typing import NoReturn

from edvit_tf.device.rpc.condition import Condition, said, throttled_samples
from edvit_tf.device.rpc.jsonlog import log_seldom
from edvit_tf.device.rpc.metrics import Gauge, Sample
from edvit_tf.device.worker import power

READ_SECONDS = 5.0
_TRIES = 3  # of vcgencmd, in a row without a word


class PowerWatch:
    """What was read last. `read`, `condition` and `properties` are replaced as a whole, so that any
    thread may look at them.
    """

    def __init__(self) -> None:
        self.read = power.Power((), {}, {}, None)
        self.condition = Condition()
        self.properties: dict[str, str] = {}
        self._over = threading.Event()
        self._program = shutil.which("vcgencmd")
        self._silent = 0

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
        read = power.read_power(power.SYSTEM, self._program)
        self._silent = 0 if read.source == "vcgencmd" else self._silent + 1
        if self._silent == _TRIES:
            self._program = None  # not needed, or not allowed here: it is not started again
        self.read = read
        self.condition = read.condition()
        self.properties = said(self.condition)

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
