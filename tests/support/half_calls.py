"""gRPC calls that stop short, spoken by hand: headers without a message, or a message without its
last byte.

gRPC's own clients send whole messages. This is as much of HTTP/2 (RFC 9113) as such a peer needs:
frames, windows, headers without compression.
"""

import socket
import ssl
import struct
import time
from collections.abc import Callable

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_FIRST_WINDOW = 65_535
_FRAME = 16_384  # bytes of a DATA frame


class HalfCalls:
    """Calls of one connection; `ended` are those that the server has ended, by stream number."""

    def __init__(self, address: str, secure: ssl.SSLContext | None = None) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), 5)
        if secure is not None:
            self._socket = secure.wrap_socket(self._socket, server_hostname=host)
        self._host = host
        self._received = b""
        self._next = 1
        self._window = _FIRST_WINDOW  # of the connection
        self._first_window = _FIRST_WINDOW  # of a new stream
        self._windows: dict[int, int] = {}
        self._unsent: dict[int, bytes] = {}
        self.sent: dict[int, int] = {}
        self.ended: set[int] = set()
        self._socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b""))

    def call(self, method: str, message_bytes: int | None = None) -> int:
        """Starts a call: with headers alone, or with a message that wants its last byte."""
        stream = self._next
        self._next += 2
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": self._host,
            "content-type": "application/grpc",
            "te": "trailers",
        }
        block = b"".join(_literal(name, value) for name, value in headers.items())
        self._windows[stream] = self._first_window
        self.sent[stream] = 0
        self._socket.sendall(_frame(_HEADERS, 4, stream, block))  # 4: the headers' end
        if message_bytes is not None:
            prefix = struct.pack(">BI", 0, message_bytes)
            self._unsent[stream] = prefix + bytes(message_bytes - 1)

        return stream

    def pump(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Sends what the windows allow and reads what comes, for so long or until that is true."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not until():
            self._send()
            self._socket.settimeout(min(left, 0.05))
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                continue
            if not data:
                return
            self._received += data
            self._read_frames()

    def _send(self) -> None:
        self._socket.settimeout(20)
        for stream, data in list(self._unsent.items()):
            while data and self._window > 0 and self._windows[stream] > 0:
                size = min(len(data), self._window, self._windows[stream], _FRAME)
                self._socket.sendall(_frame(_DATA, 0, stream, data[:size]))
                data = data[size:]
                self._window -= size
                self._windows[stream] -= size
                self.sent[stream] += size
            self._unsent[stream] = data

    def _read_frames(self) -> None:
        while len(self._received) >= 9:
            size = int.from_bytes(self._received[:3], "big")
            kind, flags = self._received[3], self._received[4]
            stream = int.from_bytes(self._received[5:9], "big")
            if len(self._received) < 9 + size:
                return
            payload = self._received[9 : 9 + size]
            self._received = self._received[9 + size :]
            self._frame(kind, flags, stream, payload)

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _SETTINGS and not flags & 1:
            for place in range(0, len(payload), 6):
                name, value = struct.unpack(">HI", payload[place : place + 6])
                if name == 4:  # the first window of streams
                    for open_one in self._windows:
                        self._windows[open_one] += value - self._first_window
                    self._first_window = value
            self._socket.sendall(_frame(_SETTINGS, 1, 0, b""))
        elif kind == _PING and not flags & 1:
            self._socket.sendall(_frame(_PING, 1, 0, payload))
        elif kind == _WINDOW:
            more = int.from_bytes(payload, "big")
            if stream == 0:
                self._window += more
            elif stream in self._windows:
                self._windows[stream] += more
        # 1: the end of the stream
        elif kind == _RST or (kind == _HEADERS and flags & 1):
            self.ended.add(stream)
            self._unsent.pop(stream, None)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> "HalfCalls":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    """A header that is in no table, as it is (RFC 7541, 6.2.2)."""
    texts = (name.encode(), value.encode())
    return b"\0" + b"".join(bytes([len(text)]) + text for text in texts)
