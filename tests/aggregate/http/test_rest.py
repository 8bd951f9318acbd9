"""The Open Inference Protocol over HTTP, asked by an unmodified tritonclient, by hand, and by those
who mean no good.
"""

import base64
import concurrent.futures
import contextlib
import http.client
import io
import json
import socket
import ssl

import numpy as np
import pytest
from PIL import Image

from edvit_tf.device.rpc import tls
from edvit_tf.operate import certs
from tests.support.aggregator_process import aggregator, fused, infer, wait_ready
from tests.support.fleet_process import metric
from tests.support.machine_clock import machine_seconds
from tests.support.worker_process import log_lines, wait_for, worker

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (1, 16, 16, 1), np.uint8)
# shorter than the product's own 5 and 10, and longer than a machine stands still
HASTY = """
from edvit_tf.aggregate.http import connections
from edvit_tf.device.rpc import admission
admission.RECEIVE_SECONDS = 3.0
connections.WAIT_SECONDS = 3.0
"""
INFER = "/v2/models/edvit/infer"


@pytest.fixture(scope="module")
def device(tiny_bundle, tmp_path_factory):
    with worker(tiny_bundle, tmp_path_factory.mktemp("device"), "--insecure") as one:
        yield one


@pytest.fixture(scope="module")
def fleet(tiny_bundle, device, tmp_path_factory):
    """An aggregator over one worker of both sub-models."""
    folder = tmp_path_factory.mktemp("rest")
    with (
        aggregator(
            tiny_bundle, folder, [device.address], "--metrics", "127.0.0.1:0", prelude=HASTY
        ) as one,
        one.channel() as channel,
    ):
        wait_ready(channel)
        infer(channel, png(X))  # the first file loads the decoders
        yield one


def png(x: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(x[0, :, :, 0]).save(file, "PNG")
    return file.getvalue()


def ask(one, method: str, path: str, body=None, **headers: str):
    """(status, headers, body) over HTTP."""
    connection = http.client.HTTPConnection(one.serving["metrics"], timeout=60)
    with contextlib.closing(connection):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named, encode_chunked="transfer-encoding" in named)
        got = connection.getresponse()
        return got.status, got.headers, got.read()


def post(one, said, **headers: str) -> tuple[int, dict]:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    status, _, answer = ask(one, "POST", INFER, body, **headers)
    return status, json.loads(answer)


def request(**changed) -> dict:
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 16, 16, 1], "data": X.tolist()}
    return {"inputs": [{**tensor, **changed}]}


@pytest.fixture(scope="module")
def right(tiny_bundle):
    return fused(tiny_bundle, X)[0]


def probabilities(answer: dict) -> np.ndarray:
    by_name = {output["name"]: output for output in answer["outputs"]}
    return np.array(by_name["probabilities"]["data"], np.float32)


def test_an_unmodified_tritonclient_asks(fleet, right):
    triton = pytest.importorskip("tritonclient.http")
    client = triton.InferenceServerClient(fleet.serving["metrics"])
    with contextlib.closing(client):
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("edvit") and client.is_model_ready("edvit", "1")
        assert not client.is_model_ready("other")
        assert "edvit_tf" in client.get_server_metadata()["name"]
        described = client.get_model_metadata("edvit")
        assert described["inputs"] == [
            {"name": "image", "datatype": "UINT8", "shape": [1, 16, 16, 1]}
        ]
        config = client.get_model_config("edvit")
        assert config["max_batch_size"] == 0 and config["input"][0]["dims"] == [1, 16, 16, 1]
        assert client.get_model_repository_index()[0]["state"] == "READY"
        with pytest.raises(triton.InferenceServerException, match="loads nothing else"):
            client.load_model("edvit")

        for binary_in in (True, False):
            given = triton.InferInput("image", list(X.shape), "UINT8")
            given.set_data_from_numpy(X, binary_data=binary_in)
            for outputs in (
                None,
                [triton.InferRequestedOutput("probabilities", binary_data=False)],
                [
                    triton.InferRequestedOutput("label", binary_data=False),
                    triton.InferRequestedOutput("probabilities", binary_data=True),
                ],
            ):
                found = client.infer("edvit", [given], outputs=outputs, request_id="seven")
                np.testing.assert_array_equal(found.as_numpy("probabilities")[0], right)
                said = found.get_response()
                assert said["id"] == "seven" and said["parameters"]["degraded"] is False

        stats = client.get_inference_statistics("edvit")["model_stats"][0]
        assert stats["inference_count"] >= 6


def test_it_is_counted_and_answered_as_grpc_does(fleet, right):
    before = metric(fleet, "edvit_requests_total", method="ModelInfer", code="OK")
    status, answer = post(fleet, request())
    assert status == 200
    np.testing.assert_array_equal(probabilities(answer), right)
    assert answer["parameters"]["bundle_digest"] == fleet.serving["bundle_digest"]
    assert metric(fleet, "edvit_requests_total", method="ModelInfer", code="OK") == before + 1


def test_a_file_is_sent_as_it_is_or_in_base64(fleet, right):
    """curl --data-binary @cat.png -H 'Inference-Header-Content-Length: 0'"""
    file = png(X)
    status, answer = post(fleet, file, inference_header_content_length="0")
    assert status == 200
    np.testing.assert_array_equal(probabilities(answer), right)

    tensor = {
        "datatype": "BYTES",
        "shape": [1],
        "data": [base64.b64encode(file).decode()],
        "parameters": {"content_type": "base64"},
    }
    status, answer = post(fleet, request(**tensor))
    assert status == 200
    np.testing.assert_array_equal(probabilities(answer), right)


BAD = {
    "no JSON": (b"{", 400, "no JSON"),
    "a list": (b"[]", 400, "a JSON list; expected a JSON object"),
    "deep": (b"[" * 100_000, 400, "no JSON"),
    "not UTF-8": (b'{"id": "\xff"}', 400, "no JSON"),
    "half a character": (b'{"id": "\\ud800", "inputs": []}', 400, "id: got"),
    "no inputs": ({}, 400, "inputs: got None"),
    "an empty body": (b"", 400, "body: got none"),
    "inputs of numbers": ({"inputs": [1]}, 400, "a list of objects"),
    "too many inputs": ({"inputs": [{}] * 17}, 400, "16 at most"),
    "another name": (request(name="<script>"), 400, "['image']"),
    "another type": (request(datatype="FLOAT"), 400, "'FLOAT'"),
    "other sizes": (request(shape=[1, -1]), 400, "all positive"),
    "too many sizes": (request(shape=[1] * 9), 400, "all positive"),
    "sizes beyond all": (request(shape=[1 << 60]), 400, "all positive"),
    "too few": (request(data=[1]), 400, "1 elements; expected 256"),
    "ragged": (request(data=[[1, 2], [3]]), 400, "no such list"),
    "words": (request(data=["a"]), 400, "no such list"),
    "fractions": (request(data=[0.5] * 256), 400, "numbers of UINT8"),
    "beyond the type": (request(data=[256] * 256), 400, "0 to 255"),
    "beyond all integers": (request(data=[1 << 70] * 256), 400, "no such list"),
    "a number for data": (request(data=1), 400, "a list of its elements"),
    "binary that is not there": (
        request(parameters={"binary_data_size": 256}),
        400,
        "binary_data_size",
    ),
    "shared memory": (
        request(parameters={"shared_memory_region": "all"}),
        400,
        "shared memory",
    ),
    "classification": (
        {**request(), "outputs": [{"name": "label", "parameters": {"classification": 2}}]},
        400,
        "no classification",
    ),
    "another output": ({**request(), "outputs": [{"name": "x"}]}, 400, "outputs: got 'x'"),
    "a list for a parameter": ({**request(), "parameters": {"a": []}}, 400, "parameters, 'a'"),
    "a timeout in words": (
        {**request(), "parameters": {"timeout": "soon"}},
        400,
        "parameter 'timeout'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_body_is_told_in_words(fleet, case):
    body, expected, words = BAD[case]
    status, answer = post(fleet, body)
    assert status == expected and words in answer["error"], answer


def test_bad_headers_and_paths_are_told_in_words(fleet):
    for headers, words in (
        ({"inference_header_content_length": "x"}, "the number of bytes of JSON"),
        ({"inference_header_content_length": "99999"}, "at most the body's"),
        ({"content_encoding": "gzip"}, "Content-Encoding"),
    ):
        status, answer = post(fleet, request(), **headers)
        assert status in (400, 415) and words in answer["error"]

    assert ask(fleet, "GET", "http://hub:9000/healthz")[0] == 200  # as a proxy asks
    for path, expected in (
        ("/v2/models/other/infer", 404),
        ("/v2/models/edvit/versions/2/infer", 400),
        ("/v2/nothing", 404),
        ("/", 404),
    ):
        assert ask(fleet, "POST", path, json.dumps(request()))[0] in (expected, 405), path
    assert ask(fleet, "GET", INFER)[0] == 405
    assert ask(fleet, "GET", "/v2", host="evil.example")[0] == 403
    assert ask(fleet, "POST", INFER, "{}", origin="http://evil.example")[0] == 403


def test_a_body_that_is_too_large_is_refused_unread(fleet):
    for headers, words in (
        ({}, "Send tensors as binary data"),
        ({"inference_header_content_length": "0"}, "at most"),
    ):
        status, answer = _claims(fleet, 1 << 30, **headers)
        assert status == 413 and words in answer["error"]
    # one that does not say how large it is
    status, _, answer = ask(
        fleet, "POST", INFER, iter([b" " * 65536] * 20), transfer_encoding="chunked"
    )
    assert status == 413, answer


def _claims(one, size: int, **headers: str) -> tuple[int, dict]:
    """The answer to a head that promises so many bytes, of which none comes."""
    connection = http.client.HTTPConnection(one.serving["metrics"], timeout=60)
    with contextlib.closing(connection):
        connection.putrequest("POST", INFER)
        connection.putheader("Content-Length", str(size))
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        got = connection.getresponse()
        return got.status, json.loads(got.read())


def test_a_body_that_does_not_come_is_waited_for_for_a_while(fleet):
    started = machine_seconds()
    status, answer = _claims(fleet, 1000)
    assert status == 504 and "got none that is whole within" in answer["error"]
    assert machine_seconds() - started < 8
    assert post(fleet, request())[0] == 200


def test_heads_that_do_not_come_whole_hold_nothing_for_long(fleet):
    """300 connections that send half a head: the port goes on, and they are ended."""
    host, _, port = fleet.serving["metrics"].rpartition(":")
    before = fleet.open_files()
    with contextlib.ExitStack() as stack:
        slow = []
        for _ in range(300):
            one = stack.enter_context(socket.create_connection((host, int(port)), 5))
            with contextlib.suppress(OSError):
                one.sendall(b"GET /healthz HTTP/1.1\r\nHost:")
            slow.append(one)
        assert ask(fleet, "GET", "/healthz")[0] == 200
        assert post(fleet, request())[0] == 200
        wait_for(lambda: fleet.open_files() <= before + 20)


def test_many_at_once_are_answered_or_told_that_they_are_too_many(fleet, right):
    def one_of_them(_) -> int:
        status, answer = post(fleet, request())
        if status == 200:
            np.testing.assert_array_equal(probabilities(answer), right)
        return status

    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        statuses = list(pool.map(one_of_them, range(200)))
    assert statuses.count(200) > 0 and set(statuses) <= {200, 429, 503}
    wait_for(lambda: metric(fleet, "edvit_in_flight") == 0)


def test_the_roles_of_grpc_hold_over_https(tiny_bundle, tmp_path, right):
    authority = certs.init(tmp_path / "ca")
    ids = {
        role: certs.issue(authority, role, "me", [] if role == "client" else ["127.0.0.1"])
        for role in ("worker", "aggregator", "client")
    }
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o600)
    body = json.dumps(request())
    location: list[tuple[str | None, str | None]] = []

    with (
        worker(tiny_bundle, tmp_path, "--identity", str(ids["worker"])) as device,
        aggregator(
            tiny_bundle,
            tmp_path,
            [device.address],
            "--identity",
            str(ids["aggregator"]),
            "--metrics",
            "127.0.0.1:0",
            "--https",
            "--login-token",
            str(token),
        ) as one,
        one.channel(tls.identity(ids["client"])) as channel,
    ):
        wait_ready(channel)

        def secured(role: str | None, path: str = INFER, said: str = body, **headers: str):
            context = ssl.create_default_context(cafile=str(ids["client"] / "ca.pem"))
            if role is not None:
                context.load_cert_chain(ids[role] / "cert.pem", ids[role] / "key.pem")
            connection = http.client.HTTPSConnection(
                one.serving["metrics"], timeout=60, context=context
            )
            with contextlib.closing(connection):
                method = "POST" if path in (INFER, "/login") else "GET"
                connection.request(method, path, said, headers)
                got = connection.getresponse()
                location.append((got.headers["Location"], got.headers["Set-Cookie"]))
                return got.status, got.read()

        status, answer = secured("client")
        assert status == 200
        np.testing.assert_array_equal(probabilities(json.loads(answer)), right)
        status, answer = secured("worker")
        assert status == 403 and "role: got worker" in json.loads(answer)["error"]
        assert secured(None)[0] == 401
        assert secured(None, authorization="Bearer 0123456789abcdef")[0] == 200
        # a browser logs in by a form, and its cookie opens the page
        assert secured(None, "/")[0] == 303 and location[-1][0] == "/login"
        assert secured(None, "/login", "token=wrong")[0] == 303 and location[-1] == (
            "/login#wrong",
            None,
        )
        assert secured(None, "/login", "x" * 5000)[0] == 413
        assert secured(None, "/login", "token=0123456789abcdef")[0] == 303
        there, cookie = location[-1]
        assert there == "/" and all(
            word in cookie for word in ("HttpOnly", "Secure", "SameSite=strict")
        )
        assert secured(None, "/", cookie=cookie.partition(";")[0])[0] == 200
        assert secured("worker", "/live/state")[0] == 403
        assert secured("client", "/live/state")[0] == 200
        # probes and scrapes have no certificate
        assert secured(None, "/v2/health/ready")[0] == secured(None, "/metrics")[0] == 200
        refused = [line for line in log_lines(one.log_file) if line["event"] == "refused"]
        assert {line["name"] for line in refused} == {"worker/me"}
