"""An aggregator from its command line to its port: the fusion is proved before it opens."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edvit_tf.aggregate.devices import fleet_devices
from edvit_tf.aggregate.fanout import Fanout
from edvit_tf.aggregate.fusion import Fusion
from edvit_tf.aggregate.http.access import read_token
from edvit_tf.aggregate.http.options import HttpOptions
from edvit_tf.aggregate.link import Link
from edvit_tf.aggregate.pins import Pins
from edvit_tf.aggregate.reply import expected_answers
from edvit_tf.aggregate.request_parts import request_parts
from edvit_tf.aggregate.service import AggregatorService
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.rpc import lifecycle, signals
from edvit_tf.device.rpc.process_limits import check_descriptors
from edvit_tf.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class AggregatorOptions(lifecycle.ServerOptions):
    """What the command line of an aggregator says. The identity is shown to clients and to
    devices.
    """

    devices: str  # HOST:PORT,... or a devices.toml
    min_submodels: int | None = None  # None: all
    deadline_ms: float = 1000.0
    login_token: Path | None = None  # of the HTTP port
    https: bool = False  # on the HTTP port, with the identity


def serve(options: AggregatorOptions) -> int:
    """Runs an aggregator until it is told to stop; returns 0. A fusion that never comes back ends
    it with DeviceExit.STUCK.

    Raises ConfigError, BundleError, RuntimeMissing, MemoryShort, DescriptorsShort, ModelFailed,
    WrongAnswers, IdentityError, AddressError.
    """
    signals.while_starting()
    address, own = lifecycle.address_and_identity(options, "aggregator")
    devices = fleet_devices(options.devices)

    http = _http_options(options)

    # one connection a device, besides those of clients
    check_descriptors(peers=len(devices))

    bundle = open_bundle(options.bundle)
    least = least_sub_models(options, len(bundle.sub_models))

    model_input = bundle_input(bundle)
    fusion = Fusion(bundle)
    deadline_seconds = options.deadline_ms / 1e3

    # what each device may be asked for, and what its answers must be
    pins = Pins(bundle.sub_models)
    for device in devices:
        pins.check(device)
    expected = expected_answers(bundle)
    zeros = np.zeros(model_input.shape, model_input.dtype)
    light = request_parts(model_input.name, zeros)

    def make_service() -> AggregatorService:
        # in the loop, to which the channels belong
        links: list[Link] = []
        for device in devices:
            links.append(Link(device, bundle.digest, pins, own, light, links, expected))
        fanout = Fanout(links, expected, deadline_seconds)
        return AggregatorService(
            bundle,
            model_input,
            fanout,
            fusion,
            min_submodels=least,
            deadline_seconds=deadline_seconds,
            own=own,
            http=http,
        )

    return lifecycle.run(options, address, make_service)


def _http_options(options: AggregatorOptions) -> HttpOptions:
    for given, option in ((options.login_token, "--login-token"), (options.https, "--https")):
        if given and options.metrics is None:
            raise ConfigError(f"{option} is for the HTTP port; give --metrics HOST:PORT as well.")
    if options.https and options.identity is None:
        raise ConfigError("--https needs a certificate; give --identity FOLDER.")

    token = None if options.login_token is None else read_token(options.login_token)
    return HttpOptions(token, options.https)


def least_sub_models(options: AggregatorOptions, count: int) -> int:
    """With how many of a bundle's `count` sub-models a request is answered. Raises ConfigError."""
    least = count if options.min_submodels is None else options.min_submodels
    if not 1 <= least <= count:
        raise ConfigError(
            f"--min-submodels is {least}; the bundle has {count} sub-models. Give 1 to {count}."
        )
    return least
