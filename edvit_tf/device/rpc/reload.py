"""What a server reads again while it runs: its certificate, by itself; the rest, when it is told to
(SIGHUP).

Certificates are renewed by programs, which tell nobody, so the files are looked at every
`LOOK_SECONDS`. Connections that are open keep what they began with. Files that are no good, or are
half copied, are told of once, and what was read before stays.
"""

import asyncio
import os
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from edvit_tf.device.errors import IdentityError
from edvit_tf.device.rpc import tls
from edvit_tf.device.rpc.base_service import BaseService
from edvit_tf.device.rpc.jsonlog import log

LOOK_SECONDS = 10.0
_HANDED_OVER = (
    "systemd hands a unit its keys over when it starts; for new ones run systemctl restart. From "
    "its version 260 on, RefreshOnReload=credentials in the unit hands them over at a reload too."
)
_REMIND_SECONDS = 86_400.0  # of files that are refused


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
                await certificate.look(asked)
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
        self._told = 0.0  # time.monotonic() of that

    async def look(self, asked: bool = False) -> None:
        """Takes what the files hold now, where that is new and good. `asked`: by a signal."""
        try:
            assert self._service.own is not None
            found = await asyncio.to_thread(_newer, self._folder, self._service.own, self._role)
        except IdentityError as error:
            self._say(str(error))
            return
        if found is None:
            self._refused = ""
            if asked and _is_handed_over(self._folder):
                log("reload", certificate="as it was", reason=_HANDED_OVER)
            await self._service.renew_rest()
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
        # again each day: the one before comes to its end
        now = time.monotonic()
        if reason != self._refused or now - self._told > _REMIND_SECONDS:
            self._refused, self._told = reason, now
            log("reload", "error", refused="certificate", reason=reason, stays="the one before")


def _is_handed_over(folder: Path) -> bool:
    """Whether systemd has put the files there, as a unit's credentials."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    return credentials is not None and folder.absolute() == Path(credentials).absolute()


def _newer(folder: Path, own: tls.Identity, role: str | None) -> tls.Identity | None:
    """None where the files are as they were. Raises IdentityError."""
    if tls.pems_of(folder) == own.pems:
        return None

    found = tls.identity(folder)
    # one whose peers have another authority than its own was so from the start
    if found.names is None and own.names is not None:
        raise IdentityError(
            f"{found.cert} is not of an authority in {found.ca}; the one before was. Is half of it "
            "copied? Put all three files there, of one `edvit certs issue`."
        )

    has = _role(found)
    if found.names is not None and (has is None or role not in (None, has)):
        said = "no role" if has is None else f"the role {has}"
        raise IdentityError(
            f"{found.cert} has {said}; this server is a {role or 'server'}. Issue it one: "
            f"edvit certs issue FLEET {role or 'ROLE'} NAME --host HOST."
        )
    _check_grpc(found)
    return found


def _check_grpc(found: tls.Identity) -> None:
    """gRPC's library knows fewer kinds of keys than Python's, and of a certificate that a running
    server is given it says to nobody that it goes on without. Raises IdentityError.
    """
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        try:
            server.add_secure_port("127.0.0.1:0", tls.Presented(found).credentials())
        except RuntimeError as error:
            raise IdentityError(
                f"gRPC does not take {found.cert}: it knows keys of RSA, Ed25519 and the "
                "curves P-256 and P-384. Issue it with one of these."
            ) from error
        finally:
            server.stop(0)


def _role(own: tls.Identity) -> str | None:
    found = None if own.names is None else tls.role_of(own.names)
    return None if found is None else found[0]
