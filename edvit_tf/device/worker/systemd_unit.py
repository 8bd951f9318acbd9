"""The systemd unit of a worker (`device/rpc/systemd_unit.py`): its command, and the memory that its
models need.
"""

import shutil
import sys
from pathlib import Path

from edvit_tf.device.errors import permanent
from edvit_tf.device.model.bundle import Bundle, open_bundle, verified_path
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.model.memory import needed_memory
from edvit_tf.device.model.runtime import runtime_name
from edvit_tf.device.model.tune import candidates
from edvit_tf.device.rpc.limits import held_bytes
from edvit_tf.device.rpc.ports import listening_address
from edvit_tf.device.rpc.request_input import message_limit
from edvit_tf.device.rpc.systemd_unit import UnitParts, absolute, server_words, systemd_unit
from edvit_tf.device.worker.power import has_firmware_file
from edvit_tf.device.worker.server import WorkerOptions, served_indices

_BASE_BYTES = 96 << 20  # the process without models
_ANNOUNCE_BYTES = 16 << 20  # zeroconf and what it hears: 5 MiB alone in a network
_TAKEN_BACK_SECONDS = 5  # an announcement, so that others hear that it goes
_MAILBOX = Path("/dev/vcio")  # of a Pi's firmware


def unit(options: WorkerOptions) -> str:
    """The unit's text for a worker with these options. Raises the errors of what would not
    start.
    """
    # refused here, and not at the first start on the device
    listening_address(options)
    bundle = open_bundle(options.bundle)
    indices = served_indices(options, len(bundle.sub_models))
    model_input = bundle_input(bundle)
    spec = model_input.spec

    model_bytes = _model_bytes(bundle, indices, options)
    message_bytes = held_bytes(message_limit(model_input))
    memory_why = f"the models need about {model_bytes >> 20} MiB"
    if spec.decoding_bytes:
        memory_why += f", an {spec.largest_file} {spec.decoding_bytes >> 20} more"
    memory_why += f", requests up to {message_bytes >> 20}"

    memory_bytes = model_bytes + model_bytes // 4  # a quarter more
    memory_bytes += spec.decoding_bytes + message_bytes
    if options.announce:
        memory_bytes += _ANNOUNCE_BYTES
        memory_why += f", the announcement {_ANNOUNCE_BYTES >> 20}"

    names = ", ".join(bundle.entry(index).name for index in indices)
    parts = UnitParts(
        description=f"edvit_tf worker ({names} of {absolute(options.bundle)})",
        command=_command(options, indices),
        permanent=permanent(),
        memory_bytes=memory_bytes,
        memory_why=memory_why,
        keeps_cache=True,
        nodes=_nodes(),
        # the addresses of this machine are asked of the kernel
        lists_addresses=options.announce,
        last_seconds=_TAKEN_BACK_SECONDS if options.announce else 0,
    )
    return systemd_unit(options, parts)


def _nodes() -> dict[Path, str]:
    """The firmware's mailbox, where it takes vcgencmd to hear of throttling: a file of the kernel
    that says the same is readable as it is.
    """
    if not _MAILBOX.exists() or has_firmware_file() or shutil.which("vcgencmd") is None:
        return {}
    return {_MAILBOX: "vcgencmd asks the firmware through it whether the board is throttled"}


def _model_bytes(bundle: Bundle, indices: list[int], options: WorkerOptions) -> int:
    """Memory of the process with these sub-models, whichever of their files is the fastest here."""
    runtime = runtime_name(options.runtime)
    need = _BASE_BYTES
    for index in indices:
        # tuning may choose any of them later
        files = [one.file for one in candidates(bundle, index, runtime, options.flavour)]
        largest = max(verified_path(bundle, file).stat().st_size for file in files)
        need += needed_memory(largest)

    return need


def _command(options: WorkerOptions, indices: list[int]) -> list[str]:
    parts = [sys.executable, "-m", "edvit_tf.device", str(absolute(options.bundle))]
    for index in indices:
        parts += ["--submodel", str(index)]

    parts += server_words(options)
    if options.flavour is not None:
        parts += ["--flavour", options.flavour]
    if options.runtime is not None:
        parts += ["--runtime", options.runtime]
    if options.stuck_seconds is not None:
        parts += ["--stuck-seconds", f"{options.stuck_seconds:g}"]

    if options.announce:
        parts.append("--announce")

    return [*parts, "--deadline-ms", f"{options.deadline_ms:g}"]
