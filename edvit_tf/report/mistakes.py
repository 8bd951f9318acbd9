"""The pictures of what the fleet names wrong: a thumbnail, a sound or the text of each, and what
every device said. From mistakes.json of a bundle, where there is one.
"""

import base64
import binascii
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from edvit_tf.device.errors import BundleError
from edvit_tf.evaluation.mistakes import FILE, LONGEST_TEXT, MOST, MOST_BYTES
from edvit_tf.report.figures import note
from edvit_tf.report.results import Results
from edvit_tf.report.typed import ResultsError, typed

# What a page shows: nothing that a browser would run.
_PICTURES = ("image/png", "image/jpeg")
_SOUNDS = ("audio/flac", "audio/wav")
MOST_SHOWN = 2 * LONGEST_TEXT  # characters of a text, whoever wrote the file


@dataclass(frozen=True)
class Media:
    """A picture or a sound; `content` is base64."""

    type: str
    content: str


@dataclass(frozen=True)
class MemberSaid:
    """What a sub-model said; `named` None: none of its classes."""

    name: str
    devices: tuple[str, ...]
    named: str | None
    share: float


@dataclass(frozen=True)
class Mistake:
    """A test recording that was named wrong."""

    id: str
    label: str
    named: str
    share: float
    label_share: float
    members: tuple[MemberSaid, ...]
    picture: Media | None = None
    sound: Media | None = None
    text: str | None = None  # how it begins


@dataclass(frozen=True)
class _Stored:
    mistakes: tuple[Mistake, ...]


def read_mistakes(folder: Path) -> tuple[Mistake, ...]:
    """Those of a bundle, MOST of them; none for one of a version that did not store any. Raises
    BundleError for a file that is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        return ()
    try:
        stored = typed(_Stored, json.loads(file.read_text(encoding="utf-8")), "")
    except (OSError, ValueError, ResultsError) as error:
        raise BundleError(
            f"{file} cannot be read ({error}). Delete it, or store it anew: edvit report BUNDLE "
            "--data-dir DATA."
        ) from error
    return stored.mistakes[:MOST]


def mistakes(found: Sequence[Mistake], results: Results) -> str:
    """A card for each; "" where there are none."""
    if not found:
        return ""
    noun = results.data.noun
    wrong = sum(map(sum, results.confusion)) - sum(
        row[i] for i, row in enumerate(results.confusion)
    )
    return f'<ul class="mistakes">{"".join(map(_card, found))}</ul>' + note(
        f"The {len(found)} most confident of {wrong:,} test {noun}s that are named wrong, two at "
        f"most of one class taken for another. {_shown_is(found)}"
    )


def _shown_is(found: Sequence[Mistake]) -> str:
    if any(one.text is not None for one in found):
        return "A text is shown as it begins; a device may have read less of it, or more."
    return "A picture is what a device sees, a sound its first seconds."


def _card(one: Mistake) -> str:
    said = f"{one.label}, taken for {one.named}: {one.id}"
    return (
        f"<li>{_picture(one.picture, said)}{_sound(one.sound, said)}{_text(one.text)}"
        f"<p><b>{escape(one.named)}</b> {_percent(one.share)}<br>it is <b>{escape(one.label)}</b> "
        f"{_percent(one.label_share)}</p>{_members(one.members)}"
        f"<small>{escape(one.id)}</small></li>"
    )


def _members(members: Sequence[MemberSaid]) -> str:
    """How many sub-models said what, and folded what each said."""
    if len(members) < 2:  # what it said is what was said
        return ""
    counts: dict[str, int] = {}
    lines = []
    for one in members:
        named = "none of its classes" if one.named is None else one.named
        counts[named] = counts.get(named, 0) + 1
        lines.append(
            f"<li>{escape(', '.join(one.devices) or one.name)}: {escape(named)} "
            f"{_percent(one.share)}</li>"
        )
    most = sorted(counts.items(), key=lambda pair: -pair[1])
    told = ", ".join(f"{count} say {escape(named)}" for named, count in most[:3])
    if len(most) == 1:
        told = f"all {len(members)} say {escape(most[0][0])}"
    elif len(most) > 3:
        told += ", ..."
    return f"<details><summary>{told}</summary><ul>{''.join(lines)}</ul></details>"


def _picture(media: Media | None, said: str) -> str:
    if media is None or not _is_shown(media, _PICTURES):
        return ""
    return f'<img alt="{escape(said)}" src="data:{media.type};base64,{media.content}">'


def _sound(media: Media | None, said: str) -> str:
    if media is None or not _is_shown(media, _SOUNDS):
        return ""
    return (
        f'<audio controls preload="metadata" aria-label="{escape(said)}" '
        f'src="data:{media.type};base64,{media.content}"></audio>'
    )


def _text(text: str | None) -> str:
    """As it stands in the file: what a browser would take for a tag is escaped."""
    return "" if text is None else f"<blockquote>{escape(text[:MOST_SHOWN])}</blockquote>"


def _is_shown(media: Media, types: Sequence[str]) -> bool:
    """Whether it is one of these, no larger than a run stores, and base64 and nothing else."""
    if media.type not in types or len(media.content) > 2 * MOST_BYTES:
        return False
    if not re.fullmatch(r"[A-Za-z0-9+/=]+", media.content):
        return False
    try:
        base64.b64decode(media.content, validate=True)
    except binascii.Error:
        return False
    return True


def _percent(share: float) -> str:
    return f"{100 * share:.0f}&nbsp;%"
