"""`edvit status`: what it shows of real fleets, how it ends, and what it says where nobody is."""

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from fcntl import ioctl

import numpy as np
import pytest

from edvit_tf.operate import certs, running
from edvit_tf.operate.status_text import status_text
from tests.support.aggregator_process import aggregator, all_ready, infer, wait_ready
from tests.support.commands import ROOT, run_command
from tests.support.fleet_process import places
from tests.support.worker_process import wait_for, worker

X = np.zeros((1, 16, 16, 1), np.uint8)
HOSTILE = "\x1b[2J\r\u202epi\n0"
DEVICE = {
    "device": "pi-0",
    "address": "10.0.0.1:8001",
    "state": "ready",
    "breaker": "closed",
    "last_ms": 12.345,
    "temperature_c": 48.3,
    "throttled": [],
    "hosts": ["submodel-00", "submodel-01"],
}
SAID = {
    "hub": "hub:9000",
    "serving": True,
    "bundle": {"bundle": "gtzan", "digest": "0123456789ab"},
    "minutes": {
        "seconds": 300,
        "answered": 200,
        "degraded": 10,
        "refused": 1,
        "p50_ms": 20.0,
        "p95_ms": 41.2,
    },
    "submodels": {"submodel-00": True, "submodel-01": False},
    "devices": [DEVICE],
    "alerts": [],
    "less": None,
}


def test_a_fleet_is_a_line_a_row_for_each_device_and_its_alerts():
    text = status_text({**SAID, "alerts": ["pi-1 is down."]}, 120, colours=False)
    assert text.splitlines() == [
        "hub:9000: serving · 1 of 1 devices ready · bundle gtzan 0123456789ab",
        "last 300 s: 200 answers, 5.0 % degraded, 1 refused · p50 20.0 ms · p95 41.2 ms",
        "",
        "device  address        state  breaker  last ms  °C  sub-models",
        "pi-0    10.0.0.1:8001  ready  closed   12.3     48  submodel-00, submodel-01",
        "",
        "without a device: submodel-01",
        "",
        "! pi-1 is down.",
    ]


def days_left(days: float) -> dict:
    return {"ends": "2027-01-01T00:00:00+00:00", "days_left": days, "expiring": days < 30}


def test_the_days_of_certificates_are_shown():
    devices = [
        {**DEVICE, "certificate": days_left(400.4)},
        {**DEVICE, "device": "pi-1", "certificate": days_left(12.3)},
        {**DEVICE, "device": "pi-2", "certificate": None},
    ]
    said = {**SAID, "devices": devices, "certificate": days_left(29.6)}
    lines = status_text(said, 120, colours=True).splitlines()
    assert " · certificate 30 days · bundle " in lines[0]
    assert "cert. days" in lines[3]
    assert [line.split()[6] for line in lines[4:7]] == ["400", "12", "-"]
    assert ["\x1b[31m" in line for line in lines[4:7]] == [False, True, False]


def test_what_is_not_known_is_a_dash():
    unknown = {**DEVICE, "last_ms": None, "temperature_c": None, "throttled": None, "hosts": []}
    said = {**SAID, "minutes": None, "bundle": None, "devices": [unknown]}
    row = status_text(said, 120, colours=False).splitlines()[3]
    assert row.split() == ["pi-0", "10.0.0.1:8001", "ready", "closed", "-", "-", "-"]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_a_device_is_told_from_another(width):
    devices = [
        {**DEVICE, "device": f"kitchen-{place}", "throttled": ["under-voltage"]}
        for place in range(3)
    ]
    said = {**SAID, "devices": devices, "alerts": ["x" * 300]}
    lines = status_text(said, width, colours=False).splitlines()
    assert max(map(len, lines)) <= width
    if width >= 60:
        assert all(f"kitchen-{place}" in lines[4 + place] for place in range(3))


def test_only_a_terminal_gets_colours_and_what_is_wrong_is_red():
    devices = [DEVICE, {**DEVICE, "device": "pi-1", "state": "down"}]
    hot = {**DEVICE, "device": "pi-2", "temperature_c": 80.0}
    held = {**DEVICE, "device": "pi-3", "throttled": ["throttled"]}
    said = {**SAID, "devices": [*devices, hot, held]}
    assert "\x1b" not in status_text(said, 100, colours=False)
    lines = status_text(said, 100, colours=True).splitlines()
    red = [bool(re.match("\x1b\\[31m.*\x1b\\[0m$", line)) for line in lines[4:8]]
    assert red == [False, True, True, True] and lines[4].startswith("\x1b[32m")


def test_no_name_moves_the_cursor():
    device = {**DEVICE, "device": HOSTILE, "state": HOSTILE, "hosts": [HOSTILE]}
    said = {
        **SAID,
        "devices": [{**device, "address": HOSTILE, "breaker": HOSTILE, "throttled": [HOSTILE]}],
        "alerts": [HOSTILE],
        "submodels": {HOSTILE: False},
        "bundle": {"bundle": HOSTILE, "digest": HOSTILE},
    }
    text = status_text(said, 400, colours=False)
    assert text.replace("\n", "").isprintable() and "\\x1b[2J" in text
    assert len(text.splitlines()) == len(status_text(SAID, 400, colours=False).splitlines()) + 2


@pytest.fixture(scope="module")
def fleet(tiny_bundle, tmp_path_factory):
    """(places, aggregator, a channel to it): two devices, one sub-model each."""
    folder = tmp_path_factory.mktemp("status")
    options = ("--metrics", "127.0.0.1:0", "--min-submodels", "1")
    with (
        places(tiny_bundle, folder, [[0], [1]]) as made,
        aggregator(tiny_bundle, folder, [each.address for each in made], *options) as one,
        one.channel() as channel,
    ):
        wait_ready(channel)
        wait_for(lambda: all_ready(one, 2))
        yield made, one, channel


def status(*words) -> tuple[int, str, str]:
    return run_command(["status", *words])


def test_a_fleet_that_is_well_ends_with_0_and_a_dead_device_with_1(fleet):
    made, one, channel = fleet
    hub = one.serving["metrics"]
    infer(channel, X, timeout=60)

    # an answer that came late, on a busy machine, is an alert for a minute
    def well():
        code, out, err = status(hub, "--insecure", "--json")
        said = json.loads(out)
        assert code == (1 if said["alerts"] else 0), err
        return said if not said["alerts"] and said["minutes"]["answered"] else None

    said = wait_for(well, 120)
    assert said["serving"] and len(said["devices"]) == 2 and said["less"] is None
    assert said["minutes"]["p50_ms"] <= said["minutes"]["p95_ms"]
    assert said["bundle"]["bundle"] == "tiny"
    assert all(device["last_ms"] > 0 for device in said["devices"])

    gone = made[1]
    gone.end(signal.SIGKILL)
    try:
        wait_for(lambda: "is down" in status(hub, "--insecure")[1], 60)
        code, out, _ = status(hub, "--insecure")
        assert code == 1 and "1 of 2 devices ready" in out and "\x1b" not in out
        assert "without a device: submodel-01" in out and f"! {gone.address} is down" in out
    finally:
        gone.start()
    wait_for(lambda: "2 of 2 devices ready" in status(hub, "--insecure")[1], 60)


def test_the_fleet_of_edvit_up_is_found(fleet, tiny_bundle, tmp_path, monkeypatch):
    _, one, _ = fleet
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    code, _, err = status()
    assert code == 19 and "no `edvit up` runs here" in err
    with running.announced(one.address, tiny_bundle, "abc", one.serving["metrics"]):
        code, out, err = status()
        assert code in (0, 1) and one.serving["metrics"] in out, err


def test_what_does_not_answer_as_a_hub_is_said(fleet, tmp_path):
    _, one, _ = fleet
    code, _, err = status(one.address, "--insecure")
    assert code == 19 and "does not speak HTTP" in err and "--metrics" in err

    with socket.socket() as held:  # bound, and nobody listens
        held.bind(("127.0.0.1", 0))
        code, _, err = status(f"127.0.0.1:{held.getsockname()[1]}", "--insecure")
        assert code == 19 and "no aggregator answers at" in err

    for wrong in ("http://hub:9000", "hub", ":9000", "hub:x"):
        code, _, err = status(wrong, "--insecure")
        assert code == 3 and "HUB" in err, wrong
    code, _, err = status(one.serving["metrics"])
    assert code == 2 and "takes one of --identity FOLDER and --insecure" in err
    code, _, err = status("--insecure")
    assert code == 3 and "go with HUB" in err


def test_a_worker_s_page_is_no_hub_s(tiny_bundle, tmp_path):
    with worker(tiny_bundle, tmp_path, "--insecure", "--metrics", "127.0.0.1:0") as one:
        code, _, err = status(one.serving["metrics"], "--insecure")
        assert code == 19 and "is no HTTP port of an aggregator" in err


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"status": "SERVING"}', b"\xff"])
def test_a_server_that_says_something_else_is_no_hub(body):
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            for _ in range(2):
                with contextlib.suppress(OSError):
                    connection, _ = server.accept()
                    with connection:
                        asked = connection.recv(4096)
                        if b"/live/state" in asked:
                            connection.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
                        else:
                            connection.sendall(answer % len(body) + body)

        threading.Thread(target=serve, daemon=True).start()
        code, _, err = status(f"127.0.0.1:{server.getsockname()[1]}", "--insecure")
        assert code == 19 and ("no HTTP port of an aggregator" in err or "is no JSON" in err)


def of_server(answers: dict[bytes, bytes]) -> tuple[int, str, str]:
    """What `edvit status` says of a server that gives these answers, each by its path."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        asked = connection.recv(4096)
                        said = next((say for path, say in answers.items() if path in asked), b"")
                        connection.sendall(said)

        threading.Thread(target=serve, daemon=True).start()
        try:
            return status(f"127.0.0.1:{server.getsockname()[1]}", "--insecure")
        finally:
            server.shutdown(socket.SHUT_RDWR)  # the thread ends


def page(body: bytes, kind: bytes = b"application/json", code: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    return head % (code, kind, len(body)) + body


FEED = {
    "about": {"bundle": "tiny", "digest": "abc"},
    "fleet": {key: SAID[key] for key in ("serving", "submodels", "alerts")},
    "minutes": None,
}


@pytest.mark.parametrize(
    "answer",
    [
        page(b"<html>", b"text/html"),
        page(b'{"a": 1}'),
        page(b"[" * 100_000),
        page(b'{"fleet": [], "about": {}}'),
        page(json.dumps({**FEED, "fleet": {**FEED["fleet"], "devices": [{}]}}).encode()),
        page(
            json.dumps(
                {**FEED, "fleet": {**FEED["fleet"], "devices": [{**DEVICE, "last_ms": 10**400}]}}
            ).encode()
        ),
    ],
)
def test_another_server_s_live_state_is_no_hub_s(answer):
    code, out, err = of_server({b"/live/state": answer})
    assert code == 19 and out == "", err
    assert "no HTTP port of an aggregator" in err or "is no JSON" in err


def test_the_words_of_another_server_move_no_cursor():
    device = {**DEVICE, "reason": "", "breaker_reason": ""}
    health = {"status": "SERVING", "submodels": {}, "devices": [device]}
    healthz = page(json.dumps(health).encode())
    hostile = b"\x1b]0;pwned\x07\x1b[2J hi"
    said = [
        of_server({b"/live/state": hostile + b"\r\n\r\n"}),
        of_server(
            {
                b"/live/state": page(hostile * 9999, b"text/plain", b"401 No"),
                b"/healthz": healthz,
            }
        ),
    ]
    for _, out, err in said:
        assert "\\x1b]0;pwned" in err and len(err) < 1000, err
        assert (out + err).replace("\n", "").isprintable()

    # a gateway refuses in JSON
    refusal = page(b'{"message": "no"}', code=b"403 No")
    code, out, err = of_server({b"/live/state": refusal, b"/healthz": healthz})
    assert code == 0 and "1 of 1 devices ready" in out and "not shown: HTTP 403" in err


def test_a_certificate_that_ends_soon_is_an_alert(tiny_bundle, tmp_path):
    """Of the hub as of a device, which says it itself: a renewed one counts at the next probe."""
    authority = certs.init(tmp_path / "ca")
    soon = certs.issue(authority, "worker", "pi", ["127.0.0.1"], 10)
    later = certs.issue(authority, "aggregator", "hub", ["127.0.0.1"], 300)
    options = ("--identity", str(later), "--metrics", "127.0.0.1:0")
    with (
        worker(tiny_bundle, tmp_path, "--identity", str(soon)) as device,
        aggregator(tiny_bundle, tmp_path, [device.address], *options) as one,
    ):
        wait_for(lambda: all_ready(one, 1), 60)
        code, out, _ = status(one.serving["metrics"], "--insecure")
    assert code == 1 and re.search(r"· certificate (299|300) days · bundle", out), out
    words = (
        rf"! The certificate of {device.address} ends in (9\.\d|10\.0) days: edvit certs issue\."
    )
    assert re.search(words, out) and "of this hub" not in out


def test_a_hub_of_an_earlier_version_says_no_days():
    health = {"status": "SERVING", "submodels": {}, "devices": [DEVICE]}
    code, out, err = of_server(
        {
            b"/live/state": b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
            b"/healthz": page(json.dumps(health).encode()),
        }
    )
    assert code == 0 and "certificate" not in out and "cert. days" not in out, err


def test_tls_and_login_are_asked_for_in_words(tiny_bundle, tmp_path, fleet):
    authority = certs.init(tmp_path / "ca")
    ids = {
        role: str(certs.issue(authority, role, "me", [] if role == "client" else ["127.0.0.1"]))
        for role in ("worker", "aggregator", "client")
    }
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o600)
    options = ("--identity", ids["aggregator"], "--metrics", "127.0.0.1:0")
    options = (*options, "--https", "--login-token", str(token))
    with (
        worker(tiny_bundle, tmp_path, "--identity", ids["worker"]) as device,
        aggregator(tiny_bundle, tmp_path, [device.address], *options) as one,
    ):
        wait_for(lambda: all_ready(one, 1))
        hub = one.serving["metrics"]
        code, out, err = status(hub, "--identity", ids["client"])
        assert code == 0 and "1 of 1 devices ready" in out and "last" in out, err

        # a worker may not look; what is open to all is shown, with the reason
        code, out, err = status(hub, "--identity", ids["worker"])
        assert code == 0 and "1 of 1 devices ready" in out
        assert "Answers and milliseconds are not shown: role: got worker" in err

        code, _, err = status(hub, "--insecure")
        assert code == 19 and "give --identity FOLDER in the place of --insecure" in err
        other = certs.issue(certs.init(tmp_path / "other"), "client", "me", [])
        code, _, err = status(hub, "--identity", other)
        assert code == 19 and "shows a certificate that is refused" in err

    plain = fleet[1].serving["metrics"]
    code, _, err = status(plain, "--identity", ids["client"])
    assert code == 19 and "takes --insecure" in err


def test_a_login_token_shows_all(tiny_bundle, tmp_path, fleet):
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o600)
    made, _, _ = fleet
    options = ("--metrics", "127.0.0.1:0", "--login-token", str(token))
    with aggregator(tiny_bundle, tmp_path, [each.address for each in made], *options) as one:
        hub = one.serving["metrics"]
        _, _, err = status(hub, "--insecure")
        assert "are not shown: no login" in err
        _, out, err = status(hub, "--insecure", "--login-token", token, "--json")
        assert json.loads(out)["less"] is None, err


def command(*words: str) -> list[str]:
    """In a process that hears an interrupt: what a shell starts in its background ignores it, and
    so would all that is started there.
    """
    code = (
        "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from edvit_tf.cli.main import main\nraise SystemExit(main(sys.argv[1:]))"
    )
    return [sys.executable, "-c", code, "status", *words]


def test_a_pipe_gets_a_line_each_time_until_the_interrupt(fleet):
    _, one, _ = fleet
    words = command(one.serving["metrics"], "--insecure", "--json", "--watch", "0.1")
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert all(len(json.loads(process.stdout.readline())["devices"]) == 2 for _ in range(3))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def test_a_terminal_is_drawn_again_in_its_place_and_no_wider(fleet):
    _, one, _ = fleet
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
    environment = {name: v for name, v in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    words = command(one.serving["metrics"], "--insecure", "--watch", "0.1")
    process = subprocess.Popen(
        words, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    said = b""
    try:

        def drawn() -> bool:
            nonlocal said
            if select.select([ours], [], [], 0.1)[0]:
                said += os.read(ours, 1 << 16)
            return said.count(b"\x1b[2J") >= 3

        wait_for(drawn, 60)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    first = said.decode(errors="replace").split("\x1b[H\x1b[2J")[1]
    plain = re.sub("\x1b\\[[0-9]*m", "", first)
    assert "2 of 2 devices ready" in plain and "\x1b[32m" in first
    assert max(len(line) for line in plain.splitlines()) <= 50
