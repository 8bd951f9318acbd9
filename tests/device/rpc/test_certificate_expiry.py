"""A certificate that ends soon: both servers say so in log, metrics and /healthz, and --check shows
it.
"""

import asyncio
import contextlib
import json
import shutil
import time

import pytest
from cryptography import x509

from edvit_tf.device.rpc import certificate_expiry, tls
from edvit_tf.operate import certs
from tests.support.aggregator_process import aggregator
from tests.support.commands import run_device
from tests.support.fleet_process import health, metric
from tests.support.worker_process import wait_for, worker

DAY = 86_400
GAUGE = "edvit_certificate_expiry_timestamp_seconds"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return certs.init(tmp_path_factory.mktemp("authority") / "ca")


def issued(authority, days: int, role: str = "worker"):
    folder = authority / f"{role}-for-{days}"
    return (
        folder
        if folder.exists()
        else certs.issue(
            authority, role, "me", [] if role == "client" else ["127.0.0.1"], days, folder
        )
    )


def end_of(file) -> float:
    return x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc.timestamp()


@pytest.mark.parametrize("days", [-2000, -1, 0, 10, 1825, 7299])
def test_the_end_is_the_certificates_whatever_the_clock_says(authority, days):
    folder = issued(authority, days)
    assert tls.identity(folder).ends == end_of(folder / "cert.pem")


def test_an_authority_that_ends_first_is_what_counts(authority):
    folder = issued(authority, 9000)
    assert tls.identity(folder).ends == end_of(authority / "ca.pem") < end_of(folder / "cert.pem")


def test_another_authoritys_certificate_has_no_end_here(authority, tmp_path):
    mixed = shutil.copytree(
        certs.issue(certs.init(tmp_path / "rogue"), "worker", "me"), tmp_path / "mixed"
    )
    shutil.copy(authority / "ca.pem", mixed / "ca.pem")
    own = tls.identity(mixed)
    assert own.ends is None and tls.doubts(own) and certificate_expiry.state(None) is None


def test_days_are_counted_by_the_clock():
    now = time.time()
    assert (
        certificate_expiry.state(now + 29.9 * DAY)["expiring"]
        and not certificate_expiry.state(now + 30.1 * DAY)["expiring"]
    )
    said = certificate_expiry.state(now - 2 * DAY)
    assert said["days_left"] == -2 and said["expiring"] and said["ends"].endswith("+00:00")


@pytest.mark.parametrize(
    "seconds, level", [(600, "warning"), (-1, "error"), (29 * DAY, "warning"), (31 * DAY, None)]
)
def test_it_is_over_when_it_is_over_and_not_in_its_last_hour(authority, capfd, seconds, level):
    own = tls.identity(issued(authority, 1825))
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(certificate_expiry.remind(own, time.time() + seconds), 0.2))
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["level"] for line in lines] == ([] if level is None else [level])


@contextlib.contextmanager
def both(bundle, folder, authority, days, prelude=""):
    """A worker and an aggregator whose certificates end in so many days."""
    with (
        worker(
            bundle,
            folder,
            "--identity",
            str(issued(authority, days)),
            "--metrics",
            "127.0.0.1:0",
            prelude=prelude,
        ) as device,
        aggregator(
            bundle,
            folder,
            [device.address],
            "--identity",
            str(issued(authority, days, "aggregator")),
            "--metrics",
            "127.0.0.1:0",
            prelude=prelude,
        ) as hub,
    ):
        yield device, hub


@pytest.mark.parametrize(
    "days, level, reason",
    [
        (1825, None, None),
        (10, "warning", "certificate ends in less than 30 days"),
        (-1, "error", "certificate has expired"),
    ],
)
def test_both_servers_say_at_their_start_when_it_ends(
    tiny_bundle, tmp_path, authority, days, level, reason
):
    with both(tiny_bundle, tmp_path, authority, days) as servers:
        for one, role in zip(servers, ("worker", "aggregator"), strict=True):
            end = end_of(issued(authority, days, role) / "cert.pem")
            assert metric(one, GAUGE) == end
            shown = health(one)["certificate"]
            assert shown["days_left"] == pytest.approx((end - time.time()) / DAY, abs=0.2)
            assert shown["expiring"] == (days < 30)
            if level is None:
                assert not one.events("certificate")
                continue
            wait_for(lambda one=one: one.events("certificate"))
            event = one.events("certificate")[0]
            assert (event["level"], event["reason"]) == (
                level,
                reason,
            ) and "edvit certs issue" in event["advice"]
            assert event["file"].endswith("cert.pem") and len(one.events("certificate")) == 1


def test_the_line_comes_again_each_day(tiny_bundle, tmp_path, authority):
    """The day is shortened to a fifth of a second."""
    prelude = (
        "from edvit_tf.device.rpc import certificate_expiry\n"
        "certificate_expiry._REMIND_SECONDS = 0.2"
    )
    with both(tiny_bundle, tmp_path, authority, 10, prelude) as servers:
        for one in servers:
            wait_for(lambda one=one: len(one.events("certificate")) >= 4)
            assert {event["days_left"] for event in one.events("certificate")} == {10.0}
        assert [one.stop() for one in reversed(servers)] == [0, 0]


def test_check_shows_it(tiny_bundle, tmp_path, authority):
    def check(identity, *arguments):
        return run_device(
            "-m",
            "edvit_tf.device",
            tiny_bundle,
            "--check",
            "--submodel",
            "0",
            "--identity",
            identity,
            *arguments,
            EDVIT_CACHE=str(tmp_path),
        )

    client = check(issued(authority, 10, "client"))
    assert (
        client.returncode == 1 and "has the role client; a server takes a worker's" in client.stdout
    )
    soon, over, none = (
        check(issued(authority, 10)),
        check(issued(authority, -1)),
        check(tmp_path / "nothing"),
    )
    assert ", in 10 days: issue it again" in soon.stdout and soon.returncode == 0, (
        soon.stdout + soon.stderr
    )
    assert (
        over.returncode == 1
        and "PROBLEM" in over.stdout
        and "certificate has expired" in over.stdout
    )
    assert (
        none.returncode == 1 and "PROBLEM" in none.stdout and "ca.pem cannot be read" in none.stdout
    )
    late = json.loads(check(issued(authority, 1825), "--json").stdout)
    assert (
        late["ok"]
        and late["certificate"]["expiring"] is False
        and 1824 < late["certificate"]["days_left"] <= 1825
    )
    refused = run_device("-m", "edvit_tf.device", tiny_bundle, "--tune", "--identity", tmp_path)
    assert (
        refused.returncode == 2
        and "--identity goes with --listen, and with --check" in refused.stderr
    )


@pytest.mark.parametrize("ends", [1.0, 1.9e9])
def test_what_a_worker_says_of_its_certificate_is_heard(ends):
    assert certificate_expiry.heard(certificate_expiry.said(ends)) == ends
    assert certificate_expiry.said(None) == {}


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "0", "1e30", "soon", "", "9" * 10**6])
def test_what_is_no_end_of_a_certificate_is_left_out(text):
    assert certificate_expiry.heard({certificate_expiry.PROPERTY: text}) is None


def test_a_certificate_that_has_ended_is_said_so():
    over = certificate_expiry.state(time.time() - 2.5 * DAY)
    (said,) = certificate_expiry.words(over, "pi-0")
    assert said == "The certificate of pi-0 ended 2.5 days ago: edvit certs issue."
    assert certificate_expiry.words(certificate_expiry.state(time.time() + 31 * DAY), "pi-0") == []
    assert certificate_expiry.words(None, "pi-0") == []
