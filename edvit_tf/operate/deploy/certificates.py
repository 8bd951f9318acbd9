"""The certificates of a fleet, for `edvit deploy`: made where there are none, kept where they are,
renewed in time.
"""

import datetime
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from edvit_tf.device.rpc.certificate_expiry import WARN_DAYS
from edvit_tf.device.rpc.tls import identity, role_uri
from edvit_tf.errors import ConfigError
from edvit_tf.operate import certs
from edvit_tf.operate.containers import container_host
from edvit_tf.operate.deploy.machines import HUB, Machine

CLIENT = "me"
_HERE = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Wanted:
    """An identity that a fleet needs."""

    role: str
    name: str
    hosts: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        return f"{self.role}-{self.name}"


def wanted_by(fleet: Iterable[Machine]) -> list[Wanted]:
    """The identities of workers and aggregator, and one to ask with."""
    found = []
    for machine in fleet:
        if machine.sub_models:
            found.append(worker_of(machine))
        if machine.aggregator:
            found.append(aggregator_of(machine))
    if not any(one.role == "aggregator" for one in found):
        found.append(Wanted("aggregator", HUB, (HUB, *_HERE)))
    return [*found, Wanted("client", CLIENT)]


def worker_of(machine: Machine) -> Wanted:
    """The identity of a machine's worker."""
    hosts = (*machine.hosts, container_host(machine))
    return Wanted("worker", machine.certificate_name, hosts)


def aggregator_of(machine: Machine) -> Wanted:
    """The identity of the aggregator, which is asked on its own machine too."""
    return Wanted("aggregator", HUB, (*machine.hosts, HUB, *_HERE))


def make_certificates(folder: Path, wanted: Sequence[Wanted]) -> list[str]:
    """Makes what is missing of an authority and of identities; returns what was done, a sentence
    each. What is renewed is moved aside, never overwritten. Raises ConfigError, OutputError,
    IdentityError.
    """
    done = []
    if not (folder / "ca.pem").exists():
        certs.init(folder)
        done.append(f"{folder}: made an authority; keep ca.key on this machine and back it up")

    authority = _certificate(folder / "ca.pem")
    if _days_left(authority) < WARN_DAYS:
        raise ConfigError(
            f"{folder}/ca.pem ends on {authority.not_valid_after_utc:%Y-%m-%d}. Move {folder} "
            "away: the next deployment, with --replace, makes a new authority and all identities."
        )
    for one in wanted:
        target = folder / one.folder
        why = _why_not(target, authority, one)
        if why is None:
            continue
        # the old one stays where the new one cannot be made
        with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as made:
            new = certs.issue(folder, one.role, one.name, one.hosts, out=Path(made) / one.folder)
            if target.exists():
                aside = _free_name(target)
                target.rename(aside)
                done.append(f"{one.folder}: {why}; the old one is {aside.name}")
            else:
                done.append(f"{one.folder}: made")
            new.rename(target)
    return done


def _why_not(target: Path, authority: x509.Certificate, wanted: Wanted) -> str | None:
    """Why an identity is not to be used, None for one that is."""
    if not target.exists():
        return "missing"
    identity(target)  # a key that others can read is said, and not replaced
    found = _certificate(target / "cert.pem")
    try:
        found.verify_directly_issued_by(authority)
    except Exception:  # noqa: BLE001 - of several kinds, by the key's
        return "of another authority"

    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if role_uri(wanted.role, wanted.name) not in names.get_values_for_type(
        x509.UniformResourceIdentifier
    ):
        return "of another role or name"
    # one address of IPv6 can be written in several ways
    missing = [host for host in wanted.hosts if certs.general_name(host) not in names]
    if missing:
        return f"not for {', '.join(missing)}"
    if _days_left(found) < WARN_DAYS:
        return f"ends on {found.not_valid_after_utc:%Y-%m-%d}"
    return None


def _certificate(file: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{file} is no certificate ({error}). Move its folder away: the next deployment makes "
            "another."
        ) from error


def _days_left(certificate: x509.Certificate) -> float:
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return left / datetime.timedelta(days=1)


def _free_name(target: Path) -> Path:
    number = 1
    while (aside := target.with_name(f"{target.name}.old-{number}")).exists():
        number += 1
    return aside
