"""What tests of `edvit deploy` deploy: a devices.toml, and where a machine of it is brought to."""

import json
import zipfile
from pathlib import Path

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.operate.deploy import steps
from edvit_tf.operate.deploy.certificates import make_certificates, wanted_by
from edvit_tf.operate.deploy.machines import machines
from edvit_tf.operate.deploy.steps import Settings, Target
from edvit_tf.operate.deploy.wheel import read_wheel


def devices_toml(folder: Path, rows: dict[str, dict]) -> Path:
    """A devices.toml of devices by name, each with further keys."""
    lines = []
    for name, values in rows.items():
        lines += ["[[device]]", f'name = "{name}"']
        for key, value in values.items():
            # what JSON has here is TOML too
            lines.append(f"{key} = {json.dumps(value)}")
    file = folder / "devices.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


def small_wheel(folder: Path) -> Path:
    """A wheel of a single file, for what is never installed."""
    file = folder / "edvit_tf-0.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("edvit_tf/__init__.py", "")
    return file


def targets(bundle: Path, devices: Path, aggregator: str | None = None, **more) -> list[Target]:
    """The machines of a fleet, with certificates beside devices.toml."""
    opened = open_bundle(bundle)
    fleet = machines(opened, devices, aggregator)
    certificates = devices.parent / "fleet"
    make_certificates(certificates, wanted_by(fleet))
    wheel = read_wheel(small_wheel(devices.parent))
    settings = Settings(
        bundle=opened, devices=devices, certificates=certificates, wheel=wheel, **more
    )
    return [Target(machine, settings) for machine in fleet]


def seen_of(target) -> dict:
    """What a look says of a machine that has everything, its units of sha256 "abc"."""
    settings = target.settings
    digests = {
        folder: {file.name: steps._sha256(file) for file in source.glob("*.pem")}
        for folder, source in target.identities.items()
    }
    running = {"active": "active", "invocation": "17", "sha256": "abc"}
    keys = {unit: steps.start_key(target, unit, "abc") for unit in target.units}
    return {
        "package": settings.wheel.digest,
        "stores": dict.fromkeys(target.stores, settings.bundle.digest),
        "identities": digests,
        "units": {unit: dict(running) for unit in target.units},
        "state": {
            "check": target.key(),
            "tune": target.tune_key(),
            **{f"serves {unit}": {"key": key, "invocation": "17"} for unit, key in keys.items()},
        },
    }
