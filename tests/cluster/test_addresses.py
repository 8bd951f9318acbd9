"""Addresses of clusters: what is no address, and where nobody is."""

import importlib.util
import socket

import pytest

from edvit_tf.cluster import on_ray
from edvit_tf.cluster.on_ray import reached
from edvit_tf.errors import ClusterError
from tests.support.commands import SMOKE, run_host
from tests.support.ports import free_port


@pytest.fixture
def installed(monkeypatch):
    """Ray, as far as an address is looked at."""
    monkeypatch.setattr(on_ray.importlib.util, "find_spec", lambda name: object())


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr(on_ray.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ClusterError, match=r"--ray auto: Ray is not installed. pip install 'edvit"):
        reached("auto")


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":1", "host:0", "host:65536", "h:²", "ray://"]
)
def test_what_is_no_address_is_refused(installed, address):
    with pytest.raises(ClusterError, match="this is no address of a cluster. Give auto, HOST:PORT"):
        reached(address)


def test_a_cluster_that_answers_sees_this_machine_as_itself_does(installed):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert reached(f"127.0.0.1:{port}") == (f"127.0.0.1:{port}", "127.0.0.1")
        assert reached(f"ray://127.0.0.1:{port}") == (f"ray://127.0.0.1:{port}", "127.0.0.1")


def test_auto_is_the_cluster_that_this_machine_is_a_node_of(installed, monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(ClusterError, match="--ray auto: this machine is a node of no Ray cluster"):
        reached("auto")

    with socket.create_server(("127.0.0.1", 0)) as server:
        noted = f"127.0.0.1:{server.getsockname()[1]}"
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(f"{noted}\n")
        assert reached("auto") == (noted, "127.0.0.1")

    # it was noted, and is gone
    with pytest.raises(ClusterError, match=rf"--ray auto: no Ray cluster answers at {noted} \("):
        reached("auto")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ClusterError, match="no Ray cluster answers at 127.0.0.1:1 "):
        reached("auto")


def test_a_run_without_its_cluster_ends_before_any_training(tmp_path):
    address = f"127.0.0.1:{free_port()}"
    done = run_host(*SMOKE, "--ray", address, "--out", tmp_path / "out")
    assert done.returncode == 28
    is_there = importlib.util.find_spec("ray") is not None
    said = f"no Ray cluster answers at {address}" if is_there else "Ray is not installed"
    assert f"error: --ray {address}: {said}" in done.stderr
    assert list(tmp_path.iterdir()) == []
