"""`load`: from a data set's name to a Dataset, looking in the folder given, $EDVIT_DATA, Keras, and
the stand-ins.
"""

import dataclasses
import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edvit_tf.errors import DataError
from edvit_tf.progress import warn

from . import synthetic as stand_in
from .dataset import Dataset
from .folders import (
    Found,
    MissingData,
    find_layouts,
    given_folder,
    is_folder,
    wrong_layout,
)
from .split import limit_per_class

# Each module has LAYOUT (text), OPTIONS (name -> default), PREFIXES (folder names in $EDVIT_DATA),
# is_layout(folder), load_folders(found, Settings) -> Dataset; and elsewhere(looked) -> found, if
# Keras has the data set, or a package ships it.
NAMES = (
    "gtzan",
    "speech_commands",
    "mnist",
    "cifar10",
    "caltech256",
    "caltech101",
    "omniglot",
    "digits",
    "newsgroups",
)
# somebody's own data: where they are is always said, and no stand-in is like them
OWN = "folder"
SYNTHETIC = ("never", "fallback", "only")


@dataclass(frozen=True)
class Settings:
    """What `load` was asked for, checked."""

    name: str
    image_size: tuple[int, int]  # (H, W)
    seed: int
    options: dict[str, Any]

    def __getitem__(self, option: str) -> Any:
        return self.options[option]


def load(
    name: str,
    data_dir: str | Path | None = None,
    *,
    image_size: tuple[int, int],
    seed: int = 0,
    synthetic: str = "never",
    max_per_class: int | None = None,
    **options: Any,
) -> Dataset:
    """Loads a data set: finds its folder, reads file headers, splits recordings; decodes nothing
    yet.

    image_size: (H, W) of the model's input, of texts (1, pieces). synthetic: "never",
    "fallback" (when no data are found; said on stderr) or "only". max_per_class: recordings of
    each class kept in each split. Options are the data set's own. Looks in data_dir alone if it
    is given, else in $EDVIT_DATA/<name> and $EDVIT_DATA/<name>*, then in Keras' cache or
    download (mnist, cifar10) or in scikit-learn (digits). DataError: unknown name or option,
    missing data, wrong layout, unreadable files.
    """
    _check_request(name, image_size, seed, synthetic, max_per_class)
    # Only the module that is asked for is imported.
    module = importlib.import_module(f".{name}", __package__)
    height, width = image_size
    settings = Settings(
        name, (height, width), seed, _options(name, options, _known_options(name, module))
    )

    if name == OWN:
        data = module.load_own(data_dir, settings)
    elif synthetic == "only":
        data = stand_in.make(settings)
    else:
        data = _found_or_made(module, settings, data_dir, may_make=synthetic == "fallback")

    if max_per_class is not None:
        data.notes.append(
            f"at most {max_per_class} recordings per class and split were kept (max_per_class)"
        )
        splits = {}
        for split, recordings in data.splits.items():
            splits[split] = limit_per_class(recordings, max_per_class, seed)
        data = dataclasses.replace(data, splits=splits)
    return data


def has_vocabulary(name: str) -> bool:
    """Whether a data set is of texts, whose pieces an option decides; DataError as `load`."""
    if name not in NAMES:
        return False
    return "vocabulary" in importlib.import_module(f".{name}", __package__).OPTIONS


def load_survey(found, *, image_size: tuple[int, int], seed: int = 0, **options: Any) -> Dataset:
    """`load("folder", ...)` of a folder that was surveyed already (edvit_tf.data.folder.Survey)."""
    from . import folder

    _check_request(OWN, image_size, seed, "never", None)
    height, width = image_size
    chosen = _options(OWN, options, folder.OPTIONS)
    return folder.own_dataset(found, Settings(OWN, (height, width), seed, chosen))


def _known_options(name: str, module) -> dict:
    return module.OPTIONS if name == OWN else module.OPTIONS | stand_in.OPTIONS


def _check_request(
    name: str,
    image_size: tuple[int, int],
    seed: int,
    synthetic: str,
    max_per_class: int | None,
) -> None:
    if name not in (*NAMES, OWN):
        raise DataError(f"Data set {name!r} is unknown; choose from {', '.join((*NAMES, OWN))}.")
    if name == OWN and synthetic != "never":
        raise DataError("Of a folder of one's own there is no stand-in: leave synthetic out.")
    if synthetic not in SYNTHETIC:
        raise DataError(f"synthetic={synthetic!r} is unknown; choose from {', '.join(SYNTHETIC)}.")
    if len(image_size) != 2 or not all(isinstance(n, int) and n > 0 for n in image_size):
        raise DataError(f"image_size is {image_size!r}; it must be two positive integers (H, W).")
    if not isinstance(seed, int) or seed < 0:
        raise DataError(f"seed is {seed!r}; it must be an integer, 0 or more.")
    if max_per_class is not None and max_per_class < 1:
        raise DataError(
            f"max_per_class is {max_per_class}; it must be at least 1, or None for all."
        )


def _found_or_made(
    module, settings: Settings, data_dir: str | Path | None, may_make: bool
) -> Dataset:
    """The data set in its folders; without any, the stand-in where it may be made up."""
    looked: list[Path] = []
    try:
        return module.load_folders(_find(settings.name, module, data_dir, looked), settings)
    except MissingData:
        # a folder that was named and is wrong is a mistake to mend, not a reason to make data up
        if not may_make or data_dir is not None:
            raise

    data = stand_in.make(settings)
    places = ", ".join(str(p) for p in looked) or "no folder: $EDVIT_DATA is not set"
    warn(
        f"no {settings.name} data found (looked in {places}): using a SYNTHETIC stand-in; "
        "accuracies mean nothing",
    )

    return data


def _options(name: str, given: dict, known: dict) -> dict:
    """The defaults with `given` over them; DataError on an unknown name, a wrong type, a value out
    of range.
    """
    for key, value in given.items():
        if key not in known:
            raise DataError(
                f"{name} has no option {key!r}; its options are {', '.join(sorted(known))}."
            )

        # An int passes for a float, but True for no number.
        wanted = type(known[key])
        fits = isinstance(value, wanted) or (wanted is float and isinstance(value, int))
        if not fits or (isinstance(value, bool) and wanted is not bool):
            raise DataError(f"{name}: {key} is {value!r}; it must be of type {wanted.__name__}.")
        # where 0 is the default it stands for what follows from the data
        if wanted in (int, float) and (value < 0 or value == 0 != known[key]):
            raise DataError(f"{name}: {key} is {value!r}; it must be positive.")

    options = {**known, **given}
    fractions = {k: v for k, v in options.items() if k.endswith("_fraction")}
    if sum(fractions.values()) >= 1:
        raise DataError(
            f"{name}: {fractions} leave nothing to train on; their sum must be below 1."
        )
    return options


def is_in(name: str, root: str | Path) -> bool:
    """Whether a folder of data sets, as $EDVIT_DATA, has this one; DataError for an unknown
    name.
    """
    if name not in NAMES:
        raise DataError(f"Data set {name!r} is unknown; choose from {', '.join(NAMES)}.")
    module = importlib.import_module(f".{name}", __package__)
    starts = [start for group in _starts(name, module, Path(root)) for start in group]
    return any(find_layouts(start, module.is_layout) for start in starts)


def _starts(name: str, module, root: Path) -> list[list[Path]]:
    """Where a data set may lie in a folder of them: its very name goes before those like it."""
    alike = []
    for prefix in module.PREFIXES:
        for path in sorted(root.glob(f"{prefix}*")):
            if is_folder(path) and path.name != name:
                alike.append(path)
    return [[root / name], alike]


def _find(name: str, module, data_dir: str | Path | None, looked: list[Path]) -> list[Found]:
    """The folders to load; notes where it looked; MissingData if there is none."""
    starts: list[list[Path]] = []
    # A folder that was named is the only one.
    if data_dir is not None:
        starts = [[Path(data_dir)]]
    elif os.environ.get("EDVIT_DATA"):
        starts = _starts(name, module, given_folder(os.environ["EDVIT_DATA"]))

    for group in starts:
        looked += group
        found: list[Found] = []
        for start in group:
            found += find_layouts(start, module.is_layout)
        if found:
            return found

    if data_dir is None and hasattr(module, "elsewhere"):
        return module.elsewhere(looked)
    raise wrong_layout(name, looked, module.LAYOUT)
