"""What is refused over HTTP before anything is asked, and what its sender waits for."""

import asyncio
import json
import sys
from types import SimpleNamespace

import pytest

from edvit_tf.aggregate.http.bodies import JSON_ENDS
from edvit_tf.aggregate.http.options import HttpOptions
from edvit_tf.aggregate.http.rest import HttpContext, Peer, Rest
from edvit_tf.aggregate.service import AggregatorService
from edvit_tf.device.rpc.messages import WireError
from edvit_tf.errors import ConfigError


class _Request:
    """A request whose body is here."""

    path_params = {"model": "edvit"}  # noqa: RUF012 (nobody changes it)

    def __init__(self, body: bytes, headers: dict) -> None:
        self.headers = headers
        self._body = body

    async def stream(self):
        yield self._body


def _refused(
    body: bytes, headers=(), used: int = 1, shape=(1, 1 << 20)
) -> tuple[WireError, HttpContext]:
    """What a body is told where so many calls are held."""
    service = SimpleNamespace(
        calls=dict,
        model_input=SimpleNamespace(
            name="image", shape=shape, spec=SimpleNamespace(largest_file_bytes=0)
        ),
        room=SimpleNamespace(
            most_elements=1 << 20, message_bytes=1 << 20, calls=SimpleNamespace(used=used)
        ),
    )

    async def nothing() -> bytes:
        return b""

    async def received():
        rest = Rest(service, asyncio.get_running_loop())
        await rest._message(_Request(body, dict(headers)), context)

    context = HttpContext(Peer([], "192.0.2.7", 5), nothing)
    with pytest.raises(WireError) as error:
        asyncio.run(received())
    return error.value, context


def test_who_sends_much_json_in_vain_waits(monkeypatch):
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    tensor = {"name": "image", "datatype": "UINT8", "shape": [1], "data": ["x"] * 200_000}
    monkeypatch.setattr(asyncio, "sleep", sleep)
    refusal, _ = _refused(json.dumps({"inputs": [tensor]}).encode(), used=1_000_000)
    assert "no such list" in str(refusal) and slept == [5.0]


def test_json_of_many_lists_is_refused_before_it_is_parsed(monkeypatch):
    monkeypatch.setattr(json, "loads", None)  # who calls it fails
    body = b'{"inputs": [{"data": [' + b"[]," * 200_000 + b"[]]}]}"
    for headers in ({}, {JSON_ENDS: str(len(body))}):
        refusal, _ = _refused(body, headers, shape=(1, 28, 28, 1))
        assert "got 200005 lists and objects" in str(refusal)


def test_json_that_is_too_large_behind_a_header_is_413():
    refusal, context = _refused(b"{}", {JSON_ENDS: "99999999"})
    assert context.status == 413 and "99999999" in str(refusal)


@pytest.mark.parametrize(
    ("options", "words"),
    [(HttpOptions(https=True), "--https needs"), (HttpOptions(token="t" * 16), "--login-token")],
)
def test_without_uvicorn_nothing_that_was_to_be_secret_is_served(monkeypatch, options, words):
    monkeypatch.setitem(sys.modules, "edvit_tf.aggregate.http.port", None)
    with pytest.raises(ConfigError, match=words) as error:
        AggregatorService.serve_http(SimpleNamespace(http=options), "127.0.0.1", 0)
    assert "pip install '.[aggregator]'" in str(error.value)
