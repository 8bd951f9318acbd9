"""Which sub-models a device may be asked for: a device that claims those of others is not believed.

By devices.toml (`submodels = [0, 2]`) where it says so. Else by the plan in the bundle, for a
device that it knows by its name in devices.toml, or by the name in its certificate; where both are
names of the plan, what it placed on both. A device that the plan does not know may be asked for
all: then the digest, the numbers' ranges and the other devices are what its answers are judged by.
"""

from collections.abc import Sequence

from edvit_tf.aggregate.devices import Device
from edvit_tf.device.model.manifest import SubModelEntry
from edvit_tf.errors import ConfigError


class Pins:
    """What each device of a fleet may be asked for."""

    def __init__(self, sub_models: Sequence[SubModelEntry]) -> None:
        self.names = tuple(entry.name for entry in sub_models)
        self._placed: dict[str, set[str]] = {}
        for entry in sub_models:
            for device in entry.devices:
                self._placed.setdefault(device, set()).add(entry.name)

    def check(self, device: Device) -> None:
        """Raises ConfigError for a sub-model that the bundle does not have."""
        for index in device.sub_models or ():
            if index >= len(self.names):
                raise ConfigError(
                    f"device {device.name}: submodels has {index}; the bundle has 0 to "
                    f"{len(self.names) - 1}. Mend devices.toml."
                )

    def allowed(self, device: Device, certificate: str | None) -> frozenset[str]:
        """The names that this device may be asked for; `certificate` is the name in its
        certificate, None without TLS.
        """
        if device.sub_models is not None:
            return frozenset(self.names[index] for index in device.sub_models)

        allowed = set(self.names)
        for name in (device.name, certificate):
            if name is not None and name in self._placed:
                allowed &= self._placed[name]

        return frozenset(allowed)
