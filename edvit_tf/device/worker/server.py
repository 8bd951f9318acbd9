"""A worker from its command line to its port: everything is checked before it opens.

Exit codes: 0 after SIGTERM or SIGINT, else those of `python -m edvit_tf.device --help`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.rpc import lifecycle, signals
from edvit_tf.device.rpc.jsonlog import log, written_aside
from edvit_tf.device.worker.announce import check_zeroconf
from edvit_tf.device.worker.loaded_models import load_models
from edvit_tf.device.worker.service import WorkerService

_LEAST_STUCK_SECONDS = 10.0
_STUCK_INVOKES = 20.0


@dataclass(frozen=True, kw_only=True)
class WorkerOptions(lifecycle.ServerOptions):
    """What the command line of a worker says."""

    sub_models: Sequence[int] | None = None  # None: all
    flavour: str | None = None  # None: the fastest
    runtime: str | None = None  # of runtime_names.NAMES; None: the first installed
    deadline_ms: float = 10_000.0
    stuck_seconds: float | None = None  # None: 20 times what an invoke takes, at least 10
    announce: bool = False  # on the local network


@written_aside()
def serve(options: WorkerOptions) -> int:
    """Runs a worker until it is told to stop; returns 0. Raises the errors of `load_models`,
    IdentityError, AddressError.
    """
    signals.while_starting()
    address, own = lifecycle.address_and_identity(options, "worker")
    if options.announce:
        check_zeroconf()
    bundle = open_bundle(options.bundle)
    model_input = bundle_input(bundle)
    indices = served_indices(options, len(bundle.sub_models))
    log("checking", bundle=str(bundle.path), bundle_digest=bundle.digest, submodels=indices)

    # the longest part: each model runs in a child process first
    models = load_models(bundle, indices, options.flavour, options.runtime)

    # of all models alike: far above what the slowest takes is stuck
    slowest = max(model.invoke_seconds for model in models)
    stuck_seconds = options.stuck_seconds or max(_LEAST_STUCK_SECONDS, _STUCK_INVOKES * slowest)

    def make_service() -> WorkerService:
        return WorkerService(
            bundle,
            model_input,
            models,
            deadline_seconds=options.deadline_ms / 1e3,
            stuck_seconds=stuck_seconds,
            own=own,
            announces=options.announce,
        )

    return lifecycle.run(options, address, make_service)


def served_indices(options: WorkerOptions, count: int) -> list[int]:
    """The sub-models that a worker is to serve, each once, of a bundle of `count`."""
    wanted = range(count) if options.sub_models is None else options.sub_models
    return list(dict.fromkeys(wanted))
