"""What answers at a device's address: a worker, a relay or neither, of which bundle, and which
sub-models are ready there, seen by the wanted views.
"""

import functools
import socket
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

import grpc

from edvit_tf.aggregate.devices import Device
from edvit_tf.aggregate.own_thread import OwnThread
from edvit_tf.aggregate.pins import Pins
from edvit_tf.aggregate.reply import Expected, WrongView
from edvit_tf.device.rpc import below, certificate_expiry, condition, messages, tls
from edvit_tf.device.rpc.jsonlog import log
from edvit_tf.device.rpc.ports import split_address
from edvit_tf.device.rpc.together import TOGETHER

TIMEOUT_SECONDS = 1.0
STATES = (
    "unknown",
    "ready",
    "down",
    "auth",
    "wrong-bundle",
    "wrong-view",
    "not-serving",
    "duplicate",
    "cycle",
)
_DEVICE_ROLES = ("worker", "relay")
_AGGREGATOR = "edvit"  # its only model
_REFUSING = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
_WORDS = 300  # characters of an error that are shown


@dataclass(frozen=True)
class Seen:
    """What a probe found."""

    state: str
    reason: str = ""
    models: frozenset[str] = frozenset()  # sub-models that are ready there
    # of a relay: why others of its sub-models are not
    lacking: Mapping[str, str] = field(default_factory=dict)


class Probe:
    """Looks at one device over its channel, and remembers what the worker there said of itself.

    `expected` is what the answer of each sub-model must be, by name. `is_also` gives the name of an
    earlier device of the fleet that is the same process, or None. `why_not_below` looks at what a
    relay says of the devices below it (`levels.py`).
    """

    def __init__(
        self,
        device: Device,
        digest: str,
        pins: Pins,
        own: tls.Identity | None,
        expected: Mapping[str, Expected],
        channel: grpc.aio.Channel,
        is_also: Callable[[], str | None],
        why_not_below: Callable[[Mapping[str, str]], tuple[str, str] | None],
    ) -> None:
        self.certificate: str | None = None  # the name in it, when it was seen
        self.role: str | None = None  # the same; None in plaintext
        self.instance = ""  # of the worker's process, if it says so
        self.condition = condition.Condition()  # as the worker says it
        self.certificate_ends: float | None = None  # Unix time, as the worker says it
        self.streams = False  # whether the worker says that it takes requests over one stream
        self.together = False  # and such as several of its sub-models are asked by
        self.below: dict[str, str] | None = None  # of a relay: its devices' processes, by name
        self._device = device
        self._digest = digest
        self._pins = pins
        self._own = own
        self._expected = expected
        self._channel = channel
        self._is_also = is_also
        self._why_not_below = why_not_below
        self._thread = OwnThread()

    def is_same(self, other: "Probe") -> bool:
        """Whether both have seen the same process of the same identity."""
        return (self.instance, self.certificate) == (other.instance, other.certificate)

    async def look(self, first: bool) -> Seen:
        """What is there now. `first`: at the beginning, and whenever it was away, it is also looked
        at who answers at the address.
        """
        try:
            if first:
                await self._check_address()
            return await self._probe_models()
        except tls.AuthFailed as error:
            return Seen("auth", str(error))
        except grpc.aio.AioRpcError as error:
            code, details = error.code(), error.details()
            if code in _REFUSING:
                return Seen("auth", (details or code.name)[:_WORDS])
            if code is grpc.StatusCode.UNAVAILABLE:
                why = await self._why_plaintext_is_refused()
                if why is not None:
                    return Seen("auth", why)
            return _down(f"{code.name}: {details}")
        except (OSError, messages.WireError) as error:
            return _down(f"{type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001, whatever a device sends, the others are watched on
            log("failed", "error", device=self._device.name, traceback=traceback.format_exc())
            return _down(f"its answer to a probe: {type(error).__name__}: {error}")

    async def _why_plaintext_is_refused(self) -> str | None:
        """That the device speaks TLS, where we do not: gRPC tells it as a closed socket."""
        if self._own is not None:
            return None  # with TLS its handshake has been looked at before

        host, port = split_address(self._device.address)
        look = functools.partial(tls.why_refused, None, host, port, TIMEOUT_SECONDS)
        try:
            return await self._thread.run(look, 2 * TIMEOUT_SECONDS)
        except OSError:
            return None

    async def _probe_models(self) -> Seen:
        # by name alone a sub-model could be another bundle's
        index = await self._call("RepositoryIndex")
        allowed = self._pins.allowed(self._device, self.certificate)
        offered = {model.name for model in index.models if model.state == "READY"}
        offered &= set(self._pins.names)

        # of one that has nothing ready: a relay says of all of its sub-models where they are
        asked = sorted(offered & allowed) or [model.name for model in index.models[:1]]
        for name in asked:
            metadata = await self._call("ModelMetadata", name=name)
            why = self._noted(name, metadata.properties, offered & allowed)
            if why is not None:
                return why
            # it answers for nothing that has not the same bundle and the right view
            if self.below is not None:
                break

        twin = self._is_also()
        if twin is not None:
            return Seen(
                "duplicate",
                f"it is the worker that {twin} is too; drop one of the two addresses",
            )

        # a device that claims what another is to do is not believed
        beyond = ""
        if offered - allowed:
            beyond = (
                f"it has {', '.join(sorted(offered - allowed))} too, which the plan or "
                "devices.toml placed elsewhere; say submodels = [...] there if it may be asked"
            )
        lacking = self._lacking(index.models, allowed)
        if not offered & allowed:
            if [model.name for model in index.models] == [_AGGREGATOR]:
                beyond = "it is an aggregator; one below another is started by `edvit relay`"
            words = beyond or "it hosts no sub-model of this bundle that is ready"
            return Seen("not-serving", words, lacking=lacking)

        return Seen("ready", beyond, frozenset(offered & allowed), lacking)

    def _noted(
        self, name: str, properties: Mapping[str, str], usable: Collection[str]
    ) -> Seen | None:
        """Keeps what a model's metadata says of the process; why it cannot be asked, if so.

        `usable` are the sub-models that may be asked for and are ready: of another one a worker's
        metadata say nothing.
        """
        # a worker that calls itself a relay would never be blamed for what it answers
        self.below = None if self.role == "worker" else below.heard(properties)
        if name not in usable and self.below is None:
            return None

        digest = properties.get("bundle_digest", "")
        if digest != self._digest:
            return Seen(
                "wrong-bundle",
                f"it has the bundle {digest[:12] or '(none)'}, this is {self._digest[:12]}; "
                "copy this bundle there",
            )

        self.instance = properties.get(messages.INSTANCE, "")
        if self.below is not None:
            why_not = self._why_not_below(self.below)
            if why_not is not None:
                return Seen(*why_not)
        if name not in usable:
            return None

        try:
            self._expected[name].check_view(properties)
        except WrongView as error:
            return Seen("wrong-view", str(error))

        self.streams = properties.get(messages.STREAMS) == "1"
        self.together = properties.get(TOGETHER) == "1"
        self.condition = condition.heard(properties)
        self.certificate_ends = certificate_expiry.heard(properties)
        return None

    def _lacking(self, models: Iterable, allowed: Collection[str]) -> dict[str, str]:
        """Why sub-models are not ready there, as a relay says it."""
        if self.below is None:
            return {}
        return {
            model.name: model.reason[:_WORDS]
            for model in models
            if model.name in allowed and model.state != "READY" and model.reason
        }

    async def _check_address(self) -> None:
        """Raises OSError for a name that leads nowhere, AuthFailed unless a worker answers at the
        address; gRPC alone does not tell refused from down.
        """
        host, port = split_address(self._device.address)
        if self._own is None:
            look_up = functools.partial(socket.getaddrinfo, host, port)
            await self._thread.run(look_up, TIMEOUT_SECONDS)
            return

        # a handshake blocks: it must not hold up the requests
        handshake = functools.partial(tls.peer_of, self._own, host, port, TIMEOUT_SECONDS)
        role = await self._thread.run(handshake, 2 * TIMEOUT_SECONDS)
        if role is None or role[0] not in _DEVICE_ROLES:
            raise tls.AuthFailed(
                f"{self._device.address} has the role {role and role[0]!r}; a device is a worker, "
                "or a relay. Issue it a worker's certificate, or a relay's."
            )

        self.role, self.certificate = role

    async def _call(self, method: str, **fields):
        request = messages.new(messages.METHODS[method][0], **fields)
        call = messages.stub(self._channel, method)
        return messages.checked(await call(request, timeout=TIMEOUT_SECONDS))


def _down(words: str) -> Seen:
    """gRPC's words may have rubbish behind."""
    return Seen("down", words.partition("\n")[0][:_WORDS])
