"""Mutual TLS: who a peer is, by the role in its certificate. `edvit certs` makes the files, this
module reads them.

A certificate names its role in a URI among its subject alternative names,
`edvit://worker/pi-kitchen`. Trust in the CA is not enough: with it alone a worker's certificate,
taken from a stolen Pi, could ask all the others. So a worker answers aggregators, relays and
clients, so does a relay, an aggregator answers clients, and `peer_of` lets an aggregator see that
what answers at a device's address is a worker or a relay.
"""

import contextlib
import os
import socket
import ssl
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from edvit_tf.device.errors import DeviceError, IdentityError

ROLES = ("worker", "relay", "aggregator", "client")
_SCHEME = "edvit://"
_FILES = ("ca.pem", "cert.pem", "key.pem")
# X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which Python's ssl.VerifyFlags does not name.
_NO_CHECK_TIME = 0x200000
# How OpenSSL calls what is no TLS.
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")


class AuthFailed(DeviceError):
    """The peer is up, but one of the two refused the other's certificate, or the peer has another
    role.
    """


@dataclass(frozen=True)
class Identity:
    """The files that say who this machine is: the CA that it trusts, its certificate, its private
    key (all PEM), and what they held when they were read.

    Files may be replaced while a server runs: until new ones were found to be good, it goes on with
    what it has read. So nothing but `identity` opens them: the contexts are the standard library's,
    which loads files alone.
    """

    ca: Path
    cert: Path
    key: Path
    pems: tuple[bytes, bytes, bytes] = field(repr=False)  # of the three
    context: ssl.SSLContext = field(repr=False, compare=False)  # of a client, for `peer_of`
    # of a server, HTTPS's too: a client may show a certificate, which is checked
    server: ssl.SSLContext = field(repr=False, compare=False)
    # Subject alternative names, for `role_of`, and the Unix time at which the certificate ends, or
    # its authority's if that is earlier: whatever the clock says now. None: not of this authority;
    # `ends` also: not a server's.
    names: tuple[str, ...] | None = field(compare=False)
    ends: float | None = field(compare=False)
    _judge: ssl.SSLContext = field(repr=False, compare=False)  # of a client that dials no name
    _asker: ssl.SSLContext = field(repr=False, compare=False)  # of one that takes every server


def identity(folder: str | Path) -> Identity:
    """ca.pem, cert.pem and key.pem of a folder that `edvit certs issue` wrote. Raises
    IdentityError.

    The key may be read by its owner alone, or by a group if root owns it: so systemd hands
    credentials to a service.
    """
    folder = Path(folder)
    ca, cert, key = (folder / name for name in _FILES)
    pems = pems_of(folder)

    status = os.stat(key)
    mode = stat.S_IMODE(status.st_mode)
    given_by_root = status.st_uid == 0 and os.geteuid() != 0
    if mode & (0o007 if given_by_root else 0o077):
        raise IdentityError(
            f"{key} has mode {mode:04o}; others can read this private key. Run: chmod 600 "
            f"{key} (and issue it again if the file was ever copied about)."
        )

    try:
        own = _loaded(ca, cert, key, pems)
    except (ssl.SSLError, ValueError) as error:
        raise IdentityError(
            f"{folder} is no usable identity ({error}): ca.pem, cert.pem and key.pem must be PEM, "
            "and the key the certificate's. Copy the folder again, or issue it again."
        ) from error

    except OSError as error:
        raise IdentityError(
            f"{folder} was changed while it was read ({error}). Try again."
        ) from error

    # read twice: between the two somebody may have begun to copy other files here
    if pems_of(folder) != pems:
        raise IdentityError(f"{folder} was changed while it was read. Try again.")
    return own


def pems_of(folder: Path) -> tuple[bytes, bytes, bytes]:
    """What the three files of an identity hold. Raises IdentityError."""
    found = []
    for name in _FILES:
        try:
            found.append((folder / name).read_bytes())
        except OSError as error:
            raise IdentityError(
                f"{folder / name} cannot be read ({error.strerror}); an identity is ca.pem, "
                "cert.pem and key.pem. Make one with `edvit certs issue` and copy its folder here."
            ) from error
    return found[0], found[1], found[2]


def doubts(own: Identity) -> str | None:
    """Why this machine, by its own clock, would refuse its own certificate ("certificate has
    expired"), or None.

    The clock may be what is wrong: a Pi without a clock chip starts with an old time. So a server
    says it and serves.
    """
    try:
        _met(own._judge, own.server)
    except ssl.SSLCertVerificationError as error:
        return error.verify_message

    return None


def _loaded(ca: Path, cert: Path, key: Path, pems: tuple[bytes, bytes, bytes]) -> Identity:
    """Raises OSError, ssl.SSLError and ValueError for what the files are not."""
    server, asker = _server_context(ca, cert, key), _client_context(ca, cert, key)
    asker.check_hostname = False
    asker.verify_mode = ssl.CERT_NONE
    # a clock that is wrong must hide neither the names nor the date
    any_time = _judge_context(ca)
    any_time.verify_flags |= _NO_CHECK_TIME
    names = _names(asker, _server_context(ca, cert, key, _NO_CHECK_TIME))
    return Identity(
        ca,
        cert,
        key,
        pems,
        _client_context(ca, cert, key),
        server,
        names,
        _end(any_time, server),
        _judge_context(ca),
        asker,
    )


def _names(asker: ssl.SSLContext, server: ssl.SSLContext) -> tuple[str, ...] | None:
    """Of the certificate of one's own, as a server of the same authority sees it, which every
    role's may ask as far as TLS goes.
    """
    try:
        certificate = _asked(asker, server)
    except ssl.SSLError:
        return None

    return tuple(value for _, value in certificate.get("subjectAltName", ()))


def _end(judge: ssl.SSLContext, server: ssl.SSLContext) -> float | None:
    try:
        certificate = _met(judge, server)
    except ssl.SSLCertVerificationError:
        return None

    # an authority that ends sooner takes its certificates with it
    authority_ends = [
        ssl.cert_time_to_seconds(str(authority["notAfter"]))
        for authority in judge.get_ca_certs()
        if authority["subject"] == certificate["issuer"]
    ]
    own_end = ssl.cert_time_to_seconds(certificate["notAfter"])

    return min(own_end, max(authority_ends, default=own_end))


def _asked(asker: ssl.SSLContext, server: ssl.SSLContext) -> dict[str, Any]:
    """The client's certificate, as `getpeercert` gives it to the server, which alone judges.

    Raises SSLCertVerificationError if the server refuses it.
    """
    _, there = _handshake(asker, server)
    return there.getpeercert() or {}


def _met(judge: ssl.SSLContext, server: ssl.SSLContext) -> dict[str, Any]:
    """The server's certificate, as `getpeercert` gives it to the client, which shows none of its
    own.

    Raises SSLCertVerificationError if the client refuses it.
    """
    here, _ = _handshake(judge, server)
    return here.getpeercert() or {}


def _handshake(
    client_context: ssl.SSLContext, server_context: ssl.SSLContext
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a connection in memory, after their handshake. Raises the SSLError of either."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)

    # in memory: three turns of both sides are enough for TLS 1.2 and 1.3
    for _ in range(3):
        for side in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()

    return client, server


class Presented:
    """The identity that a server presents now. Connections keep that of their handshake."""

    def __init__(self, own: Identity) -> None:
        self._own = self._told = own

    def put(self, own: Identity) -> None:
        """From now on handshakes are made with this one."""
        self._own = own

    def credentials(self) -> grpc.ServerCredentials:
        """For a server's `add_secure_port`: only peers with a certificate of this CA are let in."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._own), self._newer, require_client_authentication=True
        )

    def _newer(self) -> grpc.ServerCertificateConfiguration | None:
        """None where gRPC has it already; called before each handshake, in a thread of gRPC."""
        own = self._own
        if own is self._told:
            return None
        found = _configuration(own)
        self._told = own
        return found


def _configuration(own: Identity) -> grpc.ServerCertificateConfiguration:
    ca, cert, key = own.pems
    return grpc.ssl_server_certificate_configuration([(key, cert)], ca)


def channel_credentials(own: Identity) -> grpc.ChannelCredentials:
    """For `grpc.secure_channel`; gRPC checks the peer's host name or address against its
    certificate.
    """
    ca, cert, key = own.pems
    return grpc.ssl_channel_credentials(ca, key, cert)


def role_of(names: Sequence[str]) -> tuple[str, str] | None:
    """(role, name) from the subject alternative names of a certificate; None if there is none, or
    more than one.
    """
    # with two of them a peer could be taken for either
    uris = [name for name in names if name.startswith(_SCHEME)]
    if len(uris) != 1:
        return None
    role, _, name = uris[0].removeprefix(_SCHEME).partition("/")
    return (role, name) if role in ROLES else None


def role_uri(role: str, name: str) -> str:
    """The name that a certificate of this role carries, e.g. edvit://worker/pi-kitchen."""
    return f"{_SCHEME}{role}/{name}"


def peer_role(context) -> tuple[str, str] | None:
    """(role, name) of the peer of a call (the context of grpc or grpc.aio); None on a plaintext
    connection.
    """
    names = context.auth_context().get("x509_subject_alternative_name", ())
    return role_of([name.decode("utf-8", "replace") for name in names])


def client_context(own: Identity) -> ssl.SSLContext:
    """The standard library's context of a client with this identity, speaking HTTP/2 as gRPC
    does.
    """
    return _client_context(own.ca, own.cert, own.key)


def _client_context(ca: Path, cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(ca))
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["h2"])
    return context


def _judge_context(ca: Path) -> ssl.SSLContext:
    """Nobody dialled a name: the authority and the dates are judged."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(ca))
    context.check_hostname = False
    return context


def _server_context(ca: Path, cert: Path, key: Path, flags: int = 0) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= flags
    return context


def peer_of(own: Identity, host: str, port: int, timeout_seconds: float) -> tuple[str, str] | None:
    """(role, name) of the server at an address, from one handshake of our own; its certificate and
    name are checked.

    gRPC's Python channels neither tell a refused certificate from a machine that is down nor show
    the peer's. Raises AuthFailed if one side refused the other, other OSErrors (refused,
    unreachable, timeout) if nobody is there.
    """
    with socket.create_connection((host, port), timeout_seconds) as plain:
        try:
            with own.context.wrap_socket(plain, server_hostname=host) as secured:
                # In TLS 1.3 the server judges our certificate after our side is done. It is the
                # first to speak in HTTP/2: a byte says that we are in, an alert or an end that we
                # are not.
                if not secured.recv(1):
                    raise AuthFailed(
                        f"{host}:{port} closed the connection after the handshake; it does not "
                        f"accept the certificate {own.cert} ({_own_fault(own)}), or it is no gRPC "
                        "server."
                    )

                certificate: dict[str, Any] = secured.getpeercert() or {}
                alternatives = certificate["subjectAltName"]
                names = [value for kind, value in alternatives if kind == "URI"]
        except TimeoutError:
            raise
        except (ssl.SSLError, ssl.CertificateError, ConnectionResetError) as error:
            if getattr(error, "reason", None) in _NO_TLS:
                why = "it answers without TLS. Start it with --identity"
            else:
                why = (
                    "both sides need certificates of one CA that are valid today, and the server's "
                    "must name this host"
                )
            raise AuthFailed(f"TLS with {host}:{port} failed: {error}; {why}.") from error

    return role_of(names)


def _own_fault(own: Identity) -> str:
    """What may be wrong with our own certificate, which gRPC's servers refuse without a word."""
    try:
        _asked(own._asker, own.server)
    except ssl.SSLCertVerificationError as error:
        return f"by this machine's clock: {error.verify_message}"

    return "of another CA, or out of its dates by the clock there"


def why_refused(own: Identity | None, host: str, port: int, timeout_seconds: float) -> str | None:
    """Why gRPC says "Socket closed" or the like of a server that is there, found by a connection of
    our own; None where it is no matter of TLS.

    `own` is the identity that it was asked with, None: plaintext.
    """
    try:
        if own is not None:
            peer_of(own, host, port, timeout_seconds)
        elif _speaks_tls(host, port, timeout_seconds):
            return (
                f"{host}:{port} speaks TLS, and this side does not. Give --identity FOLDER in the "
                "place of --insecure."
            )
    except AuthFailed as error:
        return str(error)
    except OSError:
        pass  # nobody is there

    return None


def _speaks_tls(host: str, port: int, timeout_seconds: float) -> bool:
    """Whether a server answers a handshake of TLS, be it with a refusal."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((host, port), timeout_seconds) as plain:
        try:
            with context.wrap_socket(plain):
                return True
        except ssl.SSLError as error:
            # an alert is TLS's way to refuse; what speaks something else sends none
            return "ALERT" in (error.reason or "")
