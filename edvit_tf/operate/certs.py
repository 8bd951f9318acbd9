"""A small certificate authority for a fleet: `edvit certs init` makes it, `certs issue` the
identity of a machine, `certs signer` the key that signs bundles.

An identity is a folder with ca.pem, cert.pem and key.pem, which `edvit_tf.device.rpc.tls` reads.
The authority's own key, ca.key, stays on the host. Certificates start in 2020: a Raspberry Pi has
no clock chip and may boot in the past. Keys are EC P-256, which every TLS library takes (gRPC's
refuses Ed25519 unless told otherwise).
"""

import datetime
import ipaddress
import os
import re
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edvit_tf.device.rpc.tls import ROLES, role_uri
from edvit_tf.errors import ConfigError, OutputError
from edvit_tf.operate.signing import key_files

START = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
CA_DAYS = 7300
DAYS = 1825  # of a machine's certificate
_PEM = serialization.Encoding.PEM


def init(folder: Path) -> Path:
    """Makes `folder` with ca.pem and ca.key (mode 0600). Raises OutputError if there is an
    authority already.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edvit fleet CA")])
    builder = (
        _builder(name, name, key, CA_DAYS)
        .add_extension(x509.BasicConstraints(True, 0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    certificate = builder.sign(key, hashes.SHA256())

    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, {"ca.key": _pem_key(key), "ca.pem": certificate.public_bytes(_PEM)})
    return folder


def make_signer(folder: Path) -> Path:
    """Makes signer.key (mode 0600) and signer.pem in `folder`, by which bundles are signed. Raises
    OutputError if there is one already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, key_files())
    return folder


def issue(
    folder: Path,
    role: str,
    name: str,
    hosts: Sequence[str] = (),
    days: int = DAYS,
    out: Path | None = None,
) -> Path:
    """Writes the identity of one machine to `out` (default folder/ROLE-NAME), signed by the
    authority in `folder`.

    hosts: names and addresses at which a worker or an aggregator is reached (default NAME and
    NAME.local). `days` count from today. Raises ConfigError on an unknown role or a bad name,
    OutputError if the files exist already.
    """
    _check(role, name, hosts)
    authority, signer = _authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{role} {name}")])

    # A worker's certificate may open connections as far as TLS goes: the answer to one that does
    # then names its role, where a failed handshake would look like a machine that is down. An
    # aggregator opens and answers them.
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(role_uri(role, name))]
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if role != "client":
        names += [general_name(host) for host in hosts or (name, f"{name}.local")]
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)

    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = (
        _builder(subject, authority.subject, key, days)
        .add_extension(x509.BasicConstraints(False, None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(issuer_key, critical=False)
    )
    certificate = builder.sign(signer, hashes.SHA256())

    target = folder / f"{role}-{name}" if out is None else out
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(
        target,
        {
            "key.pem": _pem_key(key),
            "cert.pem": certificate.public_bytes(_PEM),
            "ca.pem": authority.public_bytes(_PEM),
        },
    )
    return target


def _check(role: str, name: str, hosts: Sequence[str]) -> None:
    if role not in ROLES:
        raise ConfigError(f"role {role!r}; a certificate is for one of {', '.join(ROLES)}.")

    # A name goes into a folder's name and into a URI, so it has no slash and no space.
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", name):
        raise ConfigError(
            f"name {name!r}; use letters, digits, dots, dashes and underscores, 63 at most."
        )

    if role == "client" and hosts:
        raise ConfigError(
            f"host {hosts[0]!r} for a client; nothing connects to a client. Leave it out."
        )


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Certificate and key of the authority in a folder; ConfigError if there is none of ours."""
    try:
        certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("ca.key is no EC key")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder} holds no authority ({error}). Make one: edvit certs init {folder}"
        ) from error

    return certificate, key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def general_name(host: str) -> x509.GeneralName:
    """A host as a certificate has it. Raises ConfigError for what is none."""
    # An address is written as one: as a DNS name TLS libraries would not find it.
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not re.fullmatch(r"[A-Za-z0-9*]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", host):
            raise ConfigError(
                f"host {host!r} is neither an address nor a host name; write it without port "
                "or scheme."
            ) from None
        return x509.DNSName(host)


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Writes files that must not exist yet, none if one does; the names that hold keys with mode
    0600.
    """
    there = [name for name in files if (folder / name).exists()]
    if there:
        raise OutputError(
            f"{folder / there[0]} exists; keys are never overwritten. Move it away, or name "
            "another."
        )

    for name, content in files.items():
        mode = 0o600 if "key" in name else 0o644
        # The mode is set as the file is made: no moment in which others can read a key.
        with open(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
