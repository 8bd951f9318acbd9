"""Lists that people make: whatever editor wrote them, what they hold out is held out."""

import os

import pytest

from edvit_tf import data
from edvit_tf.data import lists
from edvit_tf.data.lists import read_list, recording_key
from edvit_tf.errors import DataError
from tests.support.data_files import tone, write_speech, write_wav

SPOKEN = ("stop", "turn on", "yes")
OPTIONS = {"image_size": (8, 8), "num_words": 3, "window_seconds": 0.1}


@pytest.fixture
def spoken(tmp_path):
    """Three words of ten recordings, each by a speaker of its own: nothing but the lists tells that
    two of each are to be held out.
    """
    for w, word in enumerate(SPOKEN):
        for n in range(10):
            path = tmp_path / word / f"{10 * w + n:08x}_nohash_0.wav"
            write_wav(path, tone(1600, 0.01 * (w + 1)), 16_000)
    return tmp_path


def listed(place: int) -> list[str]:
    return [f"{word}/{10 * w + place:08x}_nohash_0.wav" for w, word in enumerate(SPOKEN)]


def write_lists(folder, change=lambda line: line, encoding="utf-8", end="\n"):
    for name, place in (("testing_list.txt", 0), ("validation_list.txt", 1)):
        text = end.join(change(line) for line in listed(place)) + end
        (folder / name).write_bytes(text.encode(encoding))


WRITTEN = {
    "as it is": {},
    "a byte-order mark": {"encoding": "utf-8-sig"},
    "UTF-16": {"encoding": "utf-16"},
    "UTF-32": {"encoding": "utf-32"},
    "lines of Windows": {"end": "\r\n"},
    "lines of an old Macintosh": {"end": "\r"},
    "empty lines": {"end": "\n\n"},
    "from here": {"change": lambda line: f"./{line}"},
    "backslashes": {"change": lambda line: line.replace("/", "\\")},
    "whole paths": {"change": lambda line: f"/data/speech_commands/{line}"},
    "whole paths of Windows": {"change": lambda line: "D:\\data\\" + line.replace("/", "\\")},
    "two slashes": {"change": lambda line: line.replace("/", "//")},
    "spaces around": {"change": lambda line: f"  {line}\t"},
    "quotes": {"change": lambda line: f'"{line}"'},
    "no suffix": {"change": lambda line: line.removesuffix(".wav")},
    "another suffix": {"change": lambda line: line.replace(".wav", ".FLAC")},
    "capital letters": {"change": str.upper},
}


@pytest.mark.parametrize("how", WRITTEN)
def test_however_a_list_is_written_what_it_names_is_not_trained_on(spoken, how):
    write_lists(spoken, **WRITTEN[how])
    loaded = data.load("speech_commands", spoken, **OPTIONS)
    names = {split: [f"{name}.wav" for name in loaded.split_ids(split)] for split in loaded.splits}
    assert names["test"] == listed(0)
    assert names["validation"] == listed(1)
    assert len(names["train"]) == 24 and loaded.notes == []


def test_a_list_may_have_capital_letters_in_its_name(spoken):
    write_lists(spoken)
    (spoken / "testing_list.txt").rename(spoken / "Testing_List.TXT")
    loaded = data.load("speech_commands", spoken, **OPTIONS)
    assert [f"{name}.wav" for name in loaded.split_ids("test")] == listed(0)


@pytest.mark.parametrize("name", ["testing_list.txt.txt", "test.csv", "held out.lst"])
def test_a_list_of_another_name_is_not_passed_over(spoken, name):
    write_lists(spoken)
    held_out = (spoken / "testing_list.txt").read_text().splitlines()
    (spoken / "testing_list.txt").unlink()
    (spoken / name).write_text("\n".join(f"{line},yes" for line in held_out))
    with pytest.raises(DataError, match=r"lists 3 recordings, and there is no testing_list\.txt"):
        data.load("speech_commands", spoken, **OPTIONS)


def test_other_texts_beside_a_drawn_split_are_no_lists(spoken):
    (spoken / "README.txt").write_text("Recorded in May.\nyes/ is yes.\n")
    (spoken / "train_list.txt").write_text("\n".join(listed(3)))
    (spoken / "speakers.csv").write_text("name,age\nyes,3\n")
    loaded = data.load("speech_commands", spoken, **OPTIONS)
    assert len(loaded.recordings("test")) > 0


FOREIGN = {
    "a zero byte": b"yes\0no",
    "UTF-16 that is cut": b"\xff\xfey\0e",
    "too long": b"yes/a.wav\n" * (lists.MAX_LIST_BYTES // 10 + 1),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_file_that_is_no_list_is_passed_over_with_a_note(spoken, what, capsys):
    (spoken / "features.csv").write_bytes(FOREIGN[what])
    loaded = data.load("speech_commands", spoken, **OPTIONS)
    (note,) = [note for note in loaded.notes if "features" in note]
    assert note == f"{spoken.name}/features.csv is not looked into: it is no list of recordings"
    assert f"WARNING: {note}\n" in capsys.readouterr().err
    assert len(loaded.recordings("test")) > 0


def test_a_foreign_file_that_may_not_be_read_is_passed_over(spoken, monkeypatch):
    """Root may read all files, so the refusal of the system is made up."""
    (spoken / "features.csv").write_text("yes/a.wav")

    def closed(path, *rest):
        if "features" in str(path):
            raise PermissionError(13, "Permission denied")
        return open(path, *rest)

    monkeypatch.setattr(lists, "open", closed, raising=False)
    loaded = data.load("speech_commands", spoken, **OPTIONS)
    assert any("features.csv is not looked into" in note for note in loaded.notes)


def test_of_a_file_without_end_no_more_is_read_than_a_list_has(tmp_path):
    path = tmp_path / "testing_list.txt"
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # no byte of it is on the disk
    with pytest.raises(DataError, match="has more than 16 MiB"):
        read_list(path, (".wav",))


def test_a_pipe_in_the_place_of_a_list_is_not_waited_for(spoken):
    write_lists(spoken)
    (spoken / "testing_list.txt").unlink()
    os.mkfifo(spoken / "testing_list.txt")
    with pytest.raises(DataError, match=r"testing_list\.txt cannot be read \(it is no file\)"):
        data.load("speech_commands", spoken, **OPTIONS)


def test_an_accent_may_be_stored_in_two_ways(tmp_path):
    """macOS wrote the list, Linux the folder."""
    write_speech(tmp_path, words=("cafe\u0301", "no"), lists=False)
    for name, speaker in (("testing_list.txt", 0), ("validation_list.txt", 1)):
        lines = [f"{word}/{speaker:08x}_nohash_0.wav" for word in ("caf\u00e9", "no")]
        (tmp_path / name).write_text("\n".join(lines), encoding="utf-8")
    loaded = data.load("speech_commands", tmp_path, image_size=(8, 8), num_words=2)
    assert loaded.labels == ("cafe\u0301", "no")
    assert {r.group for r in loaded.recordings("test")} == {"00000000"}
    assert len(loaded.recordings("train")) == 16


def test_bytes_that_are_no_utf_8_match_the_same_bytes(tmp_path):
    """A list and folders packed on an old Windows; the name is no label, but two others are."""
    key = recording_key("caf\udce9/a.wav", (".wav",))
    path = tmp_path / "testing_list.txt"
    path.write_bytes(b"caf\xe9/a.wav\n")
    assert list(read_list(path, (".wav",))) == [key]


def test_lines_that_name_nothing_are_counted_and_named(spoken, capsys):
    write_lists(spoken)
    with open(spoken / "testing_list.txt", "a") as file:
        file.write("yes/ffffffff_nohash_0.wav\n/somewhere/else/stop/gone.wav\n")
    loaded = data.load("speech_commands", spoken, **OPTIONS)
    note = (
        "2 of 5 lines of testing_list.txt name no recording, e.g. yes/ffffffff_nohash_0.wav, "
        "stop/gone.wav"
    )
    assert loaded.notes == [note]
    assert capsys.readouterr().err == f"WARNING: {note}\n"
    assert len(loaded.recordings("test")) == 3


def test_words_that_are_not_taken_are_no_lines_that_name_nothing(spoken):
    write_wav(spoken / "up/0000ffff_nohash_0.wav", tone(1600), 16_000)
    write_lists(spoken)
    with open(spoken / "testing_list.txt", "a") as file:
        file.write("up/0000ffff_nohash_0.wav\n")
    assert data.load("speech_commands", spoken, **OPTIONS).notes == []


def add_lines(folder, words, speakers=range(8)):
    with open(folder / "testing_list.txt", "a") as file:
        for word in words:
            file.writelines(f"{word}/{n:08x}_nohash_0.wav\n" for n in speakers)


def test_who_keeps_some_words_of_an_official_list_has_it_matched(spoken, capsys):
    write_lists(spoken)
    add_lines(spoken, ("bed", "cat"))
    loaded = data.load("speech_commands", spoken, **OPTIONS)
    note = (
        "16 of 19 lines of testing_list.txt are of class folders that are not there, e.g. "
        "bed/00000000_nohash_0.wav, bed/00000001_nohash_0.wav, bed/00000002_nohash_0.wav"
    )
    assert loaded.notes == [note]
    assert capsys.readouterr().err == f"WARNING: {note}\n"
    assert [f"{name}.wav" for name in loaded.split_ids("test")] == listed(0)


def test_lines_of_words_that_are_there_are_counted_without_the_others(spoken):
    write_lists(spoken)
    add_lines(spoken, ("yes",), range(0xF0, 0xF4))
    add_lines(spoken, ("bed", "cat"))
    with pytest.raises(DataError, match="20 of 23 lines .* name no recording there: yes/000000f0"):
        data.load("speech_commands", spoken, **OPTIONS)


def test_a_list_of_other_words_alone_is_refused(spoken):
    write_lists(spoken)
    (spoken / "testing_list.txt").unlink()
    add_lines(spoken, ("bed", "cat"))
    with pytest.raises(DataError, match="16 of 16 lines .* name no recording there: bed/0"):
        data.load("speech_commands", spoken, **OPTIONS)


def test_an_official_list_of_another_name_is_known_by_the_words_that_are_kept(spoken):
    write_lists(spoken)
    add_lines(spoken, ("bed", "cat"))
    (spoken / "testing_list.txt").rename(spoken / "testing_list.txt.txt")
    with pytest.raises(DataError, match=r"lists 3 recordings, and there is no testing_list\.txt"):
        data.load("speech_commands", spoken, **OPTIONS)


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.split("/")[1],  # the file's name alone
        lambda line: line.replace("/", " "),
        lambda line: line.replace(".wav", ".wav,1"),
        lambda line: line.replace("_nohash_", "_"),
    ],
)
def test_a_list_of_which_most_lines_name_nothing_is_refused(spoken, change):
    write_lists(spoken, change)
    with pytest.raises(DataError, match=r"3 of 3 lines of .*testing_list\.txt name no recording"):
        data.load("speech_commands", spoken, **OPTIONS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfey\x00e\x00s", "no UTF-16 text"),
        ("yes/a.wav".encode("utf-16-le"), "zero bytes.*UTF-8"),
        (b"\x00\x01\x02", "zero bytes.*UTF-8"),
    ],
)
def test_what_is_no_text_is_refused(spoken, content, message):
    write_lists(spoken)
    (spoken / "testing_list.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        data.load("speech_commands", spoken, **OPTIONS)


def test_a_list_that_is_lost_is_not_taken_for_one_that_was_never_made(spoken):
    write_lists(spoken)
    (spoken / "testing_list.txt").unlink()
    (spoken / "testing_list.txt").symlink_to("/nowhere/testing_list.txt")
    with pytest.raises(DataError, match=r"testing_list\.txt cannot be read"):
        data.load("speech_commands", spoken, **OPTIONS)


def test_a_recording_in_both_lists_is_refused(spoken):
    write_lists(spoken)
    with open(spoken / "validation_list.txt", "a") as file:
        file.write(f"./{listed(0)[2]}\n")
    with pytest.raises(DataError, match=r"1 recording is in both lists .*yes/00000014_nohash_0"):
        data.load("speech_commands", spoken, **OPTIONS)
