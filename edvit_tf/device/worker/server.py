"""The life of a worker: everything is checked before the port opens, a request is answered or
refused, SIGTERM drains.

Exit codes: 0 after SIGTERM or SIGINT, else those of `python -m edvit_tf.device --help`.
"""

import asyncio
import functools
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.model.memory import resident
from edvit_tf.device.rpc import certificate_expiry, tls
from edvit_tf.device.rpc.base_service import package_version
from edvit_tf.device.rpc.jsonlog import log
from edvit_tf.device.rpc.ports import bracketed, listening_address, open_metrics, open_port
from edvit_tf.device.rpc.request_input import message_limit
from edvit_tf.device.rpc.watchdog import leave, watch
from edvit_tf.device.worker.loaded_models import load_models
from edvit_tf.device.worker.service import WorkerService

_LEAST_STUCK_SECONDS, _STUCK_INVOKES = 10.0, 20.0


@dataclass(frozen=True)
class WorkerOptions:
    """What the command line says; addresses are HOST:PORT, port 0 lets the kernel choose."""

    bundle: Path
    sub_models: Sequence[int] | None  # None: all
    listen: str
    identity: Path | None  # None: plaintext
    insecure_anywhere: bool = False  # plaintext on other addresses than loopback
    metrics: str | None = None
    deadline_ms: float = 10_000.0  # of requests without one, and the most that a request gets
    stuck_seconds: float | None = None  # None: 20 times what an invoke takes, at least 10
    flavour: str | None = None


def serve(options: WorkerOptions) -> int:
    """Runs a worker until it is told to stop; returns 0. Raises the errors of `load_models`,
    IdentityError, AddressError.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # while it is checking; later it drains
    address, port = listening_address(options)
    own = None if options.identity is None else tls.identity(options.identity)
    bundle = open_bundle(options.bundle)
    indices = list(
        dict.fromkeys(
            range(len(bundle.sub_models)) if options.sub_models is None else options.sub_models
        )
    )
    rule = bundle_input(bundle)
    log("checking", bundle=str(bundle.path), bundle_digest=bundle.digest, submodels=indices)
    models = load_models(bundle, indices, options.flavour)
    return asyncio.run(_serve(options, bundle, rule, models, own, bracketed(address, port)))


async def _serve(options: WorkerOptions, bundle, rule, models, own, address: str) -> int:
    service = WorkerService(bundle, rule, models, options.deadline_ms / 1e3, own)
    server, port = open_port(
        service, address, None if own is None else tls.server_credentials(own), message_limit(rule)
    )
    shown = open_metrics(options.metrics, service)

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stuck_seconds = options.stuck_seconds or max(
        _LEAST_STUCK_SECONDS, _STUCK_INVOKES * max(one.invoke_seconds for one in models)
    )
    end_watch = watch(
        list(service.executors.values()),
        stuck_seconds,
        functools.partial(leave, tell=lambda: loop.call_soon_threadsafe(service.availability.stop)),
    )
    certificate = asyncio.create_task(certificate_expiry.remind(own, service.certificate_ends))
    await server.start()
    host_shown = address.rpartition(":")[0]
    log(
        "serving",
        address=f"{host_shown}:{port}",
        pid=os.getpid(),
        version=package_version(),
        tls=own is not None,
        metrics=None if shown is None else "{}:{}".format(*shown.server_address[:2]),
        bundle=bundle.path.name,
        bundle_digest=bundle.digest,
        runtime=models[0].model.runtime,
        models=[
            {
                "name": one.name,
                "file": one.chosen.file,
                "flavour": one.chosen.flavour,
                "threads": one.chosen.threads,
                "invoke_ms": round(one.invoke_seconds * 1e3, 3),
                "golden_error": one.golden_error,
            }
            for one in models
        ],
        message_limit_bytes=message_limit(rule),
        stuck_seconds=stuck_seconds,
        resident_bytes=resident(),
    )

    await stop.wait()
    log("draining", in_flight=service.in_flight)
    service.availability.stop()
    await server.stop(options.deadline_ms / 1e3)
    end_watch()
    certificate.cancel()
    for executor in service.executors.values():
        executor.close()
    if shown is not None:
        await asyncio.to_thread(shown.shutdown)
        shown.server_close()
    log("stopped")
    return 0
