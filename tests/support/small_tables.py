"""A folder of a few sounds, and the table of settings with fits of seconds."""

import dataclasses

from edvit_tf.choosing import settings
from tests.support import small_recipe  # noqa: F401 (the preset of one block)
from tests.support.data_files import tone, write_wav


def sounds(folder, each=6):
    """Two classes of tones."""
    for c, name in enumerate(("bell", "drum")):
        for i in range(each):
            write_wav(folder / name / f"r{i}.wav", tone(8000, 0.1 + 0.4 * c + 0.01 * i), 8000)
    return folder


def quick_table(monkeypatch):
    """Fits of two epochs, of a model of one block."""
    quick = {"epochs": (2, 2), "samples": 1, "samples_a_class": 1, "rate": 1e-3}
    for name in ("PHOTOGRAPHS", "SOUNDS"):
        column = getattr(settings, name)
        monkeypatch.setattr(settings, name, dataclasses.replace(column, **quick))
    monkeypatch.setattr(settings, "_model", lambda *_: "vit_one_block")
