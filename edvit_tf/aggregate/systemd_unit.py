"""The systemd unit of an aggregator, and of a relay (`device/rpc/systemd_unit.py`): its command,
and the memory that it needs.
"""

import sys
from pathlib import Path

from edvit_tf.aggregate.devices import fleet_devices
from edvit_tf.aggregate.fleet import least_of
from edvit_tf.aggregate.outgoing import Outgoing
from edvit_tf.aggregate.server import AggregatorOptions, FleetOptions, RelayOptions
from edvit_tf.aggregate.trace_settings import checked_url
from edvit_tf.device.errors import permanent
from edvit_tf.device.model.bundle import Bundle, open_bundle, verified_path
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.model.memory import needed_memory
from edvit_tf.device.rpc.limits import held_bytes
from edvit_tf.device.rpc.ports import listening_address
from edvit_tf.device.rpc.request_input import message_limit
from edvit_tf.device.rpc.systemd_unit import UnitParts, absolute, server_words, systemd_unit
from edvit_tf.errors import EXIT_CODES

_TOKEN = "login.token"
_BASE_BYTES = 128 << 20  # the process, and its connections to a fleet
_PROVING_BYTES = 64 << 20  # the process in which a new bundle's fusion is tried, without the model
# OpenTelemetry's library and the spans that wait for a collector: 18 MiB with both full
_TRACES_BYTES = 32 << 20


def unit(options: AggregatorOptions) -> str:
    """The unit's text for an aggregator with these options. Raises the errors of what would not
    start.
    """
    # refused here, and not at the first start
    listening_address(options)
    fleet_devices(options.devices)
    bundle = open_bundle(options.bundle)
    least = least_of(options.min_submodels, len(bundle.sub_models))

    memory_bytes, memory_why = _memory(options, bundle)

    command = [sys.executable, "-m", "edvit_tf.cli", "serve", str(absolute(options.bundle))]
    command += ["--devices", devices_word(options), *server_words(options)]
    command += ["--min-submodels", str(least), "--deadline-ms", f"{options.deadline_ms:g}"]
    if options.traces is not None:
        command += ["--traces", checked_url(options.traces)]
    secrets = {}
    if options.https:
        command.append("--https")
    if options.login_token is not None:
        command += ["--login-token", f"%d/{_TOKEN}"]
        secrets[_TOKEN] = options.login_token

    devices = devices_word(options)
    parts = UnitParts(
        description=f"edvit_tf aggregator (of {absolute(options.bundle)})",
        command=command,
        permanent=permanent(EXIT_CODES),
        memory_bytes=memory_bytes,
        memory_why=memory_why,
        reloads=True,
        reads=[Path(devices)] if devices.endswith(".toml") else [],
        secrets=secrets,
    )
    return systemd_unit(options, parts)


def _memory(options: AggregatorOptions, bundle: Bundle) -> tuple[int, str]:
    """(bytes that it may need, how that comes)."""
    limit = message_limit(bundle_input(bundle))
    fusion = needed_memory(verified_path(bundle, bundle.fusion.file).stat().st_size)
    held = held_bytes(limit)
    sent = Outgoing(len(bundle.sub_models), limit).sent.limit
    # while another bundle is taken, its fusion is held beside the old one, and tried once more in a
    # process of its own
    reload = 2 * fusion + _PROVING_BYTES
    traces = 0 if options.traces is None else _TRACES_BYTES

    why = f"requests up to {held >> 20} MiB, what goes out to devices {sent >> 20} more, another "
    why += f"bundle at a reload {reload >> 20}"
    if traces:
        why += f", traces {traces >> 20}"
    return _BASE_BYTES + fusion + held + sent + reload + traces, why


def relay_unit(options: RelayOptions) -> str:
    """The same for a relay."""
    listening_address(options)
    fleet_devices(options.devices)
    bundle = open_bundle(options.bundle)

    limit = message_limit(bundle_input(bundle))
    held = held_bytes(limit)
    sent = Outgoing(len(bundle.sub_models), limit).sent.limit
    why = f"requests up to {held >> 20} MiB, what goes out to devices {sent >> 20} more"

    devices = devices_word(options)
    command = [sys.executable, "-m", "edvit_tf.cli", "relay", str(absolute(options.bundle))]
    command += ["--devices", devices, *server_words(options)]
    command += ["--deadline-ms", f"{options.deadline_ms:g}"]
    parts = UnitParts(
        description=f"edvit_tf relay (of {absolute(options.bundle)})",
        command=command,
        permanent=permanent(EXIT_CODES),
        memory_bytes=_BASE_BYTES + held + sent,
        memory_why=why,
        reloads=True,
        reads=[Path(devices)] if devices.endswith(".toml") else [],
        secrets={},
    )
    return systemd_unit(options, parts)


def devices_word(options: FleetOptions) -> str:
    """--devices as a unit has it: the whole path of a file, for its folder is another one."""
    given = options.devices
    return str(Path(given).absolute()) if given.endswith(".toml") else given
