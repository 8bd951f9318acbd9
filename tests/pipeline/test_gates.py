"""What a run chooses on validation data, draws for its scores, and is keyed by."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from edvit_tf.config import DataConfig, RunConfig, TrainConfig
from edvit_tf.errors import AccuracyError, ExportError, FlavourError
from edvit_tf.export.fusion import Average
from edvit_tf.pipeline import description, flavours
from edvit_tf.pipeline.checks import check_accuracy
from edvit_tf.pipeline.cutting import Fitting

FIT = TrainConfig(epochs=1)
CONFIG = RunConfig(
    name="x",
    data=DataConfig("mnist", (8, 8)),
    model="vit_smoke",
    base_training=FIT,
    stage_training=FIT,
    fusion_training=FIT,
)


# The accuracy that is asked for


@pytest.mark.parametrize(
    ("kind", "words", "other"),
    [
        ("classes", r"fewer of them \(--groups, --devices\)", "copies"),
        ("copies", r"as good as their one model: train that for longer", "fewer"),
        ("joint", r"Train the members for longer .* or take --fleet copies", "fewer"),
    ],
)
def test_too_little_accuracy_has_a_next_step_for_each_kind_of_fleet(kind, words, other):
    asked = CONFIG.replace(min_accuracy=0.9)
    with pytest.raises(AccuracyError, match=words) as raised:
        check_accuracy(asked, {"recording": 0.85}, {"recording": 0.95}, kind)
    assert "0.8500; 0.9000 was required (base: 0.9500)" in str(raised.value)
    assert other not in str(raised.value) and "base misses it too" not in str(raised.value)

    # no fleet that learns from a base has much more than it
    with pytest.raises(AccuracyError, match=f"The base misses it too.*--base.*{words}"):
        check_accuracy(asked, {"recording": 0.85}, {"recording": 0.88}, kind)
    check_accuracy(asked, {"recording": 0.9}, {"recording": 0.88}, kind)
    check_accuracy(CONFIG, {"recording": 0.1}, {"recording": 0.1}, kind)


# Smaller files


@pytest.fixture
def gate(monkeypatch, tmp_path):
    """A bundle whose files name so many of 200 recordings right, by flavour and runtime."""
    both = ("tflite-runtime", "ai-edge-litert")
    listed = {name: SimpleNamespace(runtimes=both) for name in ("float32", "float16", "int8")}
    bundle = SimpleNamespace(sub_models=[SimpleNamespace(flavours=listed)])
    monkeypatch.setattr(flavours, "open_bundle", lambda folder: bundle)
    monkeypatch.setattr(flavours, "installed_runtimes", lambda: both)

    folder = tmp_path / "bundle.partial"
    folder.mkdir()
    labels = np.arange(200) % 4
    split = SimpleNamespace(x=np.zeros((200, 2)), labels=labels, recordings=np.arange(200))

    def judge(right: dict) -> tuple[list, list]:
        def fuse(_, asked):
            """`asked` is (flavour, runtime); the first recordings are named right."""
            count = right.get(asked, right.get(asked[0], 160))
            named = np.where(np.arange(200) < count, labels, (labels + 1) % 4)
            return np.eye(4)[named], {}

        monkeypatch.setattr(flavours, "ask", lambda _, inputs, *asked: asked)
        monkeypatch.setattr(flavours, "fuse", fuse)
        written = []

        def write(left_out):
            assert list(folder.iterdir()) == []
            (folder / "submodel-00.tflite").write_text("x")
            written.append(left_out)

        return written, flavours.keep_good(folder, write, split, seed=0)

    return judge


def test_flavours_that_lose_little_are_published(gate):
    written, rows = gate({"float16": 159, "int8": 156})
    assert written == [()]
    assert [row["lost"] for row in rows] == [1, 1, 4, 4]
    assert all(row["ok"] for row in rows)


def test_a_flavour_that_loses_accuracy_in_one_runtime_is_left_out(gate, capsys):
    written, rows = gate({("int8", "ai-edge-litert"): 155, "float16": 157})
    assert written == [(), ("float16", "int8")]
    assert [row["ok"] for row in rows] == [False, False, True, False]
    told = capsys.readouterr().err
    assert "flavour int8 is left out of the bundle: in ai-edge-litert it names 5 of 200" in told
    assert "77.5 against 80.0 %" in told


def test_a_flavour_that_fails_while_it_is_written_ends_no_run(tmp_path, monkeypatch, capsys):
    """A device's own check would refuse its files: the others are published."""
    monkeypatch.setattr(flavours, "_measured", lambda *_: [])
    written = []

    def write(left_out):
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "submodel-00.tflite").write_text("x")
        written.append(left_out)
        for flavour in ("int8", "float16"):
            if flavour not in left_out:
                raise FlavourError(flavour, f"its {flavour} file is off.")

    assert flavours.keep_good(tmp_path, write, None, 0) == []
    assert written == [(), ("int8",), ("int8", "float16")]
    assert "left out of the bundle: its int8 file is off. Leave out" in capsys.readouterr().err

    def never(left_out):
        raise FlavourError("float32", "no file runs.")

    with pytest.raises(ExportError, match="no file runs"):
        flavours.keep_good(tmp_path / "other", never, None, 0)


def test_answers_that_are_no_numbers_name_nothing_right(gate, monkeypatch):
    p = np.full((200, 4), np.nan)
    p[:, 0] = 1

    def fuse(_, asked):
        return (np.eye(4)[np.arange(200) % 4] if asked[0] != "int8" else p), {}

    gate({})
    monkeypatch.setattr(flavours, "fuse", fuse)
    split = SimpleNamespace(labels=np.arange(200) % 4, recordings=np.arange(200))
    truth = split.labels, split.recordings
    assert flavours._right(None, None, truth, "int8", "ai-edge-litert").sum() == 0
    assert flavours._right(None, None, truth, None, None).all()


def test_whole_recordings_are_asked():
    recordings = np.repeat(np.arange(900), 3)
    rows = flavours._rows(SimpleNamespace(labels=recordings % 4, recordings=recordings), 0)
    assert flavours.WINDOWS - 3 < len(rows) <= flavours.WINDOWS
    counts = np.bincount(recordings[rows])
    assert set(counts) <= {0, 3} and (np.diff(rows) > 0).all()


@pytest.mark.parametrize("lengths", [[1500] * 10, [2500, *[50] * 9], [3000], [50] * 4000])
def test_of_long_recordings_a_part_of_each_is_asked(lengths):
    recordings = np.repeat(np.arange(len(lengths)), lengths)
    rows = flavours._rows(SimpleNamespace(labels=recordings % 4, recordings=recordings), 0)
    assert 0 < len(rows) <= flavours.WINDOWS and (np.diff(rows) > 0).all()
    asked = len(np.unique(recordings[rows]))
    assert asked == min(len(lengths), flavours.WINDOWS)


# The prior of "other"


def test_other_stands_for_as_many_classes_as_it_has():
    """Sub-models that have learnt nothing but how often "other" came name all classes alike."""
    fusion = Average(widths=(2, 2), groups=((0,), (1, 2, 3, 4)), num_classes=5, hidden_share=0.5)
    for weight in (1.0, 3.0):
        heads = []
        for rows in (2, 5):
            bias = np.zeros(rows, np.float32)
            bias[-1] = np.log(weight)  # as the mixture that it was fitted on
            heads.append({"head.kernel": np.zeros((2, rows), np.float32), "head.bias": bias})
        plain = fusion.weights_from(heads)
        changed = fusion.with_prior(plain, FIT.replace(other_weight=weight))
        for j, group in enumerate(fusion.groups):
            e = np.exp(changed[f"average.bias_{j:02d}"])
            np.testing.assert_allclose(e[:-1] / e.sum(), 1 / 5, rtol=1e-6)
            np.testing.assert_allclose(e[-1] / e.sum(), 1 - len(group) / 5, rtol=1e-6)
        np.testing.assert_array_equal(plain["average.bias_00"], heads[0]["head.bias"])


def test_the_prior_of_other_follows_epochs_of_all_samples():
    from edvit_tf.training.batches import own_epoch

    train = FIT.replace(epoch="all")
    labels = np.repeat(np.arange(5), 40)
    fusion = Average(widths=(2, 2), groups=((0,), (1, 2, 3, 4)), num_classes=5, hidden_share=0.5)
    heads = []
    for group in fusion.groups:
        # of features that say nothing, the head that fits the epoch best: its logarithms
        seen = labels[own_epoch(train, labels, group, 5, 0, 0)]
        counts = [(seen == c).sum() for c in group] + [(~np.isin(seen, group)).sum()]
        bias = np.log(np.array(counts, np.float32))
        heads.append({"head.kernel": np.zeros((2, len(bias)), np.float32), "head.bias": bias})

    changed = fusion.with_prior(fusion.weights_from(heads), train)
    for j, group in enumerate(fusion.groups):
        e = np.exp(changed[f"average.bias_{j:02d}"])
        np.testing.assert_allclose(e[-1] / e.sum(), 1 - len(group) / 5, rtol=1e-5)


# What scores and repairs are taken on


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_scores_are_taken_on_the_mixture_that_is_fitted(weight):
    fitting = object.__new__(Fitting)
    fitting.member = SimpleNamespace(is_sub_model=True, classes=(0,))
    fitting.training = FIT.replace(other_weight=weight)
    fitting.train = SimpleNamespace(labels=np.repeat(np.arange(5), 60))
    fitting.num_classes, fitting.seed = 5, 0
    rows = fitting.sample(1000)
    own = (fitting.train.labels[rows] == 0).sum()
    assert own == 60 and len(rows) - own == weight * 60


# The key


@pytest.fixture
def key():
    dataset = SimpleNamespace(describe=lambda: {}, contents=lambda: {})

    def made() -> dict:
        return description.describe(CONFIG, dataset, {}, None, {})

    return made


def test_what_computes_is_in_the_key(key, monkeypatch):
    first = key()
    assert set(first["libraries"]) == {"tensorflow", "keras", "numpy"} and first["processor"]

    monkeypatch.setattr(description, "machine", lambda: {"cpu": "another"})
    assert description.differences(first, key()) == [
        f"processor: {first['processor']!r} -> 'another'"
    ]
    monkeypatch.undo()

    version = description.importlib.metadata.version
    monkeypatch.setattr(
        description.importlib.metadata,
        "version",
        lambda name: "9.9" if name == "keras" else version(name),
    )
    assert description.differences(first, key())[0].startswith("libraries.keras")


def test_a_work_folder_of_before_a_field_is_taken_for_one_with_its_default(tmp_path):
    now = {"config": CONFIG.to_dict(), "version": "x"}
    before = json.loads(json.dumps(now))
    for name in ("fleet", "views", "fleet_training", "training_budget"):
        del before["config"][name]
    del before["config"]["base_training"]["ema"]
    (tmp_path / "run.json").write_text(json.dumps({"key": "k", "description": before}))
    assert description.differing(tmp_path, now, description.READ_BY_SHARED) == []

    other = now | {"config": CONFIG.replace(seed=1).to_dict()}
    changed = description.differing(tmp_path, other, description.READ_BY_SHARED)
    assert changed == ["config.seed: 0 -> 1"]
    # what was trained elsewhere counts for models that start from it, not for base and inputs
    given = now | {"shared_weights": "a" * 64}
    assert description.differing(tmp_path, given, description.READ_BY_BEGINNING) == []
    assert "shared_weights" in description.differing(tmp_path, given, description.READ_BY_SHARED)[0]


@pytest.mark.parametrize("fit", ["fleet_training", "fusion_training", "stage_training"])
def test_what_auto_is_here_is_in_the_key_of_every_fit(fit):
    assert "auto" not in description._precision(CONFIG)
    auto = CONFIG.replace(**{fit: FIT.replace(precision="auto")})
    assert description._precision(auto)["auto"] in ("float32", "bfloat16")
