"""Stages of members that are fitted side by side: what each makes, and what is fitted together."""

import numpy as np
import pytest

from edvit_tf.errors import ConfigError, TrainingError
from edvit_tf.pipeline.cutting import stages_of
from edvit_tf.pipeline.elsewhere import check_backend_alone
from edvit_tf.pipeline.fit_members import fit_members
from edvit_tf.pipeline.side_by_side import make_side_by_side
from edvit_tf.pipeline.stage import Run
from edvit_tf.pipeline.store import Stages
from edvit_tf.progress.events import listening
from edvit_tf.training.backend_process import BackendEnded
from tests.support.begun_run import begun_run

ROOM = "RuntimeError: fit_side_by_side on jax failed there: RESOURCE_EXHAUSTED: out of memory"


@pytest.fixture(scope="module")
def planned(smoke_bundle):
    """The run of the smoke bundle, made one stage after the other."""
    return smoke_bundle.with_name("mnist.work")


@pytest.fixture
def begun(planned, tmp_path) -> Run:
    """The same run before any member is cut, as one that JAX would compute."""
    run = begun_run(planned, tmp_path)
    return Run(run.stages, run.config.replace(backend="jax"))


@pytest.fixture
def together(monkeypatch) -> list:
    """What was asked for side by side: titles of each call. Each is fitted alone here, so that what
    comes of it can be compared.
    """
    from edvit_tf.training import side_by_side
    from edvit_tf.training.train import fit

    calls: list = []

    def fit_each(config, weights, inputs, targets, train, **given):
        calls.append(list(given["titles"]))
        return [
            fit(
                config,
                weights[j],
                inputs,
                targets[j],
                train,
                epoch_indices=given["epoch_indices"][j],
                seed=given["seeds"][j],
                features=given["features"],
                title=title,
            )
            for j, title in enumerate(given["titles"])
        ]

    monkeypatch.setattr(side_by_side, "fit_side_by_side", fit_each)
    return calls


def test_members_of_one_configuration_are_fitted_together_and_end_as_alone(
    begun, planned, together
):
    fit_members(begun)

    # the sub-models have the same widths in each row, and the one model of all classes others
    subs = [member.name for member in begun.sub_models]
    steps = [step for step in begun.sub_models[0].steps if step != "head"]
    assert len(subs) == 2 and steps
    assert together == [[f"{name}.{step}" for name in subs] for step in steps]

    alone = Stages(planned, begun.stages.key)
    for member in begun.members:
        for step in member.steps:
            name = member.stage(step)
            found, expected = begun.stages.result(name), alone.result(name)
            for fact in ("config", "params", "macs"):
                assert found[fact] == expected[fact], name
            history, known = found["history"], expected["history"]
            assert history.get("samples") == known.get("samples"), name
            np.testing.assert_allclose(history.get("loss", []), known.get("loss", []), rtol=1e-4)

            mine, theirs = begun.stages.arrays(name), alone.arrays(name)
            for key, value in theirs.items():  # of another process, whose threads sum otherwise
                np.testing.assert_allclose(mine[key], value, rtol=1e-3, atol=1e-5, err_msg=name)


def test_stages_that_are_there_are_not_made_again(begun, together):
    fit_members(begun)
    together.clear()
    fit_members(begun)
    assert together == []


def test_a_stage_that_fails_keeps_what_was_finished_and_nothing_else(begun, monkeypatch):
    from edvit_tf.training import side_by_side

    def astray(*given, **options):
        raise TrainingError("submodel-01.residual: the loss is nan")

    monkeypatch.setattr(side_by_side, "fit_side_by_side", astray)
    with pytest.raises(TrainingError, match="the loss is nan"):
        fit_members(begun)
    for member in begun.sub_models:
        assert begun.stages.has(member.stage("head"))
        assert not any(begun.stages.has(member.stage(step)) for step in member.steps[1:])


def _killed():
    error = BackendEnded("the process that computes on jax ended with -9 in 'fit_side_by_side'")
    error.is_killed = True
    return error


@pytest.mark.parametrize("error", [RuntimeError(ROOM), _killed()], ids=["accelerator", "machine"])
def test_members_without_room_together_are_fitted_in_halves(begun, together, monkeypatch, error):
    from edvit_tf.training import side_by_side

    fits_each, tried = side_by_side.fit_side_by_side, []

    def one_at_most(config, weights, *given, **options):
        tried.append(len(weights))
        if len(weights) > 1:
            raise error
        return fits_each(config, weights, *given, **options)

    monkeypatch.setattr(side_by_side, "fit_side_by_side", one_at_most)
    begun.make(*(stages_of(member)[0] for member in begun.sub_models))
    row = [stages_of(member)[1] for member in begun.sub_models]

    heard = _Heard()
    with listening(heard):
        make_side_by_side(begun, row)
    assert tried == [2] and all(begun.stages.has(stage.name) for stage in row)
    assert [event.text for event in heard.events if event.kind == "warning"] == [
        "2 members have no room side by side; in two halves, then"
    ]


class _Heard:
    def __init__(self):
        self.events = []

    def hear(self, event):
        self.events.append(event)


@pytest.mark.parametrize("words", ["a fault of ours", "ended with 1 in 'fit_side_by_side'"])
def test_another_error_is_not_taken_for_want_of_room(begun, monkeypatch, words):
    from edvit_tf.training import side_by_side

    def fault(*given, **options):
        raise BackendEnded(words) if words.startswith("ended") else RuntimeError(words)

    monkeypatch.setattr(side_by_side, "fit_side_by_side", fault)
    with pytest.raises((RuntimeError, BackendEnded), match=words):
        fit_members(begun)


@pytest.mark.parametrize(("jobs", "ray"), [(2, None), (1, "auto")])
def test_another_backend_fits_here_alone(jobs, ray):
    with pytest.raises(ConfigError, match="backend='jax' and .* were given"):
        check_backend_alone("jax", jobs, ray)
    check_backend_alone("tensorflow", jobs, ray)
    check_backend_alone("jax", 1, None)


def test_a_run_by_jax_is_the_run_by_tensorflow_up_to_rounding(smoke_bundle, tmp_path):
    """The whole chain, from cut to files; accuracies within a few of its few pictures."""
    pytest.importorskip("jax", reason="JAX is not installed: pip install 'edvit-tf[jax]'")
    import json

    from tests.support.commands import SMOKE, run_host

    out = tmp_path / "jax"
    done = run_host(*SMOKE, "--backend", "jax", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "2 members side by side: submodel-00" in done.stdout

    ours = json.loads((smoke_bundle / "results.json").read_text())
    theirs = json.loads((out / "results.json").read_text())
    described = json.loads((out / "run.json").read_text())["description"]
    assert described["config"]["backend"] == "jax" and "jax" in described["libraries"]
    for name in ("base", "fusion"):
        found, expected = theirs[name]["validation"], ours[name]["validation"]
        assert np.isclose(found["window"], expected["window"], atol=0.1), name
    assert (out / "submodel-00.tflite").stat().st_size == (
        smoke_bundle / "submodel-00.tflite"
    ).stat().st_size
