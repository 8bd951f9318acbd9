"""Folders as people have them: what is in them is found, and what is wrong is said."""

import os
import random
import shutil
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edvit_tf import data
from edvit_tf.data.audio import load_samples
from edvit_tf.data.folder import survey
from edvit_tf.errors import ConfigError, DataError
from tests.support.commands import run_python
from tests.support.data_files import tone, write_sound, write_wav


def write_picture(path, seed=0, size=(12, 10), mode="RGB", taken=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    more = {}
    if taken is not None:
        exif = Image.Exif()
        exif[0x0132] = taken.strftime("%Y:%m:%d %H:%M:%S")
        more["exif"] = exif
    Image.fromarray(pixels).convert(mode).save(path, **more)
    return path


def write_pictures(folder, each=6, names=("cat", "dog"), suffixes=(".png",)):
    for c, name in enumerate(names):
        for i in range(each):
            suffix = suffixes[i % len(suffixes)]
            write_picture(folder / name / f"IMG {i:03d}{suffix}", seed=1000 * c + i)
    return folder


def write_sounds(folder, each=6, suffix=".wav", rate=8000):
    for c, name in enumerate(("bell", "drum")):
        for i in range(each):
            samples = tone(rate * (1 + i % 3), 0.05 * (c + 1) + 0.001 * i)
            write_sound(folder / name / f"r{i}{suffix}", samples, rate)
    return folder


def load(folder, **options):
    return data.load("folder", folder, **{"image_size": (8, 8), **options})


def test_pictures_of_all_kinds_and_sizes_are_one_data_set(tmp_path):
    folder = write_pictures(tmp_path / "my pets", 10, suffixes=(".png", ".JPG", ".webp", ".bmp"))
    write_picture(folder / "cat" / "wide.gif", seed=77, size=(40, 9))
    (folder / "cat" / "notes.txt").write_text("of cats")
    found = survey(folder)
    assert (found.name, found.kind, found.labels) == ("my pets", "pictures", ("cat", "dog"))
    assert found.per_class == {"cat": 11, "dog": 10} and max(found.sides) == 10
    assert any("notes.txt" in note for note in found.notes)

    loaded = load(folder)
    assert loaded.name == "my pets" and loaded.spec.shape == (8, 8, 3)
    assert {s: len(r) for s, r in loaded.splits.items()} == {
        "train": 15,
        "validation": 2,
        "test": 4,
    }
    seen = [x.shape for split in loaded.splits for x, _, _ in loaded.iterate(split)]
    assert seen == [(8, 8, 3)] * 21


def test_grey_pictures_stay_grey(tmp_path):
    for c in "ab":
        for i in range(4):
            write_picture(tmp_path / c / f"{i}.png", seed=ord(c) + 9 * i, mode="L")
    assert load(tmp_path).spec.channels == 1
    assert load(tmp_path, channels=3).spec.channels == 3


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_sound_of_each_format_is_cut_into_windows_of_its_own_rate(tmp_path, suffix):
    folder = tmp_path / "sounds"
    for c, name in enumerate(("bell", "drum")):
        for i in range(4):
            path = folder / name / f"r{i}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            samples = tone(8000 * (1 + i), 0.1 * (c + 1) + 0.01 * i)
            if suffix in (".ogg", ".mp3"):
                import soundfile

                soundfile.write(path, samples, 8000)
            else:
                write_sound(path, samples, 8000)
    loaded = load(folder, window_seconds=1.0)
    assert loaded.spec.sample_rate_hz == 8000 and loaded.spec.window_samples == 8000
    assert loaded.spec.n_fft == 1024
    windows = {r.id: r.num_windows for s in loaded.splits for r in loaded.recordings(s)}
    # the last block of compressed sound may be a little longer
    assert [windows[f"bell/r{i}{suffix}"] for i in range(4)] == [1, 2, 3, 4]
    read = [x for split in loaded.splits for x, _, _ in loaded.iterate(split)]
    assert len(read) == 20 and not loaded.skipped
    # a tone, and not silence
    assert all(x.max() > x.min() + 10 for x in read)


@pytest.mark.parametrize(
    ("lengths", "window"),
    [([0.93, 0.98, 1.0, 1.0], 1.0), ([1, 2, 3], 2.0), ([12, 12, 30], 2.0), ([0.1, 0.2, 0.2], 0.5)],
)
def test_the_window_is_as_long_as_a_sound_is(tmp_path, lengths, window):
    for c, name in enumerate(("bell", "drum")):
        for i, seconds in enumerate(lengths):
            samples = tone(round(4000 * seconds), 0.1 + 0.2 * c + 0.01 * i)
            write_wav(tmp_path / name / f"{i}.wav", samples, 4000)
    assert survey(tmp_path).window_seconds == window


def test_rates_and_channels_are_mixed_and_the_most_common_rate_is_kept(tmp_path):
    folder = write_sounds(tmp_path / "sounds", 6, rate=16000)
    stereo = np.stack([tone(44100), tone(44100)], axis=1)
    write_wav(folder / "bell" / "phone.wav", stereo, 44100)
    loaded = load(folder)
    assert loaded.spec.sample_rate_hz == 16000
    assert any("1 recording of 44100 Hz is resampled" in note for note in loaded.notes)
    where = {r.where.name: (s, r) for s in loaded.splits for r in loaded.recordings(s)}
    _, recording = where["phone.wav"]
    assert loaded.read([recording]).shape == (1, 8, 8, 1)
    # the tone stays what it was
    samples, wanted = load_samples(recording.where, 16000), tone(16000, 0.05 * 44100 / 16000)
    assert samples.shape == wanted.shape and samples.dtype == np.float32
    np.testing.assert_allclose(samples[500:-500], wanted[500:-500], atol=1e-3)


def test_both_kinds_are_counted_and_one_is_asked_for(tmp_path):
    write_pictures(tmp_path, 5, names=("bell", "drum"))
    write_sounds(tmp_path, 4)
    with pytest.raises(DataError, match=r"10 pictures .* and 8 recordings .*--kind pictures or"):
        survey(tmp_path)
    assert survey(tmp_path, kind="sound").per_class == {"bell": 4, "drum": 4}
    chosen = survey(tmp_path, kind="pictures")
    assert len(chosen.files) == 10 and any("8 files" in note for note in chosen.notes)


def one_class(folder):
    write_pictures(folder, names=("cat",))


def no_class(folder):
    write_picture(folder / "a.png")
    write_picture(folder / "b.png")


def beside(folder):
    write_pictures(folder)
    write_picture(folder / "stray.png")


def nested(folder):
    write_pictures(folder)
    write_picture(folder / "cat" / "tabby" / "a.png")


def one_deeper(folder):
    write_pictures(folder / "archive")


def empty_class(folder):
    write_pictures(folder)
    (folder / "wolf").mkdir()


def class_of_notes(folder):
    write_pictures(folder)
    (folder / "wolf").mkdir()
    (folder / "wolf" / "a.txt").write_text("howls")


def class_of_one(folder):
    write_pictures(folder)
    write_picture(folder / "wolf" / "a.png", seed=5)


def class_of_copies(folder):
    write_pictures(folder)
    for i in range(5):
        write_picture(folder / "wolf" / f"{i}.png", seed=99)


def mostly_broken(folder):
    write_pictures(folder, 5)
    for path in sorted(folder.glob("*/*.png"))[:8]:
        path.write_bytes(b"no picture at all")


def mostly_torn_headers(folder):
    write_pictures(folder, 5)
    for path in sorted(folder.glob("*/*.png"))[:8]:
        path.write_bytes(path.read_bytes()[:12])


def alike(folder):
    write_pictures(folder, names=("Cat", "cat", "dog"))


def trained_beside(folder):
    write_pictures(folder / "train")
    write_pictures(folder, names=("wolf",))


def never_trained(folder):
    write_pictures(folder / "train")
    write_pictures(folder / "test", names=("cat", "wolf"))


def documents_alone(folder):
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        (folder / name / "x.pdf").write_text("text")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (one_class, "has one class, 'cat'"),
        (no_class, "2 files and no class folders"),
        (beside, "1 file lies beside the class folders of here, e.g. stray.png"),
        (nested, r"here/cat holds folders \(tabby\).*Move their files up"),
        (one_deeper, r"here/archive holds folders \(cat, dog\).*Give .*archive"),
        (empty_class, "here/wolf is empty"),
        (class_of_notes, "'wolf' in here holds no pictures"),
        (class_of_one, "The class 'wolf' of here has 1 picture in 1 group; 3 groups"),
        (class_of_copies, "The class 'wolf' of here has 5 pictures in 1 group;"),
        (mostly_broken, "8 of 10 recordings of here cannot be read"),
        (mostly_torn_headers, "8 of 10 recordings of here cannot be read"),
        (alike, "'Cat' and 'cat', which nobody could tell apart"),
        (trained_beside, "holds train/ with classes in it, and beside it 'wolf'"),
        (never_trained, "'wolf' of here has no folder in train/"),
        (documents_alone, "none is a picture, a recording or a text, e.g. a/x.pdf"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(tmp_path, make, words):
    folder = tmp_path / "here"
    folder.mkdir()
    make(folder)
    before = sorted(folder.rglob("*"))
    with pytest.raises(DataError, match=words):
        survey(folder)
    assert sorted(folder.rglob("*")) == before


def test_a_folder_that_is_not_there_is_said(tmp_path):
    for name in ("absent", "x" * 300):
        with pytest.raises(DataError, match="there is no such folder"):
            survey(tmp_path / name)


def test_a_folder_that_may_be_listed_and_not_entered_is_an_error_of_its_files(
    tmp_path, monkeypatch
):
    folder = write_pictures(tmp_path, 2)
    (folder / "cat" / "no suffix").write_bytes(b"")
    stat = os.stat

    def denied(path, *args, **kwargs):
        if str(path).startswith(str(folder / "cat") + os.sep):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", denied)
    with pytest.raises(DataError, match="2 of 4 recordings .*Permission denied"):
        survey(folder)


def test_a_folder_of_unreadable_files_is_one_error_without_a_line_each(tmp_path, capsys):
    mostly_broken(tmp_path)
    with pytest.raises(DataError, match="8 of 10"):
        survey(tmp_path)
    assert capsys.readouterr().err == ""


def test_a_broken_file_among_many_is_named_and_left_out(tmp_path, capsys):
    folder = write_pictures(tmp_path, 15)
    (folder / "cat" / "IMG 003.png").write_bytes(b"torn")
    found = survey(folder)
    assert found.per_class == {"cat": 14, "dog": 15}
    assert [one.path.split("/")[-1] for one in found.skipped] == ["IMG 003.png"]
    assert "IMG 003.png" in capsys.readouterr().err


def test_three_hundred_classes_of_five_pictures_are_all_on_every_side(tmp_path):
    # the pixels do not matter here: one file, each with an end of its own
    content = write_picture(tmp_path / "one.png").read_bytes()
    for c in range(300):
        (tmp_path / "many" / f"c{c:03d}").mkdir(parents=True)
        for i in range(5):
            path = tmp_path / "many" / f"c{c:03d}" / f"{i}.png"
            path.write_bytes(content + f"{c} {i}".encode())
    loaded = load(tmp_path / "many")
    for split, each in (("train", 3), ("validation", 1), ("test", 1)):
        counts = np.bincount([r.label for r in loaded.recordings(split)])
        assert counts.tolist() == [each] * 300


def test_folders_of_a_split_are_kept_and_what_is_missing_is_drawn(tmp_path):
    write_pictures(tmp_path / "Train", 10)
    for c, name in enumerate(("cat", "dog")):
        for i in range(3):
            write_picture(tmp_path / "test" / name / f"{i}.png", seed=5000 + 100 * c + i)
    loaded = load(tmp_path)
    assert {r.id.split("/")[0] for r in loaded.recordings("test")} == {"test"}
    assert {r.id.split("/")[0] for r in loaded.recordings("validation")} == {"Train"}
    assert len(loaded.recordings("test")) == 6 and len(loaded.recordings("validation")) == 2
    assert any("no folder validation" in note for note in loaded.notes)


def test_a_copy_across_the_folders_of_a_split_is_refused(tmp_path):
    write_pictures(tmp_path / "train", 6)
    write_pictures(tmp_path / "test", 2)  # the very first two of train
    with pytest.raises(DataError, match="is both in the"):
        load(tmp_path)


def test_a_class_called_train_is_a_class(tmp_path):
    assert survey(write_pictures(tmp_path, names=("bus", "train"))).labels == ("bus", "train")


def sides_of(loaded):
    return {r.id: split for split in loaded.splits for r in loaded.recordings(split)}


def test_a_regular_expression_keeps_what_it_finds_on_one_side(tmp_path):
    for c in ("cat", "dog"):
        for site in range(8):
            for i in range(3):
                seed = ord(c[0]) * 100 + site * 3 + i
                write_picture(tmp_path / c / f"site{site}_{i}.png", seed=seed)
    for seed in range(4):
        sides = sides_of(load(tmp_path, group_by=r"(site\d+)_", seed=seed))
        for site in range(8):
            assert len({side for name, side in sides.items() if f"site{site}_" in name}) == 1
    # without it they are torn apart: the test could fail
    sides = sides_of(load(tmp_path))
    assert any(len({s for n, s in sides.items() if f"site{i}_" in n}) > 1 for i in range(8))


def test_pictures_of_a_burst_stay_on_one_side(tmp_path):
    start = datetime(2024, 5, 1, 9, 0, 0)
    for c in ("cat", "dog"):
        for burst in range(6):
            for i in range(3):
                taken = start + timedelta(hours=burst + 10 * (c == "dog"), minutes=2 * i)
                seed = ord(c[0]) * 100 + burst * 3 + i
                write_picture(tmp_path / c / f"{burst}{i}.jpg", seed=seed, taken=taken)
    write_picture(tmp_path / "cat" / "scan.jpg", seed=7)
    found = survey(tmp_path, group_by="exif:2")
    assert len(set(found.groups.values())) == 13
    assert any("tells nothing of 1 of 37 files" in note for note in found.notes)
    assert len(set(survey(tmp_path, group_by="exif:1.5").groups.values())) == 37
    endless = survey(tmp_path, group_by="exif:" + "9" * 400, is_divided=False)
    assert len(set(endless.groups.values())) == 2
    sides = sides_of(load(tmp_path, group_by="exif:2"))
    for c in ("cat", "dog"):
        for burst in range(6):
            assert len({sides[f"{c}/{burst}{i}.jpg"] for i in range(3)}) == 1


@pytest.mark.parametrize(
    ("group_by", "error", "words"),
    [
        ("(unclosed", ConfigError, "is no regular expression"),
        ("exif", ConfigError, "it must be exif:MINUTES"),
        ("exif:5", DataError, "tells nothing of 12 of 12 files"),
        (r"(\d{9})", DataError, "tells nothing of 12 of 12 files"),
    ],
)
def test_groups_that_cannot_be_made_are_said(tmp_path, group_by, error, words):
    with pytest.raises(error, match=words):
        survey(write_pictures(tmp_path), group_by=group_by)


def test_copies_are_one_group_and_those_in_two_classes_are_named(tmp_path):
    folder = write_pictures(tmp_path, 8)
    shutil.copy(folder / "cat" / "IMG 000.png", folder / "cat" / "again.png")
    shutil.copy(folder / "cat" / "IMG 001.png", folder / "dog" / "wrong.png")
    found = survey(folder)
    groups = {path.name: group for path, group in found.groups.items()}
    assert groups["again.png"] == "cat/IMG 000.png" and "IMG 001.png" in groups["wrong.png"]
    assert len(set(found.groups.values())) == 16
    assert any("2 files are copies" in note for note in found.notes)
    assert any("1 file is there in two classes" in note for note in found.notes)


def write_table(tmp_path, rows, header="file,label,group", separator=","):
    table = tmp_path / "birds.csv"
    lines = [header.replace(",", separator)] + [separator.join(row) for row in rows]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return table


def listed(tmp_path, each=6):
    rows = []
    for c, name in enumerate(("robin", "wren")):
        for i in range(each):
            path = write_picture(tmp_path / "raw" / f"{name}{i}.png", seed=50 * c + i)
            rows.append((f"raw/{path.name}", name, f"day{i // 2}"))
    return rows


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_says_class_and_group(tmp_path, separator):
    table = write_table(tmp_path, listed(tmp_path, 8), separator=separator)
    found = survey(table)
    assert (found.name, found.per_class) == ("birds", {"robin": 8, "wren": 8})
    assert len(set(found.groups.values())) == 4
    sides = sides_of(load(table))
    for day in range(4):
        mine = [f"raw/{n}{i}.png" for n in ("robin", "wren") for i in (2 * day, 2 * day + 1)]
        assert len({sides[name] for name in mine}) == 1


def key_of(loaded) -> list:
    """What tells one run from another (`pipeline/description.py`)."""
    ids = [loaded.split_ids(split) for split in loaded.splits]
    return [loaded.describe(), ids, loaded.contents()]


def test_corrected_labels_of_a_table_are_other_data(tmp_path):
    """Two were exchanged: counts, paths and bytes are what they were."""
    rows = [(file, label) for file, label, _ in listed(tmp_path, 8)]
    keys = []
    # the exchanged ones trained on, whatever the seed draws
    for exchanged in (False, True):
        table = write_table(tmp_path, rows, header="file,label")
        loaded = load(table, test_fraction=0.1)
        if not exchanged:
            trained = {r.id for r in loaded.recordings("train")}
            robin = next(i for i in range(8) if rows[i][0] in trained)
            wren = next(i for i in range(8, 16) if rows[i][0] in trained)
            rows[robin], rows[wren] = (rows[robin][0], "wren"), (rows[wren][0], "robin")
        keys.append(key_of(loaded))
    before, after = keys
    assert before[:2] == after[:2] and before[2] != after[2]


def test_the_order_of_a_table_s_rows_is_no_label(tmp_path):
    rows = listed(tmp_path, 8)
    one = load(write_table(tmp_path, rows)).rows_digest
    assert load(write_table(tmp_path, rows[::-1])).rows_digest == one


def test_folders_are_known_by_their_files_alone(tmp_path):
    """As they always were: a run goes on after an update."""
    loaded = load(write_pictures(tmp_path))
    files = [r.where for recordings in loaded.splits.values() for r in recordings]
    content = b"".join(sha256(file.read_bytes()).digest() for file in files)
    assert loaded.contents() == sha256(content).hexdigest()


def test_files_outside_the_folder_of_a_table_are_told_apart(tmp_path):
    rows = []
    for d, day in enumerate(("monday", "friday")):
        for c, name in enumerate(("robin", "wren")):
            for i in range(3):
                seed = 100 * d + 10 * c + i
                write_picture(tmp_path / day / name / f"{i}.png", seed=seed)
                rows.append((f"../{day}/{name}/{i}.png", name))
    (tmp_path / "lists").mkdir()
    found = survey(write_table(tmp_path / "lists", rows, header="file,label"))
    assert len(set(found.groups.values())) == 12
    assert found.files[0].key == "monday/robin/0.png"


def test_one_file_of_a_table_by_two_paths_is_one_file(tmp_path):
    rows = listed(tmp_path)
    again = [(f"raw/../{name}", label, group) for name, label, group in rows]
    found = survey(write_table(tmp_path, rows + again))
    assert len(found.files) == 12 and any("12 rows" in note for note in found.notes)
    with pytest.raises(DataError, match="both 'robin' and 'wren'"):
        survey(write_table(tmp_path, [*rows, (again[0][0], "wren", "")]))


def test_a_link_in_a_table_has_its_own_name(tmp_path):
    rows = listed(tmp_path)
    store = tmp_path / "store"
    store.mkdir()
    for i, (name, _, _) in enumerate(rows):
        (tmp_path / name).rename(store / str(i))
        (tmp_path / name).symlink_to(store / str(i))
    assert [file.key for file in survey(write_table(tmp_path, rows)).files] == [r[0] for r in rows]


def test_a_folder_that_is_only_tested_on_needs_no_groups(tmp_path):
    folder = write_pictures(tmp_path, 2)
    loaded = load(folder, group_by=r"(site\d+)_", all_for_test=True)
    assert len(loaded.recordings("test")) == 4


def test_unknown_files_of_a_table_are_counted_and_most_are_refused(tmp_path):
    rows = listed(tmp_path)
    table = write_table(tmp_path, [*rows, ("raw/gone.png", "wren", "day9")])
    assert any(
        "1 of 13 rows of birds.csv name files that are not there, e.g. raw/gone.png" in note
        for note in survey(table).notes
    )
    gone = [(f"gone{i}.png", "wren", "") for i in range(20)]
    with pytest.raises(DataError, match="20 of 32 rows of birds.csv name files that are not there"):
        survey(write_table(tmp_path, [*rows, *gone]))


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        ("path,label,group", ("x", "robin", ""), "has the columns .* and no file"),
        ("file,label,group", ("raw/robin0.png", "", ""), "Line 14 of birds.csv has no label"),
        ("file,label,group", ("raw/robin0.png", "wren", ""), "both 'robin' and 'wren'"),
        ("file,label,label", ("raw/robin0.png", "wren", ""), "'label' more than once"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path, header, row, words):
    table = write_table(tmp_path, [*listed(tmp_path), row], header=header)
    with pytest.raises(DataError, match=words):
        survey(table)


def test_large_pictures_are_looked_at_and_read_one_at_a_time(tmp_path):
    # 50 megapixels each; what is kept of one would be 150 MB
    Image.new("RGB", (8000, 6250), (90, 120, 30)).save(tmp_path / "one.jpg")
    content = (tmp_path / "one.jpg").read_bytes()
    for c in ("a", "b"):
        (tmp_path / "big" / c).mkdir(parents=True)
        for i in range(4):
            (tmp_path / "big" / c / f"{i}.jpg").write_bytes(content + f"{c}{i}".encode())
    code = f"""
import resource
from edvit_tf import data
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
loaded = data.load("folder", {str(tmp_path / "big")!r}, image_size=(64, 64))
started = peak()
read = loaded.iterate("train")
next(read); first = peak()
assert len(list(read)) == 3
print(first - started, peak() - first)
"""
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    first, others = map(float, done.stdout.split())
    assert first < 100 and others < 40


def test_too_many_pixels_for_a_decoder_are_skipped_by_the_header(tmp_path):
    folder = write_pictures(tmp_path, 12)
    bomb = Image.new("1", (20000, 6000))
    bomb.save(folder / "cat" / "bomb.png")
    found = survey(folder)
    assert [one.reason for one in found.skipped] == [
        "20000 x 6000 pixels; at most 100 megapixels are decoded"
    ]


def test_the_same_folder_is_split_the_same_and_the_seed_changes_it(tmp_path):
    folder = write_pictures(tmp_path, random.Random(0).randrange(12, 14))
    assert sides_of(load(folder, seed=3)) == sides_of(load(folder, seed=3))
    assert sides_of(load(folder, seed=3)) != sides_of(load(folder, seed=4))


def test_a_stand_in_is_refused(tmp_path):
    with pytest.raises(DataError, match="there is no stand-in"):
        load(tmp_path, synthetic="fallback")


@pytest.mark.parametrize("closed", ["", "cat"])
def test_a_folder_that_may_be_listed_and_not_entered_is_told_as_that(tmp_path, monkeypatch, closed):
    """Mode r--, which root would not notice."""
    write_pictures(tmp_path / "here")
    real, place = os.access, tmp_path / "here" / closed

    def access(path, mode, **more):
        return not (Path(path) == place and mode == os.X_OK) and real(path, mode, **more)

    monkeypatch.setattr(os, "access", access)
    with pytest.raises(DataError, match="can be listed and not entered.*chmod u.x"):
        survey(tmp_path / "here")


def test_one_is_counted_as_one(tmp_path):
    write_pictures(tmp_path / "here")
    found = survey(tmp_path / "here")
    assert found.counted(1) == "1 picture" and found.counted(0) == "0 pictures"
