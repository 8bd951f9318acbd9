"""What the page is told: the fleet as it is, answers as they come, a row a second. One text is made
for all pages, four times a second, whatever many are open.
"""

import asyncio
import json
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from edvit_tf.aggregate.http.history import History
from edvit_tf.aggregate.seen import Answer, Seen
from edvit_tf.device.model.bundle import Bundle
from edvit_tf.device.model.bundle_input import BundleInput
from edvit_tf.device.rpc.certificate_expiry import words
from edvit_tf.device.rpc.condition import HOT_C
from edvit_tf.device.rpc.jsonlog import log_seldom
from edvit_tf.device.terminal import counted

TICK_SECONDS = 0.25
SILENT_SECONDS = 0.5  # without an answer to a probe: the device may be away
_SHOWN = 12  # answers of one tick; more are counted
_KEPT = 30  # answers for a page that is opened
_PROBABILITIES = 5  # of an answer, the largest
_ALERT_SECONDS = 60
_DEGRADED_SHARE = 0.05

Event = tuple[str, Any]  # its name, and what is told


class Feed:
    """Makes the events. Belongs to the event loop of the HTTP port.

    `health` and `refused` are called there: what /healthz says, and how many requests had no answer
    since the start.
    """

    def __init__(
        self,
        bundle: Bundle,
        model_input: BundleInput,
        seen: Seen,
        health: Callable[[], dict],
        refused: Callable[[], int],
    ) -> None:
        self.show(bundle, model_input)
        self._seen = seen
        self._health = health
        self._refused = refused
        self.history = History()
        self._kept: list[dict] = []
        self._fleet: dict = {}
        self._listeners: set[Callable[[list[bytes]], None]] = set()

    def show(self, bundle: Bundle, model_input: BundleInput) -> None:
        """From now on this bundle; pages that are open are told so with the next tick. Called in
        another thread, too.
        """
        self._about = about(bundle, model_input)
        self._is_new = True

    def listen(self, tell: Callable[[list[bytes]], None]) -> None:
        """From now on `tell` hears of each tick's events."""
        self._listeners.add(tell)

    def forget(self, tell: Callable[[list[bytes]], None]) -> None:
        self._listeners.discard(tell)

    async def run(self) -> None:
        """Ticks for ever."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                events = self.tick(int(time.time()))
                parts = [encoded(event) for event in events] if self._listeners else []
                for tell in list(self._listeners):
                    tell(parts)
            except Exception:  # noqa: BLE001 (this tick's alone; the pages go on)
                log_seldom("failed", "feed", path="/live", traceback=traceback.format_exc())

    def tick(self, now: int) -> list[Event]:
        """The events since the last tick."""
        events: list[Event] = []
        answers = self._seen.take()
        row = self.history.add(answers, now, self._refused())
        if answers:
            shown = [self._shown(each) for each in answers[-_SHOWN:]]
            self._kept = (self._kept + shown)[-_KEPT:]
            events.append(("answers", {"shown": shown, "more": len(answers) - len(shown)}))

        fleet = self.fleet()
        if fleet != self._fleet:
            self._fleet = fleet
            events.append(("fleet", fleet))
        if self._is_new:
            self._is_new = False
            events.append(self.everything())
        if row is not None:
            # also the sign that the aggregator lives
            events.append(("second", row))
        return events

    def everything(self, with_history: bool = True) -> Event:
        """What a page needs that knows nothing yet."""
        rows = list(self.history.rows)
        return (
            "everything",
            {
                "about": self._about,
                "fleet": self.fleet(),
                "answers": self._kept,
                "rows": rows if with_history else rows[-1:],
                "minutes": self.history.minutes(),
            },
        )

    def fleet(self) -> dict:
        """The devices, the sub-models and the alerts of this moment."""
        health = self._health()
        devices = []
        for device in health["devices"]:
            name = device["device"]
            silent = device.pop("silent_seconds") >= SILENT_SECONDS
            seen = "silent" if silent and device["state"] == "ready" else device["state"]
            last_ms = self.history.last_ms.get(name)
            devices.append({**device, "state": seen, "last_ms": last_ms})

        fleet = {
            "serving": health["status"] == "SERVING",
            "submodels": health["submodels"],
            "devices": devices,
            "certificate": health.get("certificate"),
        }
        return {**fleet, "alerts": alerts(fleet, self.history.lately(_ALERT_SECONDS))}

    def _shown(self, answer: Answer) -> dict:
        order = answer.probabilities.argsort()[::-1][:_PROBABILITIES]
        return {
            "number": answer.number,
            "at": round(answer.at, 3),
            "label": answer.labels[answer.label],
            "top": [[answer.labels[i], round(float(answer.probabilities[i]), 4)] for i in order],
            "total_ms": round(answer.total_ms, 2),
            "missing": dict(answer.missing),
            "devices": {name: device for name, (device, _) in answer.devices.items()},
            "preview": answer.preview,
        }


def about(bundle: Bundle, model_input: BundleInput) -> dict:
    """What changes with the bundle alone."""
    spec = model_input.spec
    return {
        "bundle": bundle.path.name,
        "digest": bundle.digest[:12],
        "labels": len(bundle.labels),
        "input": model_input.name,
        "modality": spec.modality,
        "item": spec.item,
        "largest_bytes": spec.largest_file_bytes,
        "is_text": spec.is_text,
        "sample_rate_hz": getattr(spec, "sample_rate_hz", None),
        "window_samples": getattr(spec, "window_samples", None),
        "submodels": [
            {"name": each.name, "labels": list(each.labels), "view": str(each.view)}
            for each in bundle.sub_models
        ],
    }


def alerts(fleet: Mapping[str, Any], lately: Mapping[str, int]) -> list[str]:
    """What somebody should look at, in words."""
    found = []
    if not fleet["serving"]:
        found.append("Too few sub-models can be asked: requests are refused.")
    found += words(fleet.get("certificate"), "this hub")
    for device in fleet["devices"]:
        name, state = device["device"], device["state"]
        if state != "ready":
            reason = f" ({device['reason']})" if device["reason"] else ""
            found.append(f"{name} is {state}{reason}.")
        elif device["breaker"] != "closed":
            reason = device["breaker_reason"]
            found.append(f"{name} is left alone: its breaker is {device['breaker']} ({reason}).")
        found += _warm(device)
        found += words(device.get("certificate"), name)
    for name, available in fleet["submodels"].items():
        if not available:
            found.append(f"No device answers for {name}.")

    answered, degraded = lately["answered"], lately["degraded"]
    if answered and degraded > _DEGRADED_SHARE * answered:
        share = 100 * degraded / answered
        found.append(f"{share:.0f} % of the answers of the last minute lack a sub-model.")
    if lately["refused"]:
        found.append(f"{counted(lately['refused'], 'request')} of the last minute had no answer.")
    return found


def _warm(device: Mapping[str, Any]) -> list[str]:
    """What is to be said of a device's condition."""
    name, degrees, held = device["device"], device.get("temperature_c"), device.get("throttled")
    found = []
    if degrees is not None and degrees >= HOT_C:
        found.append(f"{name} is hot: {degrees:.0f} °C; a heat sink or a fan keeps its clock.")
    if held:
        found.append(f"{name} is held back by its board: {', '.join(held)}.")
    return found


def encoded(event: Event) -> bytes:
    """An event as a stream of events has it. JSON has no line break of its own."""
    name, said = event
    return f"event: {name}\ndata: {json.dumps(said)}\n\n".encode()
