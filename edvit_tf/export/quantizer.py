"""ai-edge-quantizer's files, from a float32 file of ours: int8 or int4, in dynamic range, which
multiplies in integers, or weight-only, which multiplies in float32.

No bundle holds them: they are what our own int8 is measured against.
"""

import contextlib
import importlib.util
import sys
from pathlib import Path

from edvit_tf.errors import ConfigError, ExportError

# the names of its recipes
RECIPES = (
    "dynamic_wi8_afp32",
    "weight_only_wi8_afp32",
    "dynamic_wi4_afp32",
    "weight_only_wi4_afp32",
)


def check_installed() -> None:
    """Raises ConfigError where ai-edge-quantizer is not installed."""
    if importlib.util.find_spec("ai_edge_quantizer") is None:
        raise ConfigError(
            "ai-edge-quantizer is not installed, with whose files ours are compared. Run: "
            "pip install -e '.[bench]'."
        )


def quantize(source: Path, target: Path, recipe: str) -> None:
    """Writes what ai-edge-quantizer makes of a float32 file by one of RECIPES. Raises ExportError
    with its own words where it cannot.
    """
    from ai_edge_quantizer import quantizer
    from ai_edge_quantizer import recipe as recipes

    # it draws bars, and says what it did
    with contextlib.redirect_stdout(sys.stderr):
        try:
            tool = quantizer.Quantizer(str(source), getattr(recipes, recipe)())
            tool.quantize().export_model(str(target))
        # of a package that is young, and says what it cannot in many ways
        except Exception as error:
            raise ExportError(
                f"ai-edge-quantizer makes no {recipe} of {source.name}: "
                f"{type(error).__name__}: {str(error)[:200]}"
            ) from error
