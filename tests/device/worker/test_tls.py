"""Who may ask a worker: certificates and roles over real TLS, and `edvit certs`, which makes
them.
"""

import os
import shutil
import socket
import stat

import grpc
import numpy as np
import pytest
from cryptography import x509

from edvit_tf.device.rpc import messages, tensors, tls
from edvit_tf.operate import certs
from tests.support.commands import run_command, run_device, run_host
from tests.support.worker_process import ask, wait_for, worker

REQUEST = tensors.infer_request("submodel-00", {"image": np.zeros((1, 16, 16, 1), np.uint8)})


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return certs.init(tmp_path_factory.mktemp("authority") / "ca")


@pytest.fixture(scope="module")
def secured(tiny_bundle, authority, tmp_path_factory):
    identity = certs.issue(authority, "worker", "pi-0", ["127.0.0.1"])
    with worker(tiny_bundle, tmp_path_factory.mktemp("tls"), "--identity", str(identity)) as one:
        yield one


def issued(authority, role, name, **options) -> tls.Identity:
    return tls.identity(certs.issue(authority, role, name, **options))


def refusal(one, identity) -> grpc.RpcError:
    with one.channel(identity) as channel, pytest.raises(grpc.RpcError) as error:
        ask(channel, REQUEST, timeout=30)
    return error.value


def host_and_port(one) -> tuple[str, int]:
    host, _, port = one.address.rpartition(":")
    return host, int(port)


@pytest.mark.parametrize("role", ["aggregator", "client"])
def test_aggregators_and_clients_are_answered(secured, authority, role):
    own = issued(authority, role, f"good-{role}")
    with secured.channel(own) as channel:
        assert tensors.arrays(ask(channel, REQUEST))["logits"].shape == (1, 3)
    assert tls.peer_of(own, *host_and_port(secured), 30) == ("worker", "pi-0")


def test_another_worker_s_certificate_is_refused_by_its_role(secured, authority):
    own = issued(authority, "worker", "pi-1")
    error = refusal(secured, own)
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert (
        "role: got worker (pi-1); expected a certificate of one of the roles aggregator, relay, "
        "client" in error.details()
    )
    with secured.channel(own) as channel, pytest.raises(grpc.RpcError) as health:
        list(messages.stub(channel, "Watch")(b"", timeout=30))
    assert health.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_certificate_without_a_role_is_refused(secured, authority, monkeypatch):
    monkeypatch.setattr(certs, "role_uri", lambda role, name: f"https://example.org/{role}/{name}")
    error = refusal(secured, issued(authority, "client", "roleless"))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED and "without one" in error.details()


def strangers(authority, folder) -> dict[str, tls.Identity]:
    rogue = certs.init(folder / "rogue")
    mixed = folder / "mixed"
    shutil.copytree(certs.issue(rogue, "client", "rogue"), mixed)
    shutil.copy(
        authority / "ca.pem", mixed / "ca.pem"
    )  # it trusts the worker, the worker does not trust it
    return {
        "rogue CA": tls.identity(rogue / "client-rogue"),
        "signed by a rogue CA": tls.identity(mixed),
        "expired": issued(authority, "client", "expired", days=-1),
    }


def test_strangers_are_refused_and_named_as_such(secured, authority, tmp_path):
    """gRPC says UNAVAILABLE, as for a machine that is down; `peer_of` tells the two apart."""
    own = issued(authority, "client", "honest")
    files = secured.open_files()
    for name, identity in strangers(authority, tmp_path).items():
        assert refusal(secured, identity).code() is grpc.StatusCode.UNAVAILABLE, name
        with pytest.raises(tls.AuthFailed, match="certificate"):
            tls.peer_of(identity, *host_and_port(secured), 30)
    assert refusal(secured, None).code() is grpc.StatusCode.UNAVAILABLE  # plaintext
    only_ca = grpc.ssl_channel_credentials((authority / "ca.pem").read_bytes())
    with (
        grpc.secure_channel(secured.address, only_ca) as channel,
        pytest.raises(grpc.RpcError) as none,
    ):
        ask(channel, REQUEST, timeout=30)
    assert none.value.code() is grpc.StatusCode.UNAVAILABLE
    with secured.channel(own) as channel:
        assert ask(channel, REQUEST).raw_output_contents
    wait_for(lambda: secured.open_files() <= files)


def test_peers_that_connect_and_say_nothing_are_hung_up_on(secured):
    host, port = host_and_port(secured)
    files = secured.open_files()
    silent = [socket.create_connection((host, port), 5) for _ in range(5)]
    wait_for(lambda: secured.open_files() > files)
    wait_for(lambda: secured.open_files() <= files)  # after 10 s
    for one in silent:
        one.close()


def test_who_is_not_there_is_down_not_refused(authority, tiny_bundle, tmp_path):
    own = issued(authority, "aggregator", "looking")
    with worker(tiny_bundle, tmp_path) as plain:
        with pytest.raises(tls.AuthFailed, match="WRONG_VERSION_NUMBER"):
            tls.peer_of(own, *host_and_port(plain), 30)
        address = host_and_port(plain)
        plain.stop()
        with pytest.raises(ConnectionRefusedError):
            tls.peer_of(own, *address, 30)


def test_the_reason_that_grpc_does_not_tell(secured, authority, tiny_bundle, tmp_path):
    """gRPC calls an expired certificate, and plaintext before TLS, a closed socket."""
    good = issued(authority, "client", "wondering")
    expired = issued(authority, "client", "late", days=-1)
    there = host_and_port(secured)
    assert tls.why_refused(good, *there, 30) is None
    assert "by this machine's clock: certificate has expired" in tls.why_refused(
        expired, *there, 30
    )
    assert "speaks TLS, and this side does not" in tls.why_refused(None, *there, 30)

    with worker(tiny_bundle, tmp_path) as plain:
        there = host_and_port(plain)
        assert tls.why_refused(None, *there, 30) is None
        assert "answers without TLS" in tls.why_refused(good, *there, 30)
    for own in (good, None):
        assert tls.why_refused(own, *there, 30) is None  # nobody is there now


@pytest.mark.parametrize(
    "who, words",
    [
        ("expired", "by this machine's clock: certificate has expired"),
        ("plaintext", "speaks TLS, and this side does not. Give --identity"),
        ("rogue", "unable to get local issuer certificate"),
    ],
)
def test_a_client_is_told_it(secured, authority, tmp_path, who, words):
    """`edvit predict`; that it is a worker which it asks here is looked at after TLS."""
    if who == "expired":
        own = ["--identity", certs.issue(authority, "client", f"told-{who}", days=-1)]
    elif who == "rogue":
        own = ["--identity", certs.issue(certs.init(tmp_path / "rogue"), "client", "told")]
    else:
        own = ["--insecure"]
    (tmp_path / "one.png").write_bytes(b"never sent")
    code, _, err = run_command(["predict", "--server", secured.address, *own, tmp_path / "one.png"])
    assert code == 19 and words in err and "Socket closed" not in err, err


def test_a_worker_under_another_name_is_refused(tiny_bundle, authority, tmp_path):
    """Its certificate is for pi-2 and pi-2.local, and it answers at 127.0.0.1."""
    identity = certs.issue(authority, "worker", "pi-2")
    own = issued(authority, "client", "careful")
    with worker(tiny_bundle, tmp_path, "--identity", str(identity)) as one:
        assert refusal(one, own).code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(tls.AuthFailed, match="127.0.0.1"):
            tls.peer_of(own, *host_and_port(one), 5)


@pytest.mark.parametrize("role", ["client", "aggregator", "none"])
def test_a_worker_does_not_serve_with_another_s_identity(
    authority, tiny_bundle, tmp_path, monkeypatch, role
):
    """Every aggregator would refuse it, and nothing here would say why."""
    if role == "none":
        monkeypatch.setattr(certs, "role_uri", lambda role, name: f"https://example.org/{name}")
    # out of its dates too: the role is seen all the same
    folder = certs.issue(
        authority, "client" if role == "none" else role, "me", days=-1, out=tmp_path / "me"
    )
    done = run_device(
        "-m", "edvit_tf.device", tiny_bundle, "--listen", "127.0.0.1:0", "--identity", folder
    )
    found = "no role" if role == "none" else f"the role {role} (of me)"
    assert done.returncode == 15 and f"cert.pem has {found}; this is the worker" in done.stderr
    assert "edvit certs issue FLEET worker NAME" in done.stderr and "serving" not in done.stderr


def test_an_aggregator_does_not_serve_with_a_worker_s_identity(authority, tiny_bundle, tmp_path):
    folder = certs.issue(authority, "worker", "me", out=tmp_path / "me")
    command = ["-m", "edvit_tf.cli", "serve", tiny_bundle, "--devices", "127.0.0.1:1"]
    done = run_device(*command, "--listen", "127.0.0.1:0", "--identity", folder)
    assert done.returncode == 15, done.stderr
    assert "the role worker (of me); this is the aggregator" in done.stderr


def test_a_key_that_others_can_read_is_refused(authority, tmp_path, tiny_bundle):
    folder = certs.issue(authority, "worker", "open", out=tmp_path / "open")
    for mode in (0o604, 0o640 if os.geteuid() == 0 else 0o620):
        (folder / "key.pem").chmod(mode)
        with pytest.raises(
            tls.IdentityError, match=f"mode {mode:04o}; others can read .* chmod 600"
        ):
            tls.identity(folder)
    done = run_device(
        "-m", "edvit_tf.device", tiny_bundle, "--listen", "127.0.0.1:0", "--identity", folder
    )
    assert done.returncode == 15 and "chmod 600" in done.stderr
    (folder / "key.pem").chmod(0o600)
    shutil.copy(certs.issue(authority, "worker", "other") / "key.pem", folder / "key.pem")
    with pytest.raises(tls.IdentityError, match="KEY_VALUES_MISMATCH"):
        tls.identity(folder)
    (folder / "cert.pem").write_text("nothing")
    with pytest.raises(tls.IdentityError, match="no usable identity"):
        tls.identity(folder)
    (folder / "ca.pem").unlink()
    with pytest.raises(tls.IdentityError, match="ca.pem cannot be read"):
        tls.identity(folder)


def test_the_command_makes_files_that_work(tmp_path):
    ca = tmp_path / "fleet"
    assert run_host("-m", "edvit_tf.cli", "certs", "init", ca).returncode == 0
    done = run_host(
        "-m",
        "edvit_tf.cli",
        "certs",
        "issue",
        ca,
        "worker",
        "pi-kitchen",
        "--host",
        "10.0.0.7",
        "--host",
        "pi-kitchen.lan",
        "--days",
        "10",
    )
    assert done.returncode == 0, done.stderr
    folder = ca / "worker-pi-kitchen"
    for key in (ca / "ca.key", folder / "key.pem"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    tls.identity(folder)
    made = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        "edvit://worker/pi-kitchen"
    ]
    assert names.get_values_for_type(x509.DNSName) == ["pi-kitchen.lan"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7"]
    assert made.not_valid_before_utc.year == 2020  # a Pi without a clock boots in the past
    assert not (folder / "ca.key").exists()


@pytest.mark.parametrize(
    "arguments, code, text",
    [
        (["issue", "CA", "worker", "pi-0"], 6, "exists; keys are never overwritten"),
        (["init", "CA"], 6, "exists"),
        (["issue", "CA", "boss", "x"], 2, "invalid choice"),
        (["issue", "CA", "worker", "../x"], 3, "name '../x'; use letters"),
        (
            ["issue", "CA", "worker", "x", "--host", "http://pi:8001"],
            3,
            "neither an address nor a host name",
        ),
        (["issue", "CA", "client", "x", "--host", "pi"], 3, "nothing connects to a client"),
        (["issue", "CA", "client", "x", "--days", "0"], 2, "write 1 or more"),
        (["issue", "NOWHERE", "client", "x"], 3, "holds no authority"),
    ],
)
def test_the_command_refuses(authority, secured, tmp_path, arguments, code, text):
    before = sorted(authority.rglob("*"))
    places = {"CA": str(authority), "NOWHERE": str(tmp_path)}
    done = run_host("-m", "edvit_tf.cli", "certs", *(places.get(a, a) for a in arguments))
    assert done.returncode == code and text in done.stderr and "Traceback" not in done.stderr, (
        done.stderr
    )
    assert sorted(authority.rglob("*")) == before


@pytest.mark.parametrize(
    "names, role",
    [
        (["edvit://worker/pi"], ("worker", "pi")),
        (["pi", "edvit://client/a/b"], ("client", "a/b")),
        (["edvit://boss/pi"], None),
        (["edvit://worker/pi", "edvit://client/pi"], None),
        (["pi.local"], None),
        ([], None),
    ],
)
def test_a_role_is_one_name(names, role):
    assert tls.role_of(names) == role
