"""What other tests build on: ports that nobody else gets, a clock as fast as the machine works."""

import os
import signal
import socket
import time
from pathlib import Path

import grpc
import pytest

from tests.support import machine_clock
from tests.support.machine_clock import machine_seconds
from tests.support.ports import free_port
from tests.support.worker_process import wait_for


def test_a_free_port_is_kept_for_the_server_that_is_to_have_it():
    port = free_port(also=1000)
    for number in (port, port + 1000):
        with socket.socket() as other, pytest.raises(OSError):
            other.bind(("127.0.0.1", number))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 10)

    for _ in range(2):  # and once more, when the first has ended
        server = grpc.server(None, options=[("grpc.so_reuseport", 0)])
        assert server.add_insecure_port(f"127.0.0.1:{port}") == port
        server.start()
        socket.create_connection(("127.0.0.1", port), 10).close()
        server.stop(None).wait()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_the_machines_clock_is_never_faster_than_time_and_stands_still_with_the_machine(
    monkeypatch,
):
    monkeypatch.setattr(machine_clock, "_shown", [])
    started = []
    real = machine_clock.subprocess.Popen

    def start(*arguments, **options):
        started.append(real(*arguments, **options))
        return started[0]

    monkeypatch.setattr(machine_clock.subprocess, "Popen", start)
    begun, by_machine = time.monotonic(), machine_seconds()
    wait_for(lambda: machine_seconds() > by_machine + 0.1)
    assert machine_seconds() - by_machine <= time.monotonic() - begun

    still = machine_clock.Standstill()
    os.kill(started[0].pid, signal.SIGSTOP)
    state = Path(f"/proc/{started[0].pid}/stat")
    wait_for(lambda: state.read_text().rpartition(")")[2].split()[0] == "T")
    stands = machine_seconds()
    time.sleep(0.3)
    assert machine_seconds() == stands
    os.kill(started[0].pid, signal.SIGCONT)
    # what it missed is not made up for
    wait_for(lambda: machine_seconds() > stands)
    assert machine_seconds() - stands < 0.3
    assert 0.3 < still.seconds() <= time.monotonic() - begun

    # one that is dead stands still too, and nobody would see it
    started[0].kill()
    started[0].wait()
    with pytest.raises(AssertionError, match="clock ended with -9"):
        machine_seconds()
