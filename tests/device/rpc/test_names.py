"""Names that the machine alone can resolve, as the `.local` names of mDNS: docs/howto/clients.md
gives them to every Pi.

gRPC's own resolver asks DNS and /etc/hosts. A library that is preloaded (`names_shim.c`) stands for
avahi: getaddrinfo finds the names, and nothing else does.
"""

import ast
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.support.aggregator_process import aggregator
from tests.support.commands import ROOT
from tests.support.fleet_process import healthy
from tests.support.worker_process import wait_for, worker

PICTURE = np.zeros((16, 16), np.uint8)


@pytest.fixture(scope="module")
def preload(tmp_path_factory) -> dict[str, str]:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here, and the library that knows the names is C")
    library = tmp_path_factory.mktemp("shim") / "names.so"
    source = ROOT / "tests" / "support" / "names_shim.c"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return {"LD_PRELOAD": str(library)}


def test_local_names_lead_to_devices_and_to_the_aggregator(tiny_bundle, tmp_path, preload):
    from PIL import Image

    Image.fromarray(PICTURE).save(tmp_path / "one.png")
    with worker(tiny_bundle, tmp_path) as device:
        named = f"pi-0.local:{device.address.rpartition(':')[2]}"
        with aggregator(
            tiny_bundle, tmp_path, [named], "--metrics", "127.0.0.1:0", **preload
        ) as hub:
            wait_for(lambda: healthy(hub, 1))

            server = f"hub.local:{hub.address.rpartition(':')[2]}"
            command = [sys.executable, "-m", "edvit_tf.cli", "predict", "--server", server]
            done = subprocess.run(
                [*command, "--insecure", str(tmp_path / "one.png")],
                env={**os.environ, **preload},
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=60,
            )
    assert done.returncode == 0 and "one.png" in done.stdout, done.stderr


def test_every_room_that_imports_grpc_sets_the_resolver_before():
    """gRPC reads the variable while it is imported, so it is a matter of order."""
    for file in sorted((ROOT / "edvit_tf").rglob("*.py")):
        tree = ast.parse(file.read_text("utf-8"))
        imports = [node for node in tree.body if isinstance(node, ast.Import)]
        if not any(alias.name == "grpc" for node in imports for alias in node.names):
            continue

        room = file.parent / "__init__.py"
        sets = "GRPC_DNS_RESOLVER" in room.read_text("utf-8")
        assert sets or "import edvit_tf.device.rpc" in room.read_text("utf-8"), file


def test_a_resolver_that_the_user_chose_is_left_alone():
    code = "import os, edvit_tf.aggregate.client; print(os.environ['GRPC_DNS_RESOLVER'])"
    for chosen, expected in ((None, "native"), ("ares", "ares")):
        environment = {**os.environ, "GRPC_DNS_RESOLVER": chosen or ""}
        if chosen is None:
            del environment["GRPC_DNS_RESOLVER"]
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.strip() == expected, done.stderr
