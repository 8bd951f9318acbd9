"""What a server reads again while it runs: its certificate, by itself; the rest, when it is told to
(SIGHUP).

Certificates are renewed by programs, which tell nobody, so the files are looked at every
`LOOK_SECONDS`. Connections that are open keep what they began with. Files that are no good, or are
half copied, are told of once, and what was read before stays.
"""

import asyncio
import traceback
from collections.abc import Callable
from pathlib import Path

from edvit_tf.device.errors import IdentityError
from edvit_tf.device.rpc import tls
from edvit_tf.device.rpc.base_service import BaseService
from edvit_tf.device.rpc.jsonlog import log

LOOK_SECONDS = 10.0


async def keep_reloading(
    service: BaseService,
    presented: tls.Presented | None,
    told: asyncio.Event,
    renewed: Callable[[], None],
) -> None:
    """Never ends. `told` is set by a signal; `renewed()` hears of each new certificate."""
    certificate = None
    if service.own is not None and presented is not None:
        certificate = _Certificate(service, presented, renewed)

    while True:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await told.wait()
        except TimeoutError:
            pass
        asked = told.is_set()
        told.clear()

        # a fault of ours in here must not end what answers
        try:
            if certificate is not None:
                await certificate.look()
            if asked:
                await service.reload()
        except Exception:  # noqa: BLE001
            log("failed", "error", method="reload", traceback=traceback.format_exc())


class _Certificate:
    """The files of an identity, and what was last made of them."""

    def __init__(
        self, service: BaseService, presented: tls.Presented, renewed: Callable[[], None]
    ) -> None:
        assert service.own is not None
        self._service = service
        self._presented = presented
        self._renewed = renewed
        self._folder = service.own.cert.parent
        self._role = _role(service.own)
        self._refused = ""  # the words, once they were told

    async def look(self) -> None:
        """Takes what the files hold now, where that is new and good."""
        try:
            found = await asyncio.to_thread(_newer, self._folder, self._service.own, self._role)
        except IdentityError as error:
            self._say(str(error))
            return
        if found is None:
            self._refused = ""
            return

        why = await self._service.renew(found)
        if why is not None:
            self._say(why)
            return

        self._presented.put(found)
        self._refused = ""
        self._renewed()
        log("reload", changed=["certificate"], file=str(found.cert))

    def _say(self, reason: str) -> None:
        if reason != self._refused:
            self._refused = reason
            log("reload", "error", refused="certificate", reason=reason, stays="the one before")


def _newer(folder: Path, own: tls.Identity | None, role: str | None) -> tls.Identity | None:
    """None where the files are as they were. Raises IdentityError."""
    if own is not None and tls.pems_of(folder) == own.pems:
        return None

    found = tls.identity(folder)
    if role is not None and _role(found) not in (None, role):
        raise IdentityError(
            f"{found.cert} has the role {_role(found)}; this server is a {role}. Issue it one: "
            f"edvit certs issue FLEET {role} NAME --host HOST."
        )
    return found


def _role(own: tls.Identity) -> str | None:
    names = tls.names_of(own)
    found = None if names is None else tls.role_of(names)
    return None if found is None else found[0]
