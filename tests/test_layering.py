"""The reading order, and that what runs without TensorFlow loads none of it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LONGEST, TESTS, TIMED

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "edvit_tf"
ALLOWED = {*sys.stdlib_module_names, "numpy", "tflite_runtime", "ai_edge_litert", "grpc"}
ALLOWED_PREFIXES = ("google.protobuf", "edvit_tf.device")
# optional, with a message where they are missing: decoders, what checks signatures, and what
# announces a worker
INSIDE_FUNCTIONS = {"PIL", "soundfile", "cryptography", "zeroconf", "ifaddr"}
HEAVY = ("tensorflow", "keras", "tf_keras", "keras_cv", "librosa", "matplotlib", "scipy")


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


DEVICE_FILES = sorted((PACKAGE / "device").rglob("*.py"))
LIGHT_FILES = [
    PACKAGE / "data" / "__init__.py",
    *(
        PACKAGE / f"{name}.py"
        for name in (
            "__init__",
            "config/__init__",
            "checked",
            "errors",
            "cli/main",
            "cli/certs",
            "cli/recipe",
            "operate/certs",
            "operate/push",
            "models/vit/cost",
            "models/vit/presets",
        )
    ),
    *sorted((PACKAGE / "planning").rglob("*.py")),
    *DEVICE_FILES,
]


def forbidden_imports(source: str, package: str) -> list[str]:
    """The imports of a device module that the rule does not allow, as "line: name"."""
    found = []

    def visit(node: ast.AST, in_function: bool) -> None:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = (
                package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            )
            parent = ".".join([*start, *([node.module] if node.module else [])])
            names = [f"{parent}.{alias.name}" for alias in node.names]
        else:
            names = []
        for name in names:
            allowed = name.split(".")[0] in ALLOWED or any(
                f"{name}.".startswith(f"{p}.") for p in ALLOWED_PREFIXES
            )
            if not allowed and not (in_function and name.split(".")[0] in INSIDE_FUNCTIONS):
                found.append(f"{node.lineno}: {name}")
        in_function = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            visit(child, in_function)

    visit(ast.parse(source), False)
    return found


def test_the_device_folder_is_not_empty():
    assert len(DEVICE_FILES) > 3


@pytest.mark.parametrize("path", DEVICE_FILES, ids=module_name)
def test_the_device_imports_the_standard_library_numpy_and_a_runtime(path):
    assert forbidden_imports(path.read_text("utf-8"), "edvit_tf.device") == []


@pytest.mark.parametrize(
    "source, found",
    [
        ("import os, numpy.linalg\nfrom edvit_tf.device.model.bundle import open_bundle", []),
        (
            "from edvit_tf.device import bundle\nfrom . import wire\nfrom google.protobuf import "
            "message",
            [],
        ),
        ("def f():\n    from PIL import Image", []),
        ("from PIL import Image", ["1: PIL.Image"]),
        ("def f():\n    import tensorflow as tf", ["2: tensorflow"]),
        (
            "from edvit_tf import config\nfrom ..planning import cost",
            ["1: edvit_tf.config", "2: edvit_tf.planning.cost"],
        ),
        (
            "from edvit_tf.devices import x\nfrom google import cloud",
            ["1: edvit_tf.devices.x", "2: google.cloud"],
        ),
    ],
)
def test_the_check_itself_sees_what_it_must(source, found):
    assert forbidden_imports(source, "edvit_tf.device") == found


@pytest.mark.parametrize("path", LIGHT_FILES, ids=module_name)
def test_light_modules_load_nothing_heavy(path):
    code = (
        f"import sys, importlib; importlib.import_module({module_name(path)!r}); "
        f"print(*[m for m in {HEAVY} if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


def test_import_contracts_hold():
    code = "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_files_of_tests_that_come_first_and_last_are_there():
    """Else one that was renamed would lose its place without a word."""
    assert [name for name in (*LONGEST, *TIMED) if not (TESTS / name).is_file()] == []
