"""A search for settings: it begins with the table, goes on where it was ended, and keeps what it
found.
"""

import json
import sys

import keras
import pytest

from edvit_tf.choosing.space import AUGMENTED, Range, check_tunable, space_of
from edvit_tf.cli.main import main
from edvit_tf.config import AUGMENTS, DataConfig, RunConfig, TrainConfig
from edvit_tf.errors import ConfigError, OutputError
from edvit_tf.pipeline import tuning
from edvit_tf.pipeline.prepare import prepare, tuned
from edvit_tf.pipeline.trials import (
    DONE,
    FAILED,
    LATE,
    PRUNED,
    TRIALS,
    Trial,
    best_of,
    keep,
    open_trials,
)
from edvit_tf.pipeline.tuning import _study, _tuned, table_of
from edvit_tf.training.callbacks import reaching_fits
from tests.support.small_tables import quick_table, sounds

FIT = TrainConfig(epochs=4, learning_rate=1e-3, augment="shift")
RUN = RunConfig("x", DataConfig("mnist", (8, 8)), "vit_smoke", FIT, FIT, TrainConfig(1))


def trial(number, accuracy, state=DONE, settings=None, nll=0.5, seconds=1.0):
    settings = settings or table_of(RUN)
    return Trial(number, settings, state, accuracy, nll, seconds, [accuracy or 0.0])


def test_the_space_holds_the_table_whatever_it_augments_by():
    for augment in AUGMENTS:
        fit = FIT.replace(augment=augment, label_smoothing=0.1)
        for name, values in space_of(fit).items():
            own = getattr(fit, name)
            inside = (
                values.low <= own <= values.high if isinstance(values, Range) else own in values
            )
            assert inside, name
    assert all("flip" not in other for other in AUGMENTED["shift"])


def asked(trials):
    space = space_of(RUN.base_training)
    return _study(RUN, trials, space).ask(tuning._distributions(space)).params


def test_the_table_is_tried_first_and_what_follows_hangs_on_the_trials_alone():
    assert asked([]) == table_of(RUN)
    # what was late says nothing: the table is still to come
    assert asked([trial(0, 0.5, LATE)]) == table_of(RUN)
    some = [trial(0, 0.5)]
    second = asked(some)
    assert second != table_of(RUN) and asked(some) == second
    assert asked([*some, trial(1, 0.6, settings=second)]) != second
    odd = [trial(0, None, FAILED), trial(1, 0.5, PRUNED), *some * 4, trial(6, 0.1, LATE)]
    assert asked(odd) == asked(odd[:-1]) != second


def test_the_best_has_more_right_and_of_equals_less_likelihood_lost():
    equals = [trial(0, 0.8, nll=0.6), trial(1, 0.8, nll=0.4), trial(2, 0.8, nll=0.4)]
    assert best_of(equals).number == 1
    # neither what was ended early nor what failed
    others = [trial(3, 0.9, PRUNED), trial(4, None, FAILED), trial(5, 0.95, LATE)]
    assert best_of([*equals, *others]).number == 1 and best_of(others) is None
    found = _tuned(RUN, others, 3)
    assert found.config == RUN and found.told["taken"] is None and len(found.told["trials"]) == 3


def test_trials_are_kept_one_by_one_and_a_torn_line_goes(tmp_path):
    folder = tmp_path / "tune"
    assert open_trials(folder, {"seed": 0}, overwrite=False) == []
    kept = [trial(0, 0.8), trial(1, None, FAILED)]
    for one in kept:
        keep(folder, one)
    with open(folder / TRIALS, "a") as file:
        file.write('{"number": 2, "sett')
    assert open_trials(folder, {"seed": 0}, overwrite=False) == kept
    keep(folder, trial(2, 0.9))
    assert [one.number for one in open_trials(folder, {"seed": 0}, False)] == [0, 1, 2]
    with pytest.raises(OutputError, match="another configuration; changed: seed: 0 -> 1.*--over"):
        open_trials(folder, {"seed": 1}, overwrite=False)
    assert open_trials(folder, {"seed": 1}, overwrite=True) == []


def test_what_a_search_needs_is_said_before_anything_is_read(tmp_path, monkeypatch, capsys):
    with pytest.raises(ConfigError, match="--tune is 0 minutes"):
        check_tunable(0)
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["train", str(tmp_path / "absent"), "--tune", "5"]) == ConfigError.exit_code
    assert "pip install optuna" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", str(tmp_path), "--tune", "soon"])
    assert "'soon' is no number of minutes" in capsys.readouterr().err


def test_a_search_that_was_interrupted_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    """Two searches of three trials, one of them ended by Ctrl-C within its second."""
    folder = sounds(tmp_path / "bells")
    quick_table(monkeypatch)
    monkeypatch.setattr(tuning, "UNPRUNED", 99)
    clock = [0.0]
    monkeypatch.setattr(tuning, "_clock", lambda: clock[0])

    class Second(keras.callbacks.Callback):
        """Each fit takes a second; that of `ended` is ended by Ctrl-C."""

        fits, ended = 0, None

        def on_train_begin(self, logs=None):
            Second.fits += 1
            if Second.fits == Second.ended:
                raise KeyboardInterrupt

        def on_train_end(self, logs=None):
            clock[0] += 1.0

    ready = prepare(folder, base="scratch")
    with reaching_fits(lambda title: [Second()]):
        whole, _ = tuned(ready, tmp_path / "whole", 3 / 60, False)
        Second.ended = Second.fits + 2
        with pytest.raises(KeyboardInterrupt):
            tuned(ready, tmp_path / "ended", 3 / 60, False)
    kept = (tmp_path / "ended.work" / "tune" / TRIALS).read_text()
    assert len(kept.splitlines()) == 1
    with reaching_fits(lambda title: [Second()]):
        again, told = tuned(ready, tmp_path / "ended", 3 / 60, False)

    assert again == whole and len(told["trials"]) == 3
    own = json.loads(kept)
    assert own["settings"] == table_of(ready.config) and told["trials"][0]["number"] == 0
    best = max(one["accuracy"] for one in told["trials"])
    assert told["trials"][told["taken"]]["accuracy"] == best >= own["accuracy"]
    assert not (tmp_path / "ended.work" / "tune" / "data").exists()
    # the minutes are spent: the same command tries no more
    assert tuned(ready, tmp_path / "ended", 3 / 60, False)[1] == told


def test_a_bundle_that_was_made_without_a_search_is_not_replaced(tmp_path, monkeypatch):
    ready = prepare(sounds(tmp_path / "bells"), base="scratch")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text("{}")
    monkeypatch.setattr(tuning, "tune", pytest.fail)
    with pytest.raises(OutputError, match="was made without --tune"):
        tuned(ready, tmp_path / "out", 5, overwrite=False)
