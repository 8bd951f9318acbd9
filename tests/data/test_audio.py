"""GTZAN and Speech Commands: layouts, windows, splits, damaged files."""

import numpy as np
import pytest

from edvit_tf import data
from edvit_tf.data import audio, gtzan
from edvit_tf.device.model.decode_sound import decode_audio
from edvit_tf.device.model.sound import mel_input
from edvit_tf.errors import DataError
from tests.support.data_files import (
    GENRES,
    WORDS,
    cut_off,
    tone,
    write_gtzan,
    write_sound,
    write_speech,
    write_wav,
)

SMALL = {"image_size": (16, 16), "window_seconds": 0.1}  # of gtzan: windows of 2205 samples


def everything(dataset, split):
    rows = list(dataset.iterate(split))
    return np.stack([x for x, _, _ in rows]), [y for _, y, _ in rows], [i for _, _, i in rows]


@pytest.mark.parametrize("suffix", [".wav", ".au", ".flac"])
def test_gtzan_gives_every_window_of_every_track(tmp_path, suffix):
    folder = write_gtzan(tmp_path / "gtzan", num_samples=6000, suffix=suffix)
    loaded = data.load("gtzan", folder, **SMALL)
    assert loaded.labels == GENRES and loaded.spec.modality == "audio" and not loaded.synthetic
    assert loaded.source == "gtzan/genres"
    assert {s: len(r) for s, r in loaded.splits.items()} == {
        "train": 40,
        "validation": 10,
        "test": 10,
    }
    x, y, index = everything(loaded, "test")
    assert x.shape == (30, 16, 16, 1) and x.dtype == np.float32 and x.flags.c_contiguous
    assert loaded.size("test") == 30 and index == np.repeat(range(10), 3).tolist()
    recording = loaded.recordings("test")[4]
    assert y[12] == recording.label and recording.id.startswith(GENRES[recording.label])
    samples, _ = decode_audio(recording.where)
    bank = loaded.input_files["mel_filters.npy"]
    window = mel_input(samples[-2205:], loaded.spec, bank)  # right-aligned third window
    np.testing.assert_array_equal(x[14], window)


def test_gtzan_spec_is_the_papers(tmp_path):
    spec = data.load("gtzan", write_gtzan(tmp_path), image_size=(224, 224)).spec
    assert (spec.n_fft, spec.hop_length, spec.n_mels, spec.frames) == (2048, 512, 128, 1291)
    assert (spec.sample_rate_hz, spec.window_samples, spec.height, spec.width) == (
        22_050,
        661_500,
        224,
        224,
    )


@pytest.mark.parametrize("given", ["gtzan", "gtzan/genres", "."])
def test_gtzan_folder_may_be_the_layout_or_its_parent(tmp_path, monkeypatch, given):
    write_gtzan(tmp_path / "gtzan")
    monkeypatch.chdir(tmp_path)
    assert len(data.load("gtzan", given, **SMALL).recordings("train")) == 40


def test_no_absolute_path_gets_out(tmp_path, capsys):
    folder = write_gtzan(tmp_path / "gtzan", tracks=range(30))
    cut_off(folder / "genres/rock/rock.00003.wav")
    loaded = data.load("gtzan", folder, **SMALL)
    assert (
        str(tmp_path) not in str(loaded.describe()) + str(loaded.split_ids("train")) + loaded.source
    )
    assert str(tmp_path) not in capsys.readouterr().err


def test_gtzan_folders_are_combined_and_copies_stay_together(tmp_path):
    write_gtzan(tmp_path / "part_a", tracks=range(12))
    write_gtzan(tmp_path / "part_b", tracks=range(6, 18), suffix=".flac")
    for seed in range(5):
        loaded = data.load("gtzan", tmp_path, seed=seed, **SMALL)
        everyone = [(r, s) for s, rs in loaded.splits.items() for r in rs]
        assert len(everyone) == 240 and len({r.id for r, _ in everyone}) == 240
        side = {}
        for recording, split in everyone:
            assert side.setdefault(recording.where.stem, split) == split
    assert any("2 folders are combined" in note for note in loaded.notes)


def test_gtzan_repeats_are_never_on_two_sides(tmp_path):
    for genre in GENRES:
        for n in range(95):
            write_wav(tmp_path / f"genres/{genre}/{genre}.{n:05d}.wav", tone(10), 22_050)
    assert sum(len(p) for p in gtzan.REPEATS.values()) == 41
    for seed in range(10):
        loaded = data.load("gtzan", tmp_path, seed=seed, **SMALL)
        side = {r.id: split for split, rs in loaded.splits.items() for r in rs}
        for genre, pairs in gtzan.REPEATS.items():
            for a, b in pairs:
                assert side[f"{genre}.{a:05d}"] == side[f"{genre}.{b:05d}"], (seed, genre, a, b)
        counts = loaded.describe()["splits"]["test"]["per_class"]
        assert {c["recordings"] for c in counts.values()} == {19}  # stratified


def test_gtzan_numbers_of_any_width_are_the_same_tracks(tmp_path):
    for genre in GENRES:
        for n in range(6):
            write_wav(tmp_path / f"genres/{genre}/{genre}.{n}.wav", tone(10), 22_050)
    for number in ("21", "080", "00026"):  # copies of one another
        write_wav(tmp_path / f"genres/classical/classical.{number}.wav", tone(10), 22_050)
    write_wav(tmp_path / "again/genres/blues/blues.00001.wav", tone(10), 22_050)
    for genre in GENRES[1:]:
        write_wav(tmp_path / f"again/genres/{genre}/{genre}.00007.wav", tone(10), 22_050)

    loaded = data.load("gtzan", tmp_path, **SMALL)
    groups = {r.id: r.group for recordings in loaded.splits.values() for r in recordings}
    copies = {groups[f"classical.{number}"] for number in ("21", "080", "00026")}
    assert copies == {"classical.00021"}
    assert [i for i, group in groups.items() if group == "blues.00001"] == [
        name for name in groups if "blues" in name and name.endswith("1.wav")
    ]
    assert groups["blues.2"] == "blues.00002"  # what is there once keeps its name


def test_repeat_groups_join_chains():
    groups = gtzan.repeat_groups()
    assert (
        groups["reggae.00075"] == groups["reggae.00091"] == groups["reggae.00092"] == "reggae.00075"
    )
    assert groups["classical.00026"] == groups["classical.00080"] == "classical.00021"
    assert groups["metal.00040"] != groups["metal.00044"] and "blues.00000" not in groups


def test_short_recordings_are_padded_and_counted(tmp_path):
    loaded = data.load("gtzan", write_gtzan(tmp_path, num_samples=1500), **SMALL)
    assert loaded.padded == loaded.describe()["padded"] == 60
    assert any("60 of 60" in note and "padded" in note for note in loaded.notes)
    assert loaded.size("train") == 40


def test_other_sample_rates_are_resampled(tmp_path):
    folder = write_gtzan(tmp_path, num_samples=4000)
    write_wav(folder / "genres/blues/blues.00000.wav", tone(8001, 0.01), 44_100)
    loaded = data.load("gtzan", folder, **SMALL)
    assert any("1 recording of 44100 Hz" in note for note in loaded.notes)
    samples = audio.load_samples(folder / "genres/blues/blues.00000.wav", 22_050)
    assert len(samples) == 4001
    np.testing.assert_allclose(samples[200:-200], tone(4001, 0.02)[200:-200], atol=5e-3)


def test_truncated_file_is_named_and_counted(tmp_path, capsys):
    folder = write_gtzan(tmp_path / "g", tracks=range(10))
    cut_off(folder / "genres/jazz/jazz.00004.wav")
    (folder / "genres/pop/pop.00002.wav").write_bytes(b"")
    (folder / "genres/pop/intro.wav").write_bytes(b"")
    loaded = data.load("gtzan", folder, **SMALL)
    assert sorted(s.path for s in loaded.skipped) == [
        "g/genres/jazz/jazz.00004.wav",
        "g/genres/pop/intro.wav",
        "g/genres/pop/pop.00002.wav",
    ]
    assert loaded.describe()["skipped"] == 3
    err = capsys.readouterr().err
    assert err.count("jazz.00004.wav") == 1 and "Truncated" in err
    ids = [r.id for rs in loaded.splits.values() for r in rs]
    assert len(ids) == 98 and "jazz.00004" not in ids


def test_damage_met_while_decoding_is_named_and_counted(tmp_path, capsys):
    folder = write_gtzan(
        tmp_path, tracks=range(3), suffix=".flac"
    )  # a FLAC header does not tell the file's length
    loaded = data.load("gtzan", folder, **SMALL)
    victim = loaded.recordings("test")[3]
    cut_off(victim.where)
    for _ in range(2):
        _, _, index = everything(loaded, "test")
        assert 3 not in index and len(index) == 18
    assert [s.path for s in loaded.skipped] == [f"disco/{victim.id}.flac"]
    assert capsys.readouterr().err.count("WARNING: skipped") == 1
    assert loaded.size("test") == 18 and len(loaded.recordings("test")) == 10
    cut_off(loaded.recordings("test")[7].where)
    with pytest.raises(DataError, match=r"2 of 10 recordings.*disco\.0000.*pop\.0000"):
        everything(loaded, "test")


def test_too_many_unreadable_files_stop_the_load(tmp_path):
    folder = write_gtzan(tmp_path, tracks=range(4))
    for n in range(3):
        cut_off(folder / f"genres/jazz/jazz.{n:05d}.wav")
    with pytest.raises(DataError, match=r"3 of 40 recordings.*jazz\.00000"):
        data.load("gtzan", folder, **SMALL)


def test_missing_and_empty_genres(tmp_path):
    folder = write_gtzan(tmp_path)
    for path in (folder / "genres/jazz").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"No recordings of jazz[\s\S]*genres/"):
        data.load("gtzan", folder, **SMALL)
    write_wav(folder / "genres/jazz/jazz.00000.wav", tone(3000), 22_050)
    with pytest.raises(DataError, match="'jazz' has no recording in the train"):
        data.load("gtzan", folder, **SMALL)


def test_speech_commands_follow_the_lists(tmp_path):
    folder = write_speech(tmp_path / "sc", suffix=".flac")  # the lists say .wav
    loaded = data.load("speech_commands", folder, image_size=(32, 32))
    assert loaded.labels == WORDS
    assert loaded.spec.frames == 32 and loaded.spec.window_samples == 16_000
    assert {r.group for r in loaded.recordings("test")} == {"00000000"}
    assert {r.group for r in loaded.recordings("validation")} == {"00000001"}
    assert len(loaded.recordings("train")) == 80 and loaded.notes == []
    x, y, _ = everything(loaded, "test")
    assert x.shape == (10, 32, 32, 1) and y == list(range(10))


@pytest.mark.parametrize(
    "missing",
    [("testing_list.txt",), ("validation_list.txt",), ("testing_list.txt", "validation_list.txt")],
)
def test_missing_lists_are_drawn_by_speaker(tmp_path, missing):
    folder = write_speech(tmp_path)
    for name in missing:
        (folder / name).unlink()
    for seed in range(5):
        loaded = data.load("speech_commands", folder, image_size=(8, 8), seed=seed)
        speakers = [{r.group for r in rs} for rs in loaded.splits.values()]
        assert sum(map(len, speakers)) == len(set.union(*speakers)) == 10 and all(speakers)
    assert any(missing[0] in note and "speaker" in note for note in loaded.notes)
    if "testing_list.txt" not in missing:
        assert speakers[2] == {"00000000"}


def test_a_speaker_on_two_sides_is_refused(tmp_path):
    folder = write_speech(tmp_path)
    with open(folder / "testing_list.txt", "a") as file:
        file.write("up/00000005_nohash_0.wav\n")
    with pytest.raises(DataError, match="00000005"):
        data.load("speech_commands", folder, image_size=(8, 8))


def test_the_most_populous_words_are_taken(tmp_path):
    folder = write_speech(tmp_path, words=("cat", "ant", "bee", "dog"), speakers=4)
    write_sound(folder / "dog/0000000a_nohash_0.wav", tone(16_000), 16_000)
    for i in range(9):
        write_sound(folder / f"_background_noise_/{i:08x}_nohash_0.wav", tone(16_000), 16_000)
    loaded = data.load("speech_commands", folder, image_size=(8, 8), num_words=3)
    assert loaded.labels == ("ant", "bee", "dog")
    with pytest.raises(DataError, match="num_words=4"):
        data.load("speech_commands", folder, image_size=(8, 8))


def test_splits_are_seeded(tmp_path):
    folder = write_gtzan(tmp_path, tracks=range(10))
    first, again, other = (data.load("gtzan", folder, seed=s, **SMALL) for s in (1, 1, 2))
    assert all(first.split_ids(s) == again.split_ids(s) for s in first.splits)
    assert first.split_ids("test") != other.split_ids("test")


def test_max_per_class(tmp_path):
    folder = write_gtzan(tmp_path, tracks=range(10))
    whole = data.load("gtzan", folder, **SMALL)
    few = data.load("gtzan", folder, max_per_class=2, **SMALL)
    for split in whole.splits:
        assert set(few.split_ids(split)) <= set(whole.split_ids(split))
        assert len(few.recordings(split)) == min(20, len(whole.recordings(split)))
