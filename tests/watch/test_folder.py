"""Which files of a folder are given, and when."""

import os
import threading

import pytest

from edvit_tf.device.errors import InputError
from edvit_tf.device.model.image import ImageSpec
from edvit_tf.errors import SourceError
from edvit_tf.watch import folder as module
from edvit_tf.watch.folder import Folder
from tests.support.made_bundle import MEL


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


def test_what_the_fleet_takes_its_time_for_makes_no_look_rarer(monkeypatch, tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    seconds = 0.0
    waits = []

    class Stop(threading.Event):
        def wait(self, timeout=None):
            waits.append(timeout)
            if len(waits) == 3:
                self.set()
            return False

    def give(item) -> bool:  # as while a hub is away for ten minutes
        nonlocal seconds
        seconds += 600.0
        return True

    clock = type("time", (), {"monotonic": staticmethod(lambda: seconds)})
    monkeypatch.setattr(module, "time", clock)
    source = Folder(tmp_path, ImageSpec(8, 8, 3), lambda data: [data], True)
    source.run(give, Stop(), print)
    assert (seconds, waits) == (600.0, [module.LOOK_SECONDS] * 3)


def test_a_disk_that_is_unmounted_and_back_brings_nothing_new(monkeypatch, tmp_path):
    files = {"a": (5, 1), "in/b": (5, 2)}
    without_inner = {"a": (5, 1)}
    looks = [files, files, {}, files, files, without_inner, files, files]
    told, _ = given(monkeypatch, tmp_path, looks)
    assert told == [("a", 1), ("in/b", 1)]
    assert given(monkeypatch, tmp_path, [files, *looks], existing=False)[0] == []


def test_of_what_is_gone_so_much_is_known_and_no_more(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_MOST_GONE", 2)
    files = {name: (5, time_ns) for time_ns, name in enumerate("abc")}
    one = {"d": (5, 9)}
    told, _ = given(monkeypatch, tmp_path, [files, files, one, one, files | one, files | one])
    # three were gone, and two may be known
    assert [name for name, look in told if look > 1] == ["d", "a"]


def test_a_recording_too_large_for_memory_is_refused_with_the_figure(tmp_path):
    with open(tmp_path / "long.wav", "wb") as file:
        file.truncate(module._LARGEST_RECORDING_BYTES + 1)
    source = Folder(tmp_path, MEL, lambda data: [data], True)
    items: list = []
    stop = threading.Event()
    source.run(lambda item: items.append(item), stop, print)
    with pytest.raises(InputError, match="has 134217729 bytes; a recording may have 134217728"):
        items[0].values()
    os.truncate(tmp_path / "long.wav", 1000)
    assert items[0].values() == [bytes(1000)]
