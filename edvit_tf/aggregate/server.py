"""An aggregator, or a relay, from its command line to its port: the fusion of an aggregator is
proved before it opens.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from edvit_tf.aggregate.change import Reading
from edvit_tf.aggregate.devices import fleet_devices
from edvit_tf.aggregate.fleet import checked_parts, least_of, make_fleet
from edvit_tf.aggregate.fusion import Fusion
from edvit_tf.aggregate.http.access import read_token
from edvit_tf.aggregate.http.options import HttpOptions
from edvit_tf.aggregate.relay_service import RelayService
from edvit_tf.aggregate.service import AggregatorService
from edvit_tf.aggregate.traces import make_traces
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.rpc import lifecycle, signals
from edvit_tf.device.rpc.process_limits import check_descriptors
from edvit_tf.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class FleetOptions(lifecycle.ServerOptions):
    """What the command line says of every server that asks devices. The identity is shown to those
    who ask, and to the devices.
    """

    devices: str  # HOST:PORT,... or a devices.toml


@dataclass(frozen=True, kw_only=True)
class RelayOptions(FleetOptions):
    """What the command line of a relay says."""

    deadline_ms: float = 10_000.0


@dataclass(frozen=True, kw_only=True)
class AggregatorOptions(FleetOptions):
    """What the command line of an aggregator says."""

    min_submodels: int | None = None  # None: all
    deadline_ms: float = 1000.0
    login_token: Path | None = None  # of the HTTP port
    traces: str | None = None  # the address of an OpenTelemetry collector
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
    traces = make_traces(options.traces)

    # one connection a device, besides those of clients
    check_descriptors(peers=len(devices))

    bundle = open_bundle(options.bundle)
    model_input = bundle_input(bundle)
    least_of(options.min_submodels, len(bundle.sub_models))
    parts = checked_parts(bundle, model_input, devices, options.min_submodels, own, Fusion(bundle))
    deadline_seconds = options.deadline_ms / 1e3

    def make_service() -> AggregatorService:
        # in the loop, to which the channels belong
        return AggregatorService(
            make_fleet(parts, deadline_seconds),
            deadline_seconds=deadline_seconds,
            http=http,
            traces=traces,
            reading=Reading(options.bundle, options.devices, options.min_submodels),
        )

    return lifecycle.run(options, address, make_service)


def serve_relay(options: RelayOptions) -> int:
    """Runs a relay until it is told to stop; returns 0. Raises ConfigError, BundleError,
    DescriptorsShort, IdentityError, AddressError.
    """
    signals.while_starting()
    address, own = lifecycle.address_and_identity(options, "relay")
    devices = fleet_devices(options.devices)
    check_descriptors(peers=len(devices))

    bundle = open_bundle(options.bundle)
    instance = os.urandom(8).hex()
    # it serves as soon as one of its sub-models can be asked: those above say what they need
    parts = checked_parts(bundle, bundle_input(bundle), devices, 1, own, None, instance)
    deadline_seconds = options.deadline_ms / 1e3

    def make_service() -> RelayService:
        # in the loop, to which the channels belong
        return RelayService(
            make_fleet(parts, deadline_seconds),
            deadline_seconds=deadline_seconds,
            reading=Reading(options.bundle, options.devices, 1),
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
