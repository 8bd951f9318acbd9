"""The settings of a run of somebody's own data, as a table: docs/howto/own_data.md says where
each row comes from.

It is no search. A column is chosen by what the data are and by whether there is a pretrained base;
how long is trained follows from the amount of data.
"""

import os
from dataclasses import dataclass

from edvit_tf.choosing.bases import ChosenBase
from edvit_tf.config import DataConfig, PruneConfig, RunConfig, TrainConfig
from edvit_tf.data.folder import Survey
from edvit_tf.data.own_files import PICTURES, TEXT

SMALL_SIDE = 40  # pixels: pictures no larger are taken at 28 x 28
DRAWN_SIDE = 128  # grey pictures no larger are drawings or digits
PATCHES_A_SIDE = 7  # of a pretrained model: 98 pixels for patches of 14
FEW, SOME, MANY = 200, 2_000, 10_000  # training inputs, by which batches grow
MANY_CLASSES = 50
# Pieces of a text that are read: the least within which most texts end, a word being 1.3 of them
# in English, and a start and an end beside.
LENGTHS = (32, 64, 128)
MOST_TEXTS = 0.9
PIECES_A_WORD = 1.3
LITTLE_MEMORY_BYTES = 6 << 30  # below it batches are halved


@dataclass(frozen=True)
class Column:
    """A column of the table. Epochs are those in which `samples` are seen, within the limits."""

    image_size: int  # of both sides; 0: PATCHES_A_SIDE patches of the base
    patch_size: int  # 0: the base's
    augment: str
    mirrored: str  # instead, where mirroring changes no class

    samples: int  # that the base sees
    samples_a_class: int  # at least
    epochs: tuple[int, int]  # least, most
    rate: float
    optimizer: str

    # of the model of a device's size: one fit after all cuts, or one after each
    shared_samples: int  # 0: no such fit
    shared_rate: float
    stage_share: float  # epochs of each later fit, of the base's
    stage_rate: float
    stage_optimizer: str
    feature_distillation: float
    shared_epochs: tuple[int, int] = (16, 60)


# photographs from scratch: recipes/caltech256.py
PHOTOGRAPHS = Column(
    image_size=64,
    patch_size=16,
    augment="shift",
    mirrored="shift_flip",
    samples=20_000,
    samples_a_class=600,
    epochs=(12, 100),
    rate=5e-4,
    optimizer="adamw",
    shared_samples=0,
    shared_rate=0.0,
    stage_share=0.3,
    stage_rate=5e-4,
    stage_optimizer="adamw",
    feature_distillation=0.0,
)
# digits and drawings from scratch: recipes/mnist.py and recipes/omniglot.py
DRAWINGS = Column(
    image_size=56,
    patch_size=14,
    augment="affine",
    mirrored="affine",
    samples=100_000,
    samples_a_class=600,
    epochs=(12, 100),
    rate=1e-3,
    optimizer="muon",
    shared_samples=170_000,
    shared_rate=5e-4,
    stage_share=0.1,
    stage_rate=5e-5,
    stage_optimizer="muon",
    feature_distillation=1.0,
)
# sound from scratch: recipes/gtzan.py
SOUNDS = Column(
    image_size=64,
    patch_size=16,
    augment="mask",
    mirrored="mask",
    samples=20_000,
    samples_a_class=600,
    epochs=(20, 100),
    rate=5e-4,
    optimizer="adamw",
    shared_samples=0,
    shared_rate=0.0,
    stage_share=0.3,
    stage_rate=5e-4,
    stage_optimizer="adamw",
    feature_distillation=0.0,
)
# pictures with a pretrained base: recipes/caltech101.py and recipes/cifar10_dinov2.py
LEARNT_PICTURES = Column(
    image_size=0,
    patch_size=0,
    augment="shift",
    mirrored="shift_flip",
    samples=20_000,
    samples_a_class=300,
    epochs=(3, 40),
    rate=5e-5,
    optimizer="adamw",
    shared_samples=150_000,
    shared_rate=1e-3,
    stage_share=0.3,
    stage_rate=1e-4,
    stage_optimizer="muon",
    feature_distillation=2.0,
)
# sound with a pretrained base: recipes/speech_commands_dinov2.py
LEARNT_SOUNDS = Column(
    image_size=0,
    patch_size=0,
    augment="shift",
    mirrored="shift",
    samples=40_000,
    samples_a_class=600,
    epochs=(3, 40),
    rate=4e-5,
    optimizer="adamw",
    shared_samples=55_000,
    shared_rate=5e-5,
    stage_share=0.5,
    stage_rate=5e-5,
    stage_optimizer="adamw",
    feature_distillation=2.0,
)
# texts from scratch, with a vocabulary of their own
TEXTS = Column(
    image_size=1,
    patch_size=0,
    augment="none",
    mirrored="none",
    samples=60_000,
    samples_a_class=600,
    epochs=(12, 60),
    rate=5e-4,
    optimizer="adamw",
    shared_samples=0,
    shared_rate=0.0,
    stage_share=0.3,
    stage_rate=1e-4,
    stage_optimizer="adamw",
    feature_distillation=1.0,
)
# texts with a pretrained base: recipes/newsgroups.py
LEARNT_TEXTS = Column(
    image_size=1,
    patch_size=0,
    augment="none",
    mirrored="none",
    samples=15_000,
    samples_a_class=300,
    epochs=(3, 20),
    rate=5e-5,
    optimizer="adamw",
    shared_samples=40_000,
    shared_rate=5e-4,
    stage_share=0.7,
    stage_rate=1e-4,
    stage_optimizer="adamw",
    feature_distillation=1.0,
    shared_epochs=(8, 60),
)
# by the width of a pretrained base; what it brings itself comes before it
PRESETS = {192: "vit_tiny", 384: "vit_small", 768: "vit_base", 1024: "vit_large"}
TEXT_PRESETS = {384: "minilm", 768: "bert_base"}


def column_of(found: Survey, base: ChosenBase) -> Column:
    """The column for these data and this base."""
    if found.kind == TEXT:
        return TEXTS if base.pretrained is None else LEARNT_TEXTS
    if found.kind != PICTURES:
        return SOUNDS if base.pretrained is None else LEARNT_SOUNDS
    if base.pretrained is not None:
        return LEARNT_PICTURES
    return DRAWINGS if is_drawn(found) else PHOTOGRAPHS


def is_drawn(found: Survey) -> bool:
    """Whether pictures are like digits and drawings: small, and without colours."""
    return found.is_grey and _typical_side(found) <= DRAWN_SIDE


def is_mirrored(found: Survey, asked: bool | None) -> bool:
    """Whether training mirrors pictures: as asked, else where they are no drawings; nothing else
    is.
    """
    if found.kind != PICTURES:
        return False
    return not is_drawn(found) if asked is None else asked


def data_settings(
    found: Survey, base: ChosenBase, *, kind: str | None, group_by: str | None
) -> DataConfig:
    """How inputs are made of the files: image size, for sound rate and window; of texts how many
    pieces are read, and whether with their capitals.
    """
    if found.kind == TEXT:
        chosen: dict = {"kind": kind or found.kind, "lower_case": base.lower_case}
        if group_by is not None:
            chosen["group_by"] = group_by
        return DataConfig("folder", image_size=(1, text_length(found)), options=chosen)

    column = column_of(found, base)
    side = column.image_size
    if base.pretrained is not None:
        side = PATCHES_A_SIDE * base.pretrained.patch_size
    elif found.kind == PICTURES and _typical_side(found) <= SMALL_SIDE:
        side = 28

    options: dict = {"kind": kind or found.kind}
    if group_by is not None:
        options["group_by"] = group_by
    if found.kind == PICTURES:
        options["channels"] = 1 if found.is_grey else 3
    else:
        options["window_seconds"] = found.window_seconds
        options["sample_rate_hz"] = found.sample_rate_hz
    return DataConfig("folder", image_size=(side, side), options=options)


def run_settings(
    found: Survey,
    base: ChosenBase,
    data: DataConfig,
    train_inputs: int,
    *,
    mirror: bool | None = None,
    seed: int = 0,
) -> RunConfig:
    """The whole run, for so many training inputs (windows of sound, pictures)."""
    column = column_of(found, base)
    augment = column.mirrored if is_mirrored(found, mirror) else column.augment
    batch = batch_size(train_inputs, found.kind == PICTURES and base.pretrained is None)
    samples = max(column.samples, column.samples_a_class * len(found.labels))
    epochs = _epochs(samples, train_inputs, column.epochs)

    first = TrainConfig(
        epochs=epochs,
        batch_size=batch,
        learning_rate=column.rate,
        optimizer=column.optimizer,
        augment=augment,
        label_smoothing=0.1,
        precision="auto",
    )
    stage = first.replace(
        epochs=max(1, round(column.stage_share * epochs)),
        learning_rate=column.stage_rate,
        optimizer=column.stage_optimizer,
        feature_distillation=column.feature_distillation,
    )
    is_text = found.kind == TEXT
    shared = None
    if column.shared_samples:
        share = column.shared_samples * samples // column.samples
        shared = stage.replace(
            epochs=_epochs(share, train_inputs, column.shared_epochs),
            learning_rate=_shared_rate(column, train_inputs),
            feature_distillation=_shared_distillation(column),
        )

    return RunConfig(
        name=found.name,
        data=data,
        model=_model(base, is_text),
        patch_size=_patch(column, base, data),
        base_training=first,
        shared_training=shared,
        stage_training=stage,
        fusion_training=TrainConfig(
            epochs=30, batch_size=max(32, min(batch, 128)), learning_rate=1e-3
        ),
        fusion="auto",
        joint_training=_joint(stage),
        calibration_samples=32 if len(found.labels) > MANY_CLASSES else 128,
        repair_samples=None if base.pretrained is None else 1024,
        teacher_precision="float32" if base.pretrained is None else "auto",
        # texts have no views, and without them copies are one model many times
        fleet="classes" if is_text else "auto",
        views="none" if is_text else "auto",
        pruning=PruneConfig(residual="channels" if is_text else "directions"),
        seed=seed,
    )


def text_length(found: Survey) -> int:
    """Pieces of a text that are read."""
    counts = sorted(found.words)
    most = counts[min(len(counts) - 1, int(MOST_TEXTS * len(counts)))]
    enough = [length for length in LENGTHS if length >= PIECES_A_WORD * most + 2]
    return enough[0] if enough else LENGTHS[-1]


def _shared_distillation(column: Column) -> float:
    if column is LEARNT_TEXTS:  # as its recipe has it
        return column.feature_distillation
    return 4.0 if column.feature_distillation else 0.0


def _joint(stage: TrainConfig) -> TrainConfig:
    """Of sub-models and fusion together, one of the ways of fusing that are tried: as long as a
    sub-model's own fit, by AdamW, since Muon is for one ViT.
    """
    return stage if stage.optimizer != "muon" else stage.replace(optimizer="adamw")


def batch_size(train_inputs: int, is_small_model: bool) -> int:
    """Samples a step: fewer of little data, which then give hundreds of steps; half of it where
    memory is little.
    """
    if train_inputs < FEW:
        batch = 16
    elif train_inputs < SOME or not is_small_model:
        batch = 32
    else:
        batch = 64 if train_inputs < MANY else 128
    return batch // 2 if _memory_bytes() < LITTLE_MEMORY_BYTES else batch


def _memory_bytes() -> int:
    """Of this machine; where it does not say, enough."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return LITTLE_MEMORY_BYTES


def _typical_side(found: Survey) -> int:
    """The shorter side that half of the pictures reach."""
    sides = sorted(found.sides)
    return sides[len(sides) // 2]


def _epochs(samples: int, train_inputs: int, limits: tuple[int, int]) -> int:
    low, high = limits
    return min(max(round(samples / max(train_inputs, 1)), low), high)


def _shared_rate(column: Column, train_inputs: int) -> float:
    """Half of it for much data, as recipes/cifar10_dinov2.py chose it; for little data that of the
    later fits, since a cut that was repaired is nearly as good as its base and has few steps to
    find back to it.
    """
    if column is not LEARNT_PICTURES:
        return column.shared_rate
    if train_inputs < SOME:
        return column.stage_rate
    return column.shared_rate / 2 if train_inputs >= MANY else column.shared_rate


def _model(base: ChosenBase, is_text: bool) -> str:
    if is_text:
        width = 0 if base.pretrained is None else base.pretrained.hidden_dim
        return TEXT_PRESETS.get(width, "bert_cpu")
    if base.pretrained is None:
        return "vit_cpu"
    return PRESETS.get(base.pretrained.hidden_dim, "vit_small")


def _patch(column: Column, base: ChosenBase, data: DataConfig) -> int | None:
    if column in (TEXTS, LEARNT_TEXTS):
        return None
    if base.pretrained is not None:
        return base.pretrained.patch_size
    return 7 if data.image_size[0] == 28 else column.patch_size
