"""Which files of a folder are given, and when."""

import threading

import pytest

from edvit_tf.device.model.image import ImageSpec
from edvit_tf.errors import SourceError
from edvit_tf.watch import folder as module
from edvit_tf.watch.folder import Folder


def given(monkeypatch, path, looks: list, existing: bool = True) -> tuple[list, list[str]]:
    """(names and looks at which they came, words) of a folder that looks so, one after another: a
    dict of name: (size, time), or an OSError.
    """
    told, words = [], []
    stop = threading.Event()
    left = iter(looks)
    number = -1

    def files(_):
        nonlocal number
        number += 1
        look = next(left, None)
        if look is None:
            stop.set()
            return {}.items()
        if isinstance(look, OSError):
            raise look
        return {name: module._State(*state) for name, state in look.items()}.items()

    monkeypatch.setattr(module, "_files", files)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    source = Folder(path, ImageSpec(8, 8, 3), lambda data: [data], existing)
    source.run(lambda item: told.append((item.name, number)) or True, stop, words.append)
    return told, words


def test_a_file_that_grows_waits_until_it_stays_as_it_is(monkeypatch, tmp_path):
    looks = [{"a": (size, size)} for size in (0, 10, 20, 30, 30, 30)]
    assert given(monkeypatch, tmp_path, looks) == ([("a", 4)], [])


def test_one_that_is_written_anew_is_new_and_the_oldest_comes_first(monkeypatch, tmp_path):
    both = {"a": (5, 2), "b": (5, 1)}
    again = {"a": (5, 3), "b": (5, 1)}
    told, _ = given(monkeypatch, tmp_path, [both, both, both, again, again])
    assert told == [("b", 1), ("a", 1), ("a", 4)]


def test_what_was_there_before_is_left_alone_unless_it_is_asked_for(monkeypatch, tmp_path):
    old, new = {"a": (5, 1)}, {"a": (5, 1), "b": (5, 2)}
    # the first look is the one that finds out what is there
    told, _ = given(monkeypatch, tmp_path, [old, old, new, new], existing=False)
    assert told == [("b", 3)]


def test_a_folder_that_goes_away_is_said_once_and_once_when_it_is_back(monkeypatch, tmp_path):
    gone = OSError(5, "Input/output error")
    file = {"a": (5, 1)}
    told, words = given(monkeypatch, tmp_path, [file, gone, gone, file, file])
    assert told == [("a", 3)] and len(words) == 2
    assert "cannot be looked at, going on" in words[0] and "again" in words[1]


def test_no_folder_is_one_error(tmp_path):
    with pytest.raises(SourceError, match="is no folder"):
        Folder(tmp_path / "none", ImageSpec(8, 8, 3), lambda data: [data], False)
