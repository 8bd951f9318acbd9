"""Commands as a user types them, each in a process of its own, and what they are given."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ("recipes/mnist.py", "--smoke", "--synthetic")


def run_python(
    *arguments: str | Path, timeout: float = 300, **environment: str
) -> subprocess.CompletedProcess:
    """`python ARGUMENTS...` in the project's folder, without EDVIT_DATA; output as text."""
    kept = {k: v for k, v in os.environ.items() if k != "EDVIT_DATA"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**kept, **environment},
        text=True,
        capture_output=True,
        timeout=timeout,
        check=False,
    )


def rewrite_manifest(bundle: Path, change) -> None:
    """`change` is called with the manifest of a bundle, which is then stored."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def write_made_bundle(folder: Path, **options) -> Path:
    """`made_bundle.write` in a process of its own: TensorFlow stays out of this one."""
    code = f"import pathlib; from tests.support import made_bundle; made_bundle.write(pathlib.{folder!r}, **{options})"
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    return folder
