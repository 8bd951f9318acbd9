"""Commands as a user types them, in this process or in one of their own, and what they are
given.
"""

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from tests.support import forked
from tests.support.forked import DEVICE, HOST, ROOT

SMOKE = ("tests/support/small_recipe.py", "--smoke", "--synthetic")


def run_python(
    *arguments: str | Path, timeout: float = 300, **environment: str
) -> subprocess.CompletedProcess:
    """`python ARGUMENTS...` in the project's folder, without EDVIT_DATA; output as text.

    In a fresh interpreter, for what is told of that alone. The host's and the device's commands go
    faster by `run_host` and `run_device`.
    """
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=_environment(environment),
        text=True,
        capture_output=True,
        timeout=timeout,
        check=False,
    )


def run_host(*arguments: str | Path, **options) -> subprocess.CompletedProcess:
    """As `run_python`, where TensorFlow is loaded already."""
    return _run_forked(HOST, arguments, **options)


def run_device(*arguments: str | Path, **options) -> subprocess.CompletedProcess:
    """As `run_python`, where numpy, gRPC and the device's modules are loaded already."""
    return _run_forked(DEVICE, arguments, **options)


def _run_forked(
    modules: tuple[str, ...], arguments, timeout: float = 600, **environment: str
) -> subprocess.CompletedProcess:
    return forked.run(
        [sys.executable, *map(str, arguments)],
        modules=modules,
        cwd=ROOT,
        env=_environment(environment),
        text=True,
        timeout=timeout,
    )


def _environment(changes: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "EDVIT_DATA"}
    return {**kept, **changes}


def run_command(argv: Sequence[str | Path]) -> tuple[int, str, str]:
    """`edvit ARGV...`, or with a recipe's file as the first word that recipe, in this process: exit
    code, standard output, standard error. Without EDVIT_DATA, as `run_python`.
    """
    from edvit_tf.cli.main import main

    words = [str(word) for word in argv]
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        contextlib.chdir(ROOT),
        mock.patch.dict(os.environ),
        mock.patch.object(sys, "argv", words),
    ):
        os.environ.pop("EDVIT_DATA", None)
        try:
            if words[0].endswith(".py"):
                runpy.run_path(words[0], run_name="__main__")
            code = main(words)
        except SystemExit as end:
            code = end.code
    return code, out.getvalue(), err.getvalue()


def rewrite_manifest(bundle: Path, change) -> None:
    """`change` is called with the manifest of a bundle, which is then stored."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def write_made_bundle(folder: Path, **options) -> Path:
    """`made_bundle.write` in a process of its own: TensorFlow stays out of this one."""
    code = (
        "import pathlib; from tests.support import made_bundle; "
        f"made_bundle.write(pathlib.{folder!r}, **{options})"
    )
    done = run_host("-c", code)
    assert done.returncode == 0, done.stderr
    return folder
