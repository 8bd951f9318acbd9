"""An emulated 64-bit Raspberry Pi: `pi_rootfs.sh`, and what is installed on it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "pi_rootfs.sh"
CANNOT = 77  # exit code of scripts that this machine cannot run
LITERT, WIRE = "ai-edge-litert>=2.1,<3", ["grpcio>=1.80,<2", "protobuf>=6,<8"]
SUITES = {
    "bookworm": ["tflite-runtime==2.14.0", LITERT, "numpy<2", *WIRE],
    "trixie": [LITERT, "numpy", *WIRE],
}


def script(*arguments, timeout: float = 600) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=environment(),
    )
    if done.returncode == CANNOT:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    return done


def environment() -> dict[str, str]:
    """What the script is given of ours."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        **_proxies(),
        "PI_HOST_PYTHON": sys.executable,
    }


def _proxies() -> dict[str, str]:
    """What pip and apt need from the environment to find their packages."""
    return {
        k: v
        for k, v in os.environ.items()
        if k.startswith("PIP_")
        or k.lower().endswith("_proxy")
        or k in ("HOME", "SSL_CERT_FILE", "PI_QEMU_DIR", "TMPDIR")
    }
