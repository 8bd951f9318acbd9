"""The life of an aggregator: the fusion is proved, the port opens, devices are probed for good,
SIGTERM drains.
"""

import asyncio
import functools
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from edvit_tf.aggregate.devices import fleet_devices
from edvit_tf.aggregate.fanout import Fanout
from edvit_tf.aggregate.fusion import Fusion
from edvit_tf.aggregate.link import Link
from edvit_tf.aggregate.service import AggregatorService
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.rpc import certificate_expiry, tls
from edvit_tf.device.rpc.base_service import package_version
from edvit_tf.device.rpc.jsonlog import log
from edvit_tf.device.rpc.ports import bracketed, listening_address, open_metrics, open_port
from edvit_tf.device.rpc.process_limits import check_descriptors
from edvit_tf.device.rpc.request_input import message_limit
from edvit_tf.device.rpc.watchdog import leave, watch
from edvit_tf.errors import ConfigError

_STUCK_SECONDS = 10.0  # of a fusion, which takes a millisecond


@dataclass(frozen=True)
class AggregatorOptions:
    """What the command line says; addresses are HOST:PORT, port 0 lets the kernel choose."""

    bundle: Path
    devices: str  # HOST:PORT,... or a devices.toml
    listen: str
    identity: Path | None  # None: plaintext, to clients and to devices
    insecure_anywhere: bool = False
    min_submodels: int | None = None  # None: all
    deadline_ms: float = 1000.0  # of requests without one, and the most that a request gets
    metrics: str | None = None


def serve(options: AggregatorOptions) -> int:
    """Runs an aggregator until it is told to stop; returns 0. A fusion that never comes back ends
    it with DeviceExit.STUCK.

    Raises ConfigError, BundleError, RuntimeMissing, MemoryShort, DescriptorsShort, ModelFailed,
    WrongAnswers, IdentityError, AddressError.
    """
    address = bracketed(*listening_address(options))
    devices = fleet_devices(options.devices)
    check_descriptors(peers=len(devices))
    bundle = open_bundle(options.bundle)
    count = len(bundle.sub_models)
    least = count if options.min_submodels is None else options.min_submodels
    if not 1 <= least <= count:
        raise ConfigError(
            f"--min-submodels is {least}; the bundle has {count} sub-models. Give 1 to {count}."
        )
    own = None if options.identity is None else tls.identity(options.identity)
    fusion = Fusion(bundle)
    return asyncio.run(_serve(options, address, devices, bundle, least, own, fusion))


async def _serve(
    options: AggregatorOptions, address: str, devices, bundle, least: int, own, fusion: Fusion
) -> int:
    rule = bundle_input(bundle)
    names = [entry.name for entry in bundle.sub_models]
    links = [Link(device, bundle.digest, names, own) for device in devices]
    deadline_seconds = options.deadline_ms / 1e3
    service = AggregatorService(
        bundle,
        rule,
        Fanout(links, names, bundle.widths, bundle.digest, deadline_seconds),
        fusion,
        min_submodels=least,
        deadline_seconds=deadline_seconds,
        own=own,
    )
    server, port = open_port(
        service, address, None if own is None else tls.server_credentials(own), message_limit(rule)
    )
    shown = open_metrics(options.metrics, service)
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    end_watch = watch(
        [fusion.executor],
        _STUCK_SECONDS,
        functools.partial(leave, tell=lambda: loop.call_soon_threadsafe(service.availability.stop)),
    )
    certificate = asyncio.create_task(certificate_expiry.remind(own, service.certificate_ends))
    await server.start()
    log(
        "serving",
        address=f"{address.rpartition(':')[0]}:{port}",
        pid=os.getpid(),
        version=package_version(),
        tls=own is not None,
        metrics=None if shown is None else "{}:{}".format(*shown.server_address[:2]),
        bundle=bundle.path.name,
        bundle_digest=bundle.digest,
        min_submodels=least,
        devices={device.name: device.address for device in devices},
    )
    watches = [asyncio.create_task(link.keep_watch(service.devices_changed)) for link in links]
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait(
        [stopping, *watches], return_when=asyncio.FIRST_COMPLETED
    )  # a watch ends by a fault alone
    log("draining", in_flight=service.in_flight)
    service.availability.stop()
    await server.stop(deadline_seconds)
    end_watch()
    fusion.executor.close()
    stopped = stopping.done()
    for task in (stopping, certificate, *watches):
        task.cancel()
    results = await asyncio.gather(*watches, return_exceptions=True)
    await asyncio.gather(*(link.close() for link in links))
    if shown is not None:
        await asyncio.to_thread(shown.shutdown)
        shown.server_close()
    if not stopped:
        raise next(result for result in results if not isinstance(result, asyncio.CancelledError))
    log("stopped")
    return 0
