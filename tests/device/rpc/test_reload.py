"""Which files are taken for another certificate while a server runs, and what is held of them."""

import asyncio
import datetime
import itertools
import shutil
import time
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448

from edvit_tf.aggregate.http.server import HttpServer
from edvit_tf.device.errors import IdentityError
from edvit_tf.device.rpc import reload, tls
from edvit_tf.operate import certs

FILES = ("ca.pem", "cert.pem", "key.pem")
HALVES = [half for count in (1, 2) for half in itertools.combinations(FILES, count)]


@pytest.fixture(scope="module")
def issued(tmp_path_factory):
    """(one of an authority, another of it, one of another authority)."""
    folder = tmp_path_factory.mktemp("issued")
    first, second = certs.init(folder / "a"), certs.init(folder / "b")
    return tuple(
        certs.issue(authority, "worker", "pi", ["127.0.0.1"], out=folder / name)
        for authority, name in ((first, "own"), (first, "next"), (second, "other"))
    )


@pytest.fixture
def folder(issued, tmp_path):
    return shutil.copytree(issued[0], tmp_path / "worker")


def copied(source, folder, files=FILES) -> None:
    for file in files:
        shutil.copy(source / file, folder / file)


@pytest.mark.parametrize("half", HALVES)
def test_half_a_copy_of_another_authority_s_is_refused_and_the_whole_is_taken(issued, folder, half):
    own = tls.identity(folder)
    copied(issued[2], folder, half)
    with pytest.raises(IdentityError, match="no usable identity|not of an authority"):
        reload._newer(folder, own, "worker")
    copied(issued[2], folder)
    assert reload._newer(folder, own, "worker").pems[0] == (folder / "ca.pem").read_bytes()


def self_signed(folder, key, uri: str | None) -> None:
    """An identity that is its own authority."""
    name = x509.Name([])
    names = [x509.DNSName("pi")] + ([] if uri is None else [x509.UniformResourceIdentifier(uri)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .sign(key, hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey) else None)
    )
    text = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "ca.pem").write_bytes(text)
    (folder / "cert.pem").write_bytes(text)
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def test_a_certificate_without_a_role_is_refused_as_at_the_start(folder):
    own = tls.identity(folder)
    self_signed(folder, ec.generate_private_key(ec.SECP256R1()), None)
    with pytest.raises(IdentityError, match="has no role; this server is a worker"):
        reload._newer(folder, own, "worker")


def test_a_key_that_grpc_does_not_know_is_refused(folder):
    own = tls.identity(folder)
    self_signed(folder, ec.generate_private_key(ec.SECP256R1()), tls.role_uri("worker", "pi"))
    assert reload._newer(folder, own, "worker") is not None
    self_signed(folder, ed448.Ed448PrivateKey.generate(), tls.role_uri("worker", "pi"))
    with pytest.raises(IdentityError, match="gRPC does not take .*cert.pem"):
        reload._newer(folder, own, "worker")


@pytest.mark.parametrize("meanwhile", ["gone", "half", "other"])
def test_what_was_read_is_presented_everywhere_whatever_is_written_meanwhile(
    issued, folder, meanwhile
):
    """The devices of an aggregator are asked for seconds before it takes a certificate."""
    from edvit_tf.device.rpc.base_service import BaseService

    service = SimpleNamespace(own=tls.identity(folder), certificate_ends=0.0)
    presented, told = tls.Presented(service.own), []
    http = HttpServer.__new__(HttpServer)

    async def renew(own):
        if meanwhile == "gone":
            shutil.rmtree(folder)
        elif meanwhile == "half":
            (folder / "cert.pem").write_text("-----BEGIN")
        else:
            copied(issued[2], folder)
        await BaseService.renew(service, own)
        http.present(own)

    service.renew = renew
    look = reload._Certificate(service, presented, lambda: told.append(True)).look
    copied(issued[1], folder)
    wanted = tuple((issued[1] / file).read_bytes() for file in FILES)
    asyncio.run(look())

    assert told and presented._own is service.own and service.own.pems == wanted
    assert service.certificate_ends > time.time() and tls.doubts(service.own) is None
    # by HTTPS too
    assert tls._asked(service.own._asker, http._presented)
    der = tls._handshake(service.own._judge, http._presented)[0].getpeercert(True)
    assert der == x509.load_pem_x509_certificate(wanted[1]).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("asked, is_unit_s", [(True, True), (True, False), (False, True)])
def test_a_reload_says_that_a_unit_s_keys_are_those_of_its_start(
    folder, monkeypatch, capsys, asked, is_unit_s
):
    """systemd before 260 shows a running server no other ones, whatever is copied."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder if is_unit_s else folder.parent / "run"))
    own = tls.identity(folder)

    class Service:
        def __init__(self):
            self.own = own

        async def renew_rest(self):
            """Nobody is left."""

    certificate = reload._Certificate(Service(), tls.Presented(own), lambda: None)
    asyncio.run(certificate.look(asked))
    assert ("systemctl restart" in capsys.readouterr().err) == (asked and is_unit_s)
