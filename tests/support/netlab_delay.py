"""A delay line between pairs of network interfaces, for kernels without netem; `netlab.sh` starts
it.

    python3 netlab_delay.py FILE
        lines of FILE: IF_A IF_B DELAY_MS; FILE.ready appears when it runs
    python3 netlab_delay.py --plain IF
        no offloading on this interface: frames are those of a real wire

Every frame that one interface gets leaves by the other DELAY_MS later, in order. Standard library,
Linux, root.
"""

import array
import contextlib
import fcntl
import heapq
import select
import socket
import struct
import sys
import time
from pathlib import Path

_ALL_PROTOCOLS, _OUTGOING = 3, 4  # ETH_P_ALL, PACKET_OUTGOING of <linux/if_packet.h>
_SIOCETHTOOL = 0x8946
_SWITCHES = {
    "tx checksum": 0x17,
    "scatter-gather": 0x19,
    "tso": 0x1F,
    "gso": 0x24,
    "gro": 0x2C,
}  # <linux/ethtool.h>


def main(file: Path) -> None:
    poll, other, delay = select.epoll(), {}, {}  # by file descriptor
    sockets = {}
    for line in file.read_text().split("\n"):
        if not line:
            continue
        first, second, milliseconds = line.split()
        pair = [_listener(first), _listener(second)]
        for here, there in (pair, pair[::-1]):
            poll.register(here, select.EPOLLIN)
            sockets[here.fileno()], other[here.fileno()] = here, there
            delay[here.fileno()] = float(milliseconds) / 1e3
    Path(f"{file}.ready").touch()
    waiting, number = [], 0  # (when, number, where to, frame)
    while True:
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, there, frame = heapq.heappop(waiting)
            _send(there, frame)
        left = max(0.0, waiting[0][0] - time.monotonic()) if waiting else 1.0
        for fd, _ in poll.poll(left):
            for _ in range(64):
                try:
                    frame, address = sockets[fd].recvfrom(65600)
                except OSError:  # nothing more, or the link is down
                    break
                if address[2] != _OUTGOING:
                    number += 1
                    heapq.heappush(
                        waiting, (time.monotonic() + delay[fd], number, other[fd], frame)
                    )


def _listener(interface: str) -> socket.socket:
    one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS))
    one.bind((interface, 0))
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    one.setblocking(False)
    return one


def _send(there: socket.socket, frame: bytes) -> None:
    with contextlib.suppress(OSError):  # the link is down: lost
        there.send(frame)


def plain(interface: str) -> None:
    """Switches offloading off, as `ethtool -K IF tx off ...` does: else frames have no checksums
    and are too large.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for command in _SWITCHES.values():
            value = array.array("B", struct.pack("II", command, 0))
            request = struct.pack("16sP8x", interface.encode(), value.buffer_info()[0])
            with contextlib.suppress(OSError):  # not every kind of interface has every switch
                fcntl.ioctl(any_socket, _SIOCETHTOOL, request)


if __name__ == "__main__":
    if sys.argv[1] == "--plain":
        plain(sys.argv[2])
    else:
        main(Path(sys.argv[1]))
