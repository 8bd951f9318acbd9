"""Which base a run starts from: a pretrained model that is at hand, one that was named, or none.

Nothing is fetched unless its name was given; where none is at hand the hub is asked what it has.
Looked at are the caches of Hugging Face's client and
of KerasHub, and the folder $EDVIT_WEIGHTS.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edvit_tf.data.own_files import SOUND, TEXT
from edvit_tf.errors import ConfigError
from edvit_tf.hub.offers import offers
from edvit_tf.models.bert import pretrained as bert
from edvit_tf.models.sources import (
    HUB_FILES,
    OF_TEXTS,
    find_base,
    is_read,
    read_json,
    reads_texts,
    shown_name,
    vocabulary_beside,
    weight_files,
)
from edvit_tf.models.vit.huggingface import AST, LAYOUTS
from edvit_tf.models.vit.pretrained import read_checkpoint

AUTO = "auto"
SCRATCH = "scratch"
KERASHUB = "kerashub vit"
# Of float32 weights: beyond it a CPU takes days, and no Pi holds a third of it.
LARGEST_BYTES = 800 << 20
# What of the hub suits small devices, and is asked for; MB to fetch, where it does not answer.
OFFERED = {
    "pictures": (("facebook/dinov2-small", 88),),
    "sound": (("facebook/dinov2-small", 88), ("MIT/ast-finetuned-audioset-10-10-0.4593", 346)),
    "text": (("sentence-transformers/all-MiniLM-L6-v2", 91),),
}


@dataclass(frozen=True)
class Pretrained:
    """A pretrained model by its config.json: nothing of its weights was read yet."""

    folder: Path
    kind: str  # "dinov2", "vit", "audio-spectrogram-transformer", KERASHUB, or one of OF_TEXTS
    patch_size: int  # 0: of texts
    hidden_dim: int
    size_bytes: int  # of its files of weights
    place: str  # where it was found, in words

    @property
    def shown(self) -> str:
        """Its name, with what tells it from others of that name."""
        megabytes = self.size_bytes / 1e6
        return f"{shown_name(self.folder)} ({self.kind}, {megabytes:.0f} MB, {self.place})"


@dataclass(frozen=True)
class ChosenBase:
    """What a run starts from, and how that came about, a sentence a line."""

    source: Path | None  # None: from scratch
    pretrained: Pretrained | None  # None also for a base of ours (.keras)
    said: tuple[str, ...]

    @property
    def vocabulary(self) -> Path | None:
        """The vocab.txt that a base of texts was trained with."""
        return None if self.source is None else vocabulary_beside(self.source)

    @property
    def lower_case(self) -> bool:
        """Whether a base of texts knows no capitals, as its checkpoint says; most know none."""
        if self.pretrained is None:
            return True
        try:
            said = read_json(self.pretrained.folder / "tokenizer_config.json")
        except ConfigError:
            return True
        return said.get("do_lower_case") is not False


def choose_base(asked: str, kind: str) -> ChosenBase:
    """The base for `asked`: "auto", "scratch", a path or a name on the hub (which is fetched).

    Raises ConfigError where a path or a name gives no base.
    """
    if asked == SCRATCH:
        return ChosenBase(None, None, ("base: trained from scratch, as --base scratch asks.",))

    if asked != AUTO:
        source = find_base(asked)
        if source.is_file():
            return ChosenBase(source, None, (f"base: {source.name}, as --base says.",))
        pretrained = looked_at(source, "as --base says")
        if pretrained is None or (pretrained.kind in OF_TEXTS) != (kind == TEXT):
            wanted = (
                ", ".join(OF_TEXTS) if kind == TEXT else f"{', '.join(LAYOUTS)} or KerasHub's ViT"
            )
            raise ConfigError(
                f"--base {asked} is no checkpoint that is read for {kind}: its config.json must "
                f"be of {wanted}. Give another, or --base scratch."
            )
        return ChosenBase(source, pretrained, (f"base: {pretrained.shown}.",))

    passed_over = []
    found = at_hand(kind)
    for place, one in enumerate(found):
        problem = unreadable(one)
        if problem is not None:
            passed_over.append(f"base: {one.shown} is passed over: {problem}")
            continue

        said = [f"base: {one.shown} is at hand and is taken; --base scratch does without it."]
        others = ", ".join(other.shown for other in found[place + 1 : place + 4])
        if others:
            said.append(f"      Also at hand: {others}. --base FOLDER takes one of them.")
        return ChosenBase(one.folder, one, (*passed_over, *said))
    return ChosenBase(None, None, (*passed_over, *_from_scratch(kind)))


def at_hand(kind: str) -> list[Pretrained]:
    """The pretrained models on this machine that can be a base, the one to take first.

    The smallest comes first: it is fitted and cut soonest, and what devices get is small in any
    case. A model of sound is none for pictures; one of pictures learns sound. One of texts is for
    texts alone, and they take no other.
    """
    found = {}
    for folder, place in _places():
        one = looked_at(folder, place)
        if one is None or one.size_bytes > LARGEST_BYTES or (one.kind == AST and kind != SOUND):
            continue
        if (one.kind in OF_TEXTS) != (kind == TEXT):
            continue
        found.setdefault(folder.resolve(), one)
    return sorted(found.values(), key=lambda one: (one.size_bytes, str(one.folder)))


def looked_at(folder: Path, place: str) -> Pretrained | None:
    """What a checkpoint's folder says of itself; None if it is none that is read."""
    try:
        config = read_json(folder / "config.json")
        size = sum(file.stat().st_size for file in weight_files(folder))
    except (ConfigError, OSError):
        return None

    kind = config.get("model_type")
    if config.get("class_name") == "ViTBackbone":
        kind, inner = KERASHUB, config.get("config")
        config = inner if isinstance(inner, dict) else {}
    elif reads_texts(config):
        width = config.get("hidden_size")
        if not isinstance(width, int) or vocabulary_beside(folder) is None:
            return None
        return Pretrained(folder, str(kind), 0, width, size, place)
    elif kind not in LAYOUTS:
        return None

    patch = config.get("patch_size", 14 if kind == "dinov2" else 16)
    # KerasHub writes height and width
    patch = patch[0] if isinstance(patch, list) and patch else patch
    width = config.get("hidden_size", config.get("hidden_dim", 768))
    if not isinstance(patch, int) or not isinstance(width, int) or patch < 1:
        return None
    return Pretrained(folder, str(kind), patch, width, size, place)


def unreadable(one: Pretrained) -> str | None:
    """Why a checkpoint's weights cannot be read; None if they can."""
    read = bert.read_checkpoint if one.kind in OF_TEXTS else read_checkpoint
    try:
        read(one.folder)
    except ConfigError as error:
        return str(error)
    return None


def _places() -> Iterator[tuple[Path, str]]:
    """Folders that may be checkpoints, and where they are, in words."""
    own = os.environ.get("EDVIT_WEIGHTS")
    if own:
        yield Path(own), "$EDVIT_WEIGHTS"
        for folder in _globbed(Path(own), "*"):
            yield folder, "$EDVIT_WEIGHTS"
    for config in _globbed(_hub_cache(), "models--*/snapshots/*/config.json"):
        yield config.parent, "Hugging Face's cache"
    for config in _globbed(_keras_cache(), "**/config.json"):
        yield config.parent, "KerasHub's cache"


def _globbed(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except OSError:  # it may not be looked into
        return []


def _hub_cache() -> Path:
    """As huggingface_hub finds it."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return Path(os.environ[name]).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home).expanduser() / "hub"
    # "~" stays as it is where nobody knows this user's home
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(caches) / "huggingface" / "hub"


def _keras_cache() -> Path:
    """As kagglehub, by which KerasHub fetches, finds it."""
    given = os.environ.get("KAGGLEHUB_CACHE")
    root = Path(os.path.expanduser(given or "~/.cache/kagglehub"))
    return root / "models" / "keras"


def _from_scratch(kind: str) -> tuple[str, ...]:
    """What training from scratch costs, and what would do better."""
    costs = (
        "      With little data that costs much: on 1,319 clips of ten words a base from scratch",
        "      has 43 % where a pretrained one has 89 (docs/lab_book/accuracy.md, on sound).",
    )
    if kind == TEXT:
        costs = (
            "      Its vocabulary is made of the training texts, and it knows no word but theirs;",
            "      a small linear classifier (the floor in the report) is often as good then.",
        )
    return (
        "base: no pretrained model is at hand, so it is trained from scratch.",
        *costs,
        *_offered(kind),
    )


def _offered(kind: str) -> list[str]:
    """What the hub has, by its own words; where it does not answer, what it had."""
    is_known = reads_texts if kind == TEXT else is_read
    found = offers((name for name, _ in OFFERED[kind]), HUB_FILES, is_known)
    if found is None:
        had = " or ".join(f"{name} ({size} MB)" for name, size in OFFERED[kind])
        return [
            "      The hub was not asked, or did not answer. It had",
            f"      {had}; --base {OFFERED[kind][0][0]} fetches it.",
        ]
    if not found:
        return ["      The hub has none of the small models that are known here."]
    said = ["      The hub has, and nothing of it is fetched unless you name it:"]
    for one in found:
        said.append(f"        --base {one.name}   ({one.size_bytes / 1e6:.0f} MB)")
    return said
