"""Servers that end: started again, later each time, and given up; with small processes in their
place.
"""

import pytest

from edvit_tf.errors import ServerEnded
from edvit_tf.operate.processes import Server, Told, attend, start, stop


@pytest.fixture
def server(tmp_path, monkeypatch):
    """server(code): one that runs this Python."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(code: str) -> Server:
        (tmp_path / "in_its_place.py").write_text(code)
        return Server("worker-0", lambda address: ["in_its_place", address], tmp_path / "w.log")

    return make


def attended(server: Server, backoff) -> list[str]:
    """What is told of a server until it serves."""
    told, lines = Told(), []
    start(server, told)
    try:
        attend([server], told, lines.append, lambda: bool(server.serving), backoff=backoff)
    finally:
        stop([server])
    return lines


def test_it_comes_back_at_its_own_port_and_is_heard(server, tmp_path):
    one = server(
        "import json, sys, time\n"
        "print('listens at', sys.argv[1], flush=True)\n"
        "print(json.dumps({'event': 'serving', 'address': '127.0.0.1:5'}), flush=True)\n"
        "time.sleep(0 if sys.argv[1].endswith(':0') else 60)\n"
    )
    told, lines = Told(), []
    start(one, told)
    try:
        back = "worker-0 | listens at 127.0.0.1:5"
        attend([one], told, lines.append, lambda: back in lines, backoff=[0.1])
    finally:
        stop([one])
    assert lines[0] == "worker-0 | listens at 127.0.0.1:0"
    assert "worker-0 ended with 0; it is started again in 0.1 s (1 of 1)" in lines
    assert one.log_file.read_text().count("listens at") == 2


def test_one_that_goes_on_ending_ends_all(server):
    with pytest.raises(ServerEnded) as ended:
        attended(server("print('out of luck'); raise SystemExit(13)"), [0.1, 0.1])
    assert ended.value.exit_code == 13
    assert "out of luck" in str(ended.value) and "It was started 3 times." in str(ended.value)


def test_an_end_that_a_start_does_not_mend_is_not_tried_again(server):
    with pytest.raises(ServerEnded, match="It would meet the same again") as ended:
        attended(server("raise SystemExit(15)"), [0.1, 0.1])
    assert ended.value.exit_code == 15


def test_a_good_end_of_a_server_is_none_of_the_command():
    assert ServerEnded("worker-0", 0, "").exit_code == 1
    assert ServerEnded("worker-0", -9, "").exit_code == 1
