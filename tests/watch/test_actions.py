"""What is told of, and how it goes out: real servers, a real broker, programs."""

import contextlib
import gc
import http.server
import json
import os
import queue
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import types
import warnings
from pathlib import Path

import numpy as np
import pytest

from edvit_tf.cli.watch_output import Printed
from edvit_tf.errors import ConfigError
from edvit_tf.operate import certs
from edvit_tf.watch import outbox, rules
from edvit_tf.watch import program as program_module
from edvit_tf.watch import webhook as webhook_module
from edvit_tf.watch.address import shown_address
from edvit_tf.watch.item import Item
from edvit_tf.watch.mqtt import mqtt
from edvit_tf.watch.outbox import NotTaken, Outbox, SendFailed, SendRefused
from edvit_tf.watch.program import Program
from edvit_tf.watch.rules import Rule, Rules, rule
from edvit_tf.watch.webhook import webhook
from tests.support.aggregator_process import with_one_device
from tests.support.commands import run_command
from tests.support.ports import free_port
from tests.support.watch_process import picture, watching
from tests.support.worker_process import wait_for

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")

MOSQUITTO_PASSWD = shutil.which("mosquitto_passwd")


def answer(*probabilities: float) -> dict:
    return {
        "labels": ["cat", "guinea pig"],
        "probabilities": np.array(probabilities),
        "parameters": {"degraded": False, "missing": ""},
    }


def test_a_rule_is_a_label_and_a_number():
    assert rule("guinea pig>0.8") == Rule("guinea pig", 0.8)
    assert rule("a>b > .5") == Rule("a>b", 0.5)
    assert [rule(f"cat>{number}").text for number in ("0.9999999", "0", "0.80")] == [
        *("cat>0.9999999", "cat>0", "cat>0.8")
    ]
    for text in ("cat", ">0.5", "cat>", "cat>1", "cat>-1", "cat>nan", "cat<0.5"):
        with pytest.raises(ConfigError, match="it must be LABEL>NUMBER"):
            rule(text)


def test_a_rule_tells_at_most_once_in_its_time(monkeypatch):
    now = 100.0
    monkeypatch.setattr(rules, "time", types.SimpleNamespace(monotonic=lambda: now))
    watched = Rules([Rule("cat", 0.8), Rule("guinea pig", 0.5)], cooldown=10)
    item = Item("frame 3", list, {"frame": 3})

    def seen(*probabilities: float) -> list[str]:
        return [event["rule"] for event in watched.seen(item, answer(*probabilities))]

    assert seen(0.8, 0.2) == []  # above, and not at
    assert seen(0.9, 0.1) == ["cat>0.8"]
    now += 9.9
    assert seen(0.9, 0.6) == ["guinea pig>0.5"]  # each has its own time
    now += 0.1
    [event] = watched.seen(item, answer(0.95, 0.05))
    assert (event["label"], event["probability"], event["frame"]) == ("cat", 0.95, 3)


# ---- the thread that sends


def test_what_waits_is_bounded_and_what_was_not_sent_is_counted():
    going, held = threading.Event(), threading.Event()
    sent = []

    def send(message: bytes) -> None:
        held.set()
        going.wait(60)
        sent.append(json.loads(message)["n"])

    box = Outbox("--webhook x", send, print)
    box.put({"n": 0})
    assert held.wait(60)
    for number in range(1, 151):
        box.put({"n": number})
    going.set()
    assert box.finish(time.monotonic() + 60) == {"action": "--webhook x", "sent": 101, "lost": 50}
    assert sent == [0, *range(51, 151)]  # the newest


def test_what_fails_is_tried_again_and_said_once(monkeypatch):
    monkeypatch.setattr(outbox, "_FIRST_SECONDS", 0.001)
    ends = iter([SendFailed("down."), SendFailed("down."), None, None, SendRefused("404."), None])
    words = []

    def send(message: bytes) -> None:
        if (end := next(ends)) is not None:
            raise end

    box = Outbox("--mqtt x", send, words.append)
    for number in range(4):
        box.put({"n": number})
    assert box.finish(time.monotonic() + 60) == {"action": "--mqtt x", "sent": 3, "lost": 1}
    assert words == [
        "--mqtt x: cannot be sent now, going on: down.",
        "--mqtt x: sent again.",
        "--mqtt x: not sent, going on: 404.",
    ]


def test_one_that_is_not_taken_does_not_hold_up_those_behind_it_for_ever(monkeypatch):
    monkeypatch.setattr(outbox, "_FIRST_SECONDS", 0.001)
    monkeypatch.setattr(outbox, "_MOST_SECONDS", 0.001)
    monkeypatch.setenv("no_proxy", "*")
    words = []
    with hook(*[500] * outbox._MOST_TRIES) as (server, host):
        box = Outbox("--webhook x", webhook(f"http://{host}/"), words.append)
        box.put({"n": 0})
        box.put({"n": 1})
        assert box.finish(time.monotonic() + 60) == {"action": "--webhook x", "sent": 1, "lost": 1}
    assert [body["n"] for body, _ in server.bodies] == [*[0] * 12, 1]
    assert words == [
        "--webhook x: cannot be sent now, going on: it answered 500 Internal Server Error.",
        "--webhook x: not taken in 12 tries, going on: it answered 500 Internal Server Error.",
        "--webhook x: sent again.",
    ]


def test_a_place_that_is_away_is_waited_for_however_often_it_takes(monkeypatch):
    monkeypatch.setattr(outbox, "_FIRST_SECONDS", 0.001)
    monkeypatch.setattr(outbox, "_MOST_SECONDS", 0.001)
    ends = iter([SendFailed("down.")] * 50 + [NotTaken("500.")] * 3 + [None])

    def send(message: bytes) -> None:
        if (end := next(ends)) is not None:
            raise end

    box = Outbox("--mqtt x", send, lambda words: None)
    box.put({"n": 0})
    assert box.finish(time.monotonic() + 60) == {"action": "--mqtt x", "sent": 1, "lost": 0}


def test_a_place_that_will_never_take_an_event_ends_the_stream():
    def send(message: bytes) -> None:
        raise ConfigError("refused for good.")

    errors: queue.Queue[Exception] = queue.Queue()
    box = Outbox("--mqtt x", send, lambda words: None)
    box.begin(errors.put)
    for number in range(3):
        box.put({"n": number})
    assert str(errors.get(timeout=60)) == "refused for good."
    box.put({"n": 3})
    assert box.finish(time.monotonic() + 60) == {"action": "--mqtt x", "sent": 0, "lost": 4}


def test_a_place_is_checked_before_the_first_event_and_one_that_is_away_is_not_said():
    calls: queue.Queue[str] = queue.Queue()

    def check() -> None:
        calls.put("check")
        raise SendFailed("down.")

    words: list[str] = []
    box = Outbox("--mqtt x", lambda message: calls.put("send"), words.append, check=check)
    box.begin(words.append)
    assert calls.get(timeout=60) == "check"
    box.put({"n": 0})
    assert calls.get(timeout=60) == "send"
    assert box.finish(time.monotonic() + 60)["sent"] == 1 and words == []


def test_an_end_does_not_wait_for_a_broker_that_stays_away():
    def send(message: bytes) -> None:
        raise SendFailed("down.")

    box = Outbox("--mqtt x", send, lambda words: None)
    for number in range(3):
        box.put({"n": number})
    assert box.finish(time.monotonic() + 0.05)["lost"] == 3


def test_what_nobody_expected_loses_its_message_and_no_other():
    ends = iter([UnicodeError("secret"), None])
    sent = []

    def send(message: bytes) -> None:
        if (end := next(ends)) is not None:
            raise end
        sent.append(message)

    def say(words: str) -> None:
        said.append(words)
        raise BrokenPipeError  # nobody reads them any more

    said: list[str] = []
    box = Outbox("--webhook x", send, say)
    box.put({"n": 0})
    box.put({"n": 1})
    assert box.finish(time.monotonic() + 60) == {"action": "--webhook x", "sent": 1, "lost": 1}
    assert sent == [b'{"n": 1}'] and said == ["--webhook x: not sent, going on: UnicodeError"]


@pytest.mark.parametrize(
    "address, shown",
    [
        ("https://hooks.chat.com/services/T/B/SECRET", "https://hooks.chat.com/***"),
        ("http://me:pa/SECRET@host/x", "http://***"),
        ("rtsp://me:SEC@RET@host:554/door", "rtsp://host:554/***"),
        ("http://host?user=a&pwd=SECRET", "http://host/***"),
        ("mqtt://host/", "mqtt://host/"),
        ("me:SECRET@host", "***"),
    ],
)
def test_of_an_address_the_scheme_and_the_host_are_shown(address, shown):
    assert shown_address(address) == shown


def test_words_of_others_cannot_steer_a_terminal(capsys):
    printed = Printed(False)
    printed.say("it answered 500 \x1b[2J")
    said = {"degraded": True, "missing": "a\x1b[2J"}
    printed.answer(Item("b", list, {}), {"label": "cat", "probability": 1.0, "parameters": said})
    out, err = capsys.readouterr()
    assert "\\x1b[2J" in out and "\\x1b[2J" in err and "\x1b" not in out + err


# ---- where it goes


class _Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append((json.loads(body), dict(self.headers)))
        self.send_response(self.server.codes.pop(0) if self.server.codes else 200)
        self.end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def hook(*codes: int, handler: type = _Hook):
    """A server that answers POST with these codes, then with 200: it, and its HOST:PORT."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.codes, server.bodies = list(codes), []
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server, f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def test_a_webhook_gets_json_and_a_login(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with hook(503, 404, 200) as (server, host):
        send = webhook(f"http://me:p%40ss@{host}/cats?x=1")
        with pytest.raises(NotTaken, match="503"):
            send(b'{"n": 1}')
        with pytest.raises(SendRefused, match="404"):
            send(b'{"n": 2}')
        send(b'{"n": 3}')
    assert [body["n"] for body, _ in server.bodies] == [1, 2, 3]
    headers = server.bodies[0][1]
    assert headers["Authorization"] == "Basic bWU6cEBzcw=="  # me:p@ss
    assert headers["Content-Type"] == "application/json"
    with pytest.raises(SendFailed) as away:
        send(b"{}")  # nobody listens any more
    assert not isinstance(away.value, NotTaken)


def test_a_webhook_on_this_machine_is_asked_past_the_proxy(monkeypatch):
    """And one elsewhere by it, as its user has said."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with hook() as (server, host), hook() as (proxy, there):
        monkeypatch.setenv("http_proxy", f"http://{there}")
        webhook(f"http://{host}/")(b'{"n": 1}')
        webhook("http://elsewhere.invalid/")(b'{"n": 2}')
    assert [body["n"] for body, _ in server.bodies] == [1]
    assert [body["n"] for body, _ in proxy.bodies] == [2]


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://x/y", "http://", "file:///etc/passwd", "http://[::1/x", "http://host:abc/", "x/y"),
        *("http://host/a b", "http://host/\u00fc", "http://a..b/", "http://host/a\n"),
    ],
)
def test_what_is_no_address_of_a_webhook_is_one_error(url):
    with pytest.raises(ConfigError, match="it must be http://HOST/PATH"):
        webhook(url)


class _Redirect(_Hook):
    def do_POST(self):
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(302)
        self.send_header("Location", self.server.elsewhere)
        self.end_headers()


def test_a_webhook_takes_its_login_to_no_other_address(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with hook() as (stranger, other), hook(handler=_Redirect) as (server, host):
        server.elsewhere = f"http://{other}/there"
        stranger.RequestHandlerClass.do_GET = lambda self: self.server.bodies.append("GET")
        try:
            with pytest.raises(SendRefused, match="302 .* no other address"):
                webhook(f"http://me:secret@{host}/")(b"{}")
        finally:
            del stranger.RequestHandlerClass.do_GET
    assert server.bodies == [b"{}"] and stranger.bodies == []


class _Endless(_Hook):
    """Never ends its headers, or its body."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/body":
            self.send_response(200)
            self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b"X" if self.path == "/head" else b"x" * 65536)
                if self.path == "/head":
                    time.sleep(0.01)


def test_a_webhook_that_answers_without_end_is_not_heard_out(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with hook(handler=_Endless) as (_, host):
        webhook(f"http://{host}/body")(b"{}")
        monkeypatch.setattr(webhook_module, "_SECONDS", 0.3)
        with pytest.raises(NotTaken):
            webhook(f"http://{host}/head")(b"{}")


def test_a_program_gets_the_event_and_a_failing_one_is_said(tmp_path):
    file = tmp_path / "a file.json"
    code = f"import sys; open({str(file)!r}, 'w').write(sys.stdin.read())"
    Program(f'{sys.executable} -c "{code}"')(b'{"n": 1}')
    assert json.loads(file.read_text()) == {"n": 1}

    failing = Program("sh -c 'echo No space left on device >&2; exit 3'")
    with pytest.raises(SendRefused, match="sh ended with 3: No space left on device"):
        failing(b"{}")
    Program("true")(b"x" * 1_000_000)  # which reads nothing of it
    for command in ("no-such-program secret", "", "sh -c 'x"):
        with pytest.raises(ConfigError) as caught:
            Program(command)
        assert "secret" not in str(caught.value)


def ends(process_id: int) -> bool:
    """Whether it is gone, or is nobody's child that only waits to be reaped."""
    try:
        return "Z" in Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
def test_a_program_that_takes_too_long_is_ended_with_its_children(tmp_path, monkeypatch):
    child = tmp_path / "child"
    one = Program(f"sh -c 'sleep 600 & echo $! > {child}; : secret; wait'")
    monkeypatch.setattr(program_module, "_SECONDS", 1.0)
    # a machine that stands still starts no child within the second
    while not (child.exists() and child.read_text().strip()):
        with pytest.raises(SendRefused, match="sh did not end within 1 s") as caught:
            one(b"{}")
    assert "secret" not in str(caught.value)
    wait_for(lambda: ends(int(child.read_text())), 60)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
def test_a_program_that_runs_is_ended_with_the_stream(tmp_path):
    child = tmp_path / "child"
    one = Program(f"sh -c 'sleep 600 & echo $! > {child}; wait'")
    words: list[str] = []
    box = Outbox("--exec sh", one, words.append, one.end)
    box.put({"n": 0})
    wait_for(lambda: child.exists() and child.read_text().strip(), 60)
    assert box.finish(time.monotonic())["lost"] == 1
    wait_for(lambda: ends(int(child.read_text())), 60)
    wait_for(lambda: words == ["--exec sh: not sent, going on: sh was ended with the stream."], 60)


def test_a_program_s_child_in_the_background_is_not_waited_for(tmp_path):
    child = tmp_path / "child"
    Program(f"sh -c 'sleep 600 & echo $! > {child}'")(b"{}")
    number = int(child.read_text())
    os.kill(number, 0)  # it runs on
    os.kill(number, signal.SIGKILL)


def test_a_program_that_says_too_much_is_ended(monkeypatch):
    monkeypatch.setattr(program_module, "_MOST_BYTES", 1 << 16)
    with pytest.raises(SendRefused, match="sh said more than"):
        Program("sh -c 'exec yes >&2'")(b"{}")


@pytest.mark.parametrize(
    "url",
    [
        "mqtt://a..b/t",
        "mqtt://host",
        "mqtt://host/",
        "http://host/t",
        "mqtt://host/a/#",
        "mqtt://h:x/t",
    ],
)
def test_what_is_no_broker_is_one_error(url):
    with pytest.raises(ConfigError, match="it must be mqtt://HOST/TOPIC"):
        mqtt(url)


class _Answers(socketserver.BaseRequestHandler):
    """A broker's answer to whoever connects."""

    def handle(self):
        self.request.recv(1024)
        self.request.sendall(bytes((0x20, 2, 0, self.server.code)))
        with contextlib.suppress(OSError):
            while self.request.recv(1024):
                pass


@contextlib.contextmanager
def doorkeeper(code: int):
    """A server that answers a CONNECT of MQTT by its `code`: it, and its HOST:PORT."""

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), _Answers) as server:
        server.code = code
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server, f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


@pytest.mark.parametrize("code", [1, 2, 4, 5])
def test_a_broker_that_refuses_for_good_is_a_mistake_of_the_address(code):
    pytest.importorskip("paho.mqtt")
    with doorkeeper(code) as (_, host):
        for_good = mqtt(f"mqtt://door:secret@{host}/home/door")
        for call in (for_good.check, lambda: for_good(b"{}")):
            with pytest.raises(ConfigError, match="No wait mends that: give another") as caught:
                call()
            assert "secret" not in str(caught.value)


def test_a_broker_that_has_admitted_us_or_is_away_is_waited_for():
    pytest.importorskip("paho.mqtt")
    with doorkeeper(3) as (server, host):
        one = mqtt(f"mqtt://door:secret@{host}/home/door")
        with pytest.raises(SendFailed, match="refuses: Server unavailable") as away:
            one.check()
        server.code = 0
        one.check()
        server.code = 5
        with pytest.raises(NotTaken, match="refuses: Not authorized"):
            one(b"{}")
    assert not isinstance(away.value, NotTaken)
    with pytest.raises(SendFailed, match="refused") as away:
        one.check()  # nobody listens any more
    assert not isinstance(away.value, NotTaken)


# ---- a whole stream, with a real broker that is away for a while


@contextlib.contextmanager
def broker(folder, port: int, *more: str):
    """mosquitto; what it holds for absent subscribers outlives it."""
    config = folder / "mosquitto.conf"
    lines = [f"listener {port} 127.0.0.1", *(more or ("allow_anonymous true",))]
    lines += ["persistence true", f"persistence_location {folder}/", "user root", ""]
    config.write_text("\n".join(lines))
    with open(folder / "mosquitto.log", "ab") as log:
        process = subprocess.Popen([MOSQUITTO, "-c", str(config)], stdout=log, stderr=log)

    def listens():
        assert process.poll() is None, (folder / "mosquitto.log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
            return True

    try:
        wait_for(listens, 60)
        yield
    finally:
        process.send_signal(signal.SIGTERM)  # it writes what it holds
        process.wait(60)


@contextlib.contextmanager
def subscriber(port: int):
    """Messages of home/door; a session that a broker keeps."""
    from paho.mqtt import client as paho

    client = paho.Client(paho.CallbackAPIVersion.VERSION2, "edvit-test", clean_session=False)
    messages, subscribed = [], threading.Event()
    client.on_connect = lambda *_: client.subscribe("home/door", qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _, __, message: messages.append(json.loads(message.payload))
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        assert subscribed.wait(60)
        yield messages
    finally:
        client.disconnect()
        client.loop_stop()


def said(one, words: str) -> list[str]:
    return [event["words"] for event in one.events("notice") if words in event["words"]]


@pytest.fixture(scope="module")
def hub(tiny_bundle, tmp_path_factory):
    with with_one_device(tiny_bundle, tmp_path_factory.mktemp("fleet")) as (one, _):
        yield one


@pytest.mark.skipif(MOSQUITTO is None, reason="no mosquitto: apt-get install mosquitto")
def test_a_broker_that_is_away_gets_its_messages_later_and_nothing_waits_for_it(hub, tmp_path):
    pytest.importorskip("paho.mqtt")
    port = free_port()
    folder, frames, told = (tmp_path / name for name in ("broker", "frames", "told.json"))
    folder.mkdir()
    frames.mkdir()
    with broker(folder, port), subscriber(port):
        pass  # from here on the broker keeps what comes for it
    code = f"import sys; open({str(told)!r}, 'a').write(sys.stdin.read() + chr(10))"
    arguments = ["--on", "ant>0", "--cooldown", "0", "--mqtt", f"mqtt://127.0.0.1:{port}/home/door"]
    arguments += ["--exec", f'{sys.executable} -c "{code}"']

    with (
        hook() as (server, host),
        watching(
            tmp_path,
            *(hub.address, "--insecure", "--folder", frames, *arguments),
            *("--webhook", f"http://me:secret@{host}/"),
        ) as one,
    ):
        for number in range(2):
            picture(frames / f"{number}.png")
            one.wait("seen", number + 1)
        # the others had theirs, while the broker was away
        wait_for(lambda: len(server.bodies) == 2, 60)
        wait_for(lambda: told.exists() and len(told.read_text().splitlines()) == 2, 60)
        wait_for(lambda: said(one, "cannot be sent now"), 60)
        with broker(folder, port), subscriber(port) as messages:
            wait_for(lambda: len({message["source"] for message in messages}) == 2, 60)
            wait_for(lambda: said(one, "sent again"), 60)
            summary = one.end()

    # at least once: after a broken connection one may come twice
    once = list({message["source"]: message for message in messages}.values())
    assert [message["source"] for message in once] == ["0.png", "1.png"]
    assert once == [body for body, _ in server.bodies]
    assert [action["sent"] for action in summary["actions"]] == [2, 2, 2]
    assert sum(action["lost"] for action in summary["actions"]) == 0
    assert len(said(one, "cannot be sent now")) == len(said(one, "sent again")) == 1
    assert "secret" not in one.out.read_text() + one.err.read_text()


def why_failed(send) -> str:
    """The words of a failure within TLS; paho leaves its socket to the collector of garbage."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            send(b"{}")
        except SendFailed as error:
            words = str(error)
        gc.collect()
    return words


@pytest.mark.skipif(MOSQUITTO is None, reason="no mosquitto: apt-get install mosquitto")
def test_a_broker_with_a_certificate_and_a_password(tmp_path, monkeypatch):
    pytest.importorskip("paho.mqtt")
    own = certs.issue(certs.init(tmp_path / "ca"), "aggregator", "broker", ["127.0.0.1"])
    passwords = tmp_path / "passwords"
    command = [MOSQUITTO_PASSWD, "-b", "-c", str(passwords), "door", "p@ss/word"]
    subprocess.run(command, check=True, capture_output=True)
    port = free_port()
    lines = [f"password_file {passwords}", "allow_anonymous false"]
    lines += [f"certfile {own}/cert.pem", f"keyfile {own}/key.pem"]

    right = mqtt(f"mqtts://door:p%40ss%2Fword@127.0.0.1:{port}/home/door")
    with broker(tmp_path, port, *lines):
        # nobody here knows that authority yet
        assert "CERTIFICATE_VERIFY_FAILED" in why_failed(right)
        monkeypatch.setenv("SSL_CERT_FILE", str(own / "ca.pem"))
        right(b"{}")
        with pytest.raises(ConfigError, match="refuses: Not authorized. No wait") as caught:
            mqtt(f"mqtts://door:wrong@127.0.0.1:{port}/home/door")(b"{}")
        assert "wrong" not in str(caught.value)


def test_a_broker_that_does_not_admit_us_ends_the_watch(hub, tmp_path):
    pytest.importorskip("paho.mqtt")
    with doorkeeper(4) as (_, host):
        arguments = ["--on", "ant>0", "--mqtt", f"mqtt://door:secret@{host}/home/door"]
        given = ["watch", hub.address, "--insecure", "--folder", tmp_path, "--for", "120"]
        code, out, err = run_command([*given, *arguments])
    assert code == 3
    assert "the broker refuses: Bad user name or password. No wait mends that" in err
    assert "secret" not in out + err


def test_actions_that_cannot_be_are_one_error_before_anything_is_asked(hub, tmp_path, monkeypatch):
    def words(*arguments: str) -> str:
        given = ["watch", hub.address, "--insecure", "--folder", tmp_path, *arguments]
        code, _, err = run_command(given)
        assert code == 3
        return err

    assert "'cow'; " in words("--on", "cow>0.5") and "ant, bee, cat, dog" in words(
        "--on", "cow>0.5"
    )
    assert "go with --on" in words("--exec", "true")
    monkeypatch.delenv("EDVIT_HOOK", raising=False)
    assert "that variable is not set" in words("--on", "ant>0", "--webhook", "env:EDVIT_HOOK")
    assert "no such program" in words("--on", "ant>0", "--exec", "")
    monkeypatch.setenv("EDVIT_HOOK", "ftp://me:secret@host")
    assert "secret" not in words("--on", "ant>0", "--webhook", "env:EDVIT_HOOK")
