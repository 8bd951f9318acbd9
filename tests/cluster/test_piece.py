"""What a worker reads: the run's own folder where it sees that, else what it was sent."""

import builtins
import json
import os
import socket
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from edvit_tf.cluster import piece as pieces_room
from edvit_tf.cluster.engine import Resources, Task
from edvit_tf.cluster.heard import WELCOME, Ear, prints_told, telling
from edvit_tf.cluster.piece import LOCK, Blind, Failed, Made, Piece, do, marked
from edvit_tf.device.model.file_lock import hold
from edvit_tf.progress import listening, tell
from edvit_tf.progress.screens import JsonLines
from tests.cluster.test_local import Kept
from tests.support import pieces


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces_room, "_place", None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setitem(os.environ, "TF_NUM_INTRAOP_THREADS", "1")
    monkeypatch.setitem(os.environ, "TF_NUM_INTEROP_THREADS", "1")
    (tmp_path / "work" / "a").mkdir(parents=True)
    (tmp_path / "work" / "a" / "one").write_bytes(b"1")
    yield tmp_path / "work"
    pieces_room._leave()
    assert list((tmp_path / "temporary").iterdir()) == []


def a_piece(folder: Path, word: str, function=pieces.join, **spec) -> Piece:
    spec = spec or {"names": ["a/one"]}
    task = Task("t", f"{pieces.HERE}:{function.__name__}", spec, ("a/one",), Resources(cpus=3))
    return Piece(task, str(folder), word, None)


def test_a_folder_that_is_seen_is_read_and_nothing_fetched(folder):
    with marked(folder) as word:
        made = do(a_piece(folder, word), lambda: pytest.fail("fetched"))
    assert made == Made(
        {"joined": b"1"}, {"read": str(folder), "threads": "3"}, socket.gethostname()
    )


def test_a_copy_at_the_same_place_is_not_taken_for_the_folder(folder):
    with marked(folder) as word:
        pass
    with marked(folder) as other:
        assert other != word
        assert isinstance(do(a_piece(folder, word)), Blind)


def test_a_file_that_comes_late_to_a_shared_folder_makes_it_blind(folder):
    with marked(folder) as word:
        (folder / "a" / "one").unlink()
        assert isinstance(do(a_piece(folder, word)), Blind)


def test_what_is_sent_is_kept_for_the_next_piece_of_the_same_run(folder):
    asked = []

    def fetch() -> dict[str, bytes]:
        asked.append(1)
        return {"a/one": b"sent"}

    for _ in range(2):
        made = do(a_piece(folder, "another machine's"), fetch)
        assert made.files == {"joined": b"sent"} and made.result["read"] != str(folder)
    assert len(asked) == 1
    do(a_piece(folder, "another run's"), fetch)
    (own,) = (folder.parent / "temporary").iterdir()
    assert len(asked) == 2
    assert sorted(one.name for one in own.iterdir()) == ["another run's", LOCK]


def test_what_a_killed_worker_has_left_is_removed_by_the_next(folder):
    temporary = folder.parent / "temporary"
    gone, at_work, new = (temporary / f"edvit-piece-{name}" for name in ("x", "y", "z"))
    for one in (gone, at_work, new):
        one.mkdir()
    (gone / LOCK).touch()
    with open(at_work / LOCK, "w") as lock, marked(folder) as word:
        assert hold(lock, patience_seconds=0)
        do(a_piece(folder, word))
        assert at_work.is_dir() and new.is_dir() and not gone.exists()
    at_work.joinpath(LOCK).unlink()
    for one in (at_work, new):
        one.rmdir()


def test_an_error_names_the_folder_that_the_user_knows(folder):
    piece = a_piece(folder, "another machine's", pieces.go_astray)
    piece = replace(piece, task=replace(piece.task, spec={}))
    found = do(piece, lambda: {"a/one": b"1"})
    assert isinstance(found, Failed) and found.kind == "TrainingError"
    assert found.words == f"the loss is no number, in {folder}"


def test_who_does_not_know_the_secret_is_not_heard():
    kept = Kept()
    with listening(kept), Ear("127.0.0.1") as ear:
        with telling(replace(ear.address, secret="0" * 64), "a"):
            tell("a lie")
        with telling(ear.address, "b"):
            tell("the truth")
    assert [event.text for event in kept.events] == ["the truth"]


def test_what_the_threads_of_a_library_print_is_told_and_what_shows_it_is_printed(
    capsys, monkeypatch
):
    kept = Kept()
    library = ModuleType("library.inner")
    code = """
import builtins
its_print = builtins.print
def replaced(*words, **options): its_print(*words, **options)
def say(): print("\\x1b[33m(node)\\x1b[0m is dead\\nfor good")
"""
    exec(code, library.__dict__)
    # as Ray does: then whoever prints seems to be the library
    monkeypatch.setattr(builtins, "print", library.replaced)
    with listening(kept, JsonLines()), prints_told("library"):
        for what in (library.say, lambda: print("ours")):
            thread = threading.Thread(target=what)
            thread.start()
            thread.join()
    assert [event.text for event in kept.events] == ["(node) is dead", "for good"]
    *told, ours = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["text"] for line in told] == ["(node) is dead", "for good"]
    assert ours == "ours"


def test_words_that_are_no_events_end_the_connection_and_no_more():
    kept = Kept()
    with listening(kept), Ear("127.0.0.1") as ear:
        address = ear.address
        with socket.create_connection((address.host, address.port), 5) as one:
            one.sendall(address.secret.encode() + b"\n[1]\n")
            assert one.recv(1) == WELCOME and one.recv(1) == b""  # closed
        with telling(address, "b"):
            tell("the truth")
    assert [event.text for event in kept.events] == ["the truth"]


def test_a_worker_goes_on_where_nobody_listens_any_more(capfd):
    with Ear("127.0.0.1") as ear:
        address = ear.address
    with telling(address, "a"):
        tell("nobody hears")
    assert capfd.readouterr() == ("", "")


def test_where_nobody_can_be_told_the_worker_is_not_held_up():
    class Closed:
        def hear(self, event):
            raise BrokenPipeError

    with Ear("127.0.0.1") as ear, listening(Closed()):
        address = ear.address
        with socket.create_connection((address.host, address.port), 5) as one:
            said = b'{"kind": "note", "text": "a step", "facts": {}}\n'
            one.sendall(address.secret.encode() + b"\n" + said)
            assert one.recv(1) == WELCOME and one.recv(1) == b""  # closed
