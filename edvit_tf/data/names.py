"""Names of files and classes: shown on any terminal, matched whoever wrote them, and told apart by
whoever reads an answer.
"""

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from edvit_tf.device.model.manifest_checks import is_plain_text
from edvit_tf.errors import DataError

_LONGEST_PATH = 4096  # bytes; a longer one names nothing
# What nobody sees: Unicode's Default_Ignorable_Code_Point (spaces and joiners of no width, marks of
# direction, variants, fillers). Behind a black flag tags make the flag of a region, which is seen.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e001f\U000e0080-\U000e0fff]"
    "|(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0020-\U000e007f]+"
)
_BLANK = "\u2800"  # of Braille: no space to Unicode, and one to the eye


def printable(name: str) -> str:
    """A file's name to print and to store: a byte that is not UTF-8 as \\xe9, a control character
    as \\r.
    """
    try:
        # Python keeps a byte that is not UTF-8 as a lone surrogate, which no file can store.
        text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a lone surrogate of another kind, as Windows allows
        text = name.encode("utf-8", "backslashreplace").decode("utf-8")

    shown = []
    for character in text:
        is_control = unicodedata.category(character) == "Cc"
        shown.append(repr(character)[1:-1] if is_control else character)
    return "".join(shown)


def named(data: Mapping) -> str:
    """A data set as a page names it: "name (source)", and once where these are the same, as of
    data of one's own.
    """
    name, source = data["name"], data["source"]
    return name if source == name else f"{name} ({source})"


def one_form(name: str) -> str:
    """A name with its accents as one character each (NFC), as Linux and Windows write them; macOS
    stores the accent by itself. Names are matched in this form.
    """
    return unicodedata.normalize("NFC", name)


def alike(name: str) -> str:
    """What two names share that only a computer tells apart: another composition of accents (NFC,
    NFD), letters of another size, more or other spaces, characters that are not seen. "" of a name
    that nobody sees.
    """
    seen = _UNSEEN.sub("", name).replace(_BLANK, " ")
    folded = unicodedata.normalize("NFKC", seen).casefold()
    # folding takes letters apart; the dot of a large Turkish i is left behind
    folded = unicodedata.normalize("NFKC", folded).replace("i\u0307", "i")
    return " ".join(folded.split())


def spelled(name: str) -> str:
    """A name to print where it is to be told from one that looks like it: what is not seen as
    \\u200b.
    """
    return _UNSEEN.sub(lambda unseen: ascii(unseen[0])[1:-1], printable(name))


def class_labels(named: Mapping[Path, str]) -> dict[Path, str]:
    """The label of each class folder; `named` has the part of its name that is to be one.

    A label is a line of labels.txt, and what an answer says. DataError for a name that is no line
    of UTF-8 text.
    """
    labels = {}
    for folder, name in named.items():
        if not names_a_class(name):
            raise DataError(
                f"The class folder '{spelled(folder.name)}' in {printable(str(folder.parent))} "
                "cannot give its class a name: a name is one line of UTF-8 text that is seen, "
                "without control characters. Rename the folder (where a zip was packed on Windows: "
                "convmv -f cp1252 -t utf8)."
            )
        labels[folder] = name
    return labels


def names_a_class(name: str) -> bool:
    """Whether a name is a label that the bundle's manifest may hold, and is to be seen."""
    return bool(alike(name)) and is_plain_text(name)


def check_apart(named: Mapping[Path, str]) -> None:
    """DataError for two class folders of one name: what lies in them is one class, or two that
    nobody could tell apart.
    """
    first: dict[str, Path] = {}
    for folder, name in named.items():
        other = first.setdefault(alike(name), folder)
        if other != folder:
            raise DataError(
                f"Two class folders have one name, '{spelled(other.name)}' and "
                f"'{spelled(folder.name)}' in {printable(str(folder.parent))} (small and capital "
                "letters, spaces, how accents are stored, and what is not seen make no "
                "difference). Put what belongs to one class into one folder, or rename one of "
                "them."
            )


def names_a_file(argument: str) -> bool:
    """Whether what was given in the place of a text names a file: one that is there, or what has
    the form of a path (no spaces, and a slash or a suffix of texts).
    """
    if len(os.fsencode(argument)) > _LONGEST_PATH or "\0" in argument or "\n" in argument:
        return False
    has_form = len(argument.split()) == 1 and ("/" in argument or argument.endswith(".txt"))
    return has_form or os.path.lexists(os.path.expanduser(argument))


def few(names: Sequence[str], room: int, what: str) -> str:
    """All names where they fit into so many characters; else how many `what` there are, and the
    first few of them, one at least.

    Example: "25 classes: accordion, airplanes, ..."
    """
    whole = ", ".join(names)
    if len(whole) <= room or len(names) == 1:
        return whole

    shown = f"{len(names)} {what}: {names[0]}"
    for name in names[1:]:
        longer = f"{shown}, {name}"
        if len(longer) + len(", ...") > room:
            break
        shown = longer
    return f"{shown}, ..."
