"""The fleet laboratory: its torch against our TensorFlow, cuts that are dealt out, and a whole run
on made-up pictures.
"""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from edvit_tf.device.model.image import ImageSpec
from edvit_tf.errors import DataError, OutputError
from edvit_tf.study.fleet.pack import read_pack, write_pack
from tests.support.tiny_vit import CONFIG, random_inputs, random_weights

torch = pytest.importorskip("torch", reason="needs the [reference] extra")

from edvit_tf.study.fleet import experiments, stacked, vit  # noqa: E402
from edvit_tf.study.fleet.cutting import Cutter, Kept, best_kept, deal, dealt, fold_norms  # noqa: E402
from edvit_tf.study.fleet.fitting import Fit, Material, _Step, fit, orthogonalised  # noqa: E402
from edvit_tf.study.fleet.varied import VIEWS, affine_maps, moved, views_of, warped  # noqa: E402

pytestmark = pytest.mark.reference

torch.set_num_threads(1)  # products this small take longer between threads

NEAR = {"rtol": 1e-3, "atol": 2e-4}


def tensors(weights):
    return {name: torch.tensor(value) for name, value in weights.items()}


@pytest.fixture(scope="module")
def base():
    """Weights, inputs (n, H, W, C), and their patches in torch."""
    weights = random_weights()
    inputs = random_inputs(count=24)
    return weights, inputs, vit.patches(CONFIG, torch.tensor(inputs))


def test_one_model_in_torch_is_that_of_tensorflow(base):
    from edvit_tf.models.vit import functions

    weights, inputs, patches = base
    seen = vit.features(CONFIG, tensors(weights), patches)
    logits = vit.dense(tensors(weights), seen, "head")
    expected = functions.forward(CONFIG, functions.as_constants(weights), inputs).numpy()
    np.testing.assert_allclose(logits.numpy(), expected, **NEAR)


def test_folded_norms_and_directions_are_those_of_the_pruning(base):
    from edvit_tf.models.vit import rotation

    weights, inputs, patches = base
    expected = rotation.fold_norms(CONFIG, weights)
    for name, value in fold_norms(CONFIG, tensors(weights)).items():
        np.testing.assert_allclose(value.numpy(), expected[name], rtol=1e-5, atol=1e-6)

    # directions have no sign
    theirs = rotation.principal_basis(CONFIG, expected, inputs, class_weight=CONFIG.num_patches)
    ours = Cutter(CONFIG, tensors(weights), patches).basis.numpy()
    np.testing.assert_allclose(np.abs((theirs * ours).sum(0)), 1, atol=1e-3)


def test_scores_are_fishers_of_the_class_group(base):
    from edvit_tf.models.vit.cuts import group_head
    from edvit_tf.pruning.importance import importance

    weights, inputs, patches = base
    found = Cutter(CONFIG, tensors(weights), patches).scores([1, 2], patches)

    config, grouped = group_head(CONFIG, weights, (1, 2))
    expected = importance(config, grouped, inputs, "ffn", method="fisher")
    for name, scores in expected.items():
        np.testing.assert_allclose(found[name], scores, rtol=2e-3, atol=1e-6)


def test_a_cut_that_keeps_everything_changes_nothing(base):
    weights, _, patches = base
    cutter = Cutter(CONFIG, tensors(weights), patches)
    dims = np.arange(CONFIG.attention_dim).reshape(CONFIG.num_heads, CONFIG.head_dim)
    every = [dims] * CONFIG.num_layers
    units = [np.arange(CONFIG.mlp_dim)] * CONFIG.num_layers
    kept = Kept(np.arange(CONFIG.hidden_dim - 1), every, every, units)

    small = cutter.cut(CONFIG, kept)
    logits = vit.dense(small, vit.features(CONFIG, small, patches), "head")
    before = tensors(weights)
    expected = vit.dense(before, vit.features(CONFIG, before, patches), "head")
    np.testing.assert_allclose(logits.numpy(), expected.numpy(), rtol=1e-2, atol=1e-2)


def test_units_are_dealt_by_scores_and_as_often_as_they_must():
    # two members that want the same: each has its turn to choose first
    same = np.array([4.0, 3.0, 2.0, 1.0])
    first, second = deal([same, same], 2, shared=0)
    assert sorted([*first, *second]) == [0, 1, 2, 3]
    assert 0 in first and 3 in first  # first to choose, then last

    # what is best on average is everybody's
    for units in deal([same, same], 2, shared=1):
        assert 0 in units and len(units) == 2

    # three members of three units out of four: nine choices, so a unit is taken three times at most
    dealt_out = np.concatenate(deal([same] * 3, 3, shared=0))
    assert np.bincount(dealt_out).max() <= 3

    # different wishes are granted
    one, other = deal([np.array([9.0, 1, 1, 5]), np.array([1.0, 9, 5, 1])], 2, shared=0)
    assert one.tolist() == [0, 3] and other.tolist() == [1, 2]


def test_stacked_models_answer_as_each_alone(base):
    weights, _, patches = base
    final = CONFIG.pruned(1, CONFIG.num_classes, heads="keep")
    cutter = Cutter(CONFIG, tensors(weights), patches)
    scores = [cutter.scores([c], patches) for c in range(3)]
    members = [cutter.cut(final, kept) for kept in dealt(CONFIG, final, scores, 0.3, False)]

    whole = stacked.stack(final, members)
    seen = stacked.features(final, whole, patches[None], torch.float32)
    for j, own in enumerate(members):
        alone = vit.features(final, own, patches)
        np.testing.assert_allclose(seen[j].numpy(), alone.numpy(), rtol=1e-4, atol=1e-5)
        back = stacked.unstack(final, whole, j)
        assert {n: v.shape for n, v in back.items()} == {n: tuple(v.shape) for n, v in own.items()}


def test_pictures_are_moved_with_their_edges_and_mirrored():
    picture = torch.arange(16).reshape(1, 4, 4, 1).to(torch.uint8)
    rows = torch.zeros(3, dtype=torch.long)
    moves = torch.tensor([[0, 1, 0], [0, 0, -2]])
    flips = torch.tensor([False, False, True])
    as_it_is, up, mirrored = moved(picture, rows, moves, flips)[..., 0].numpy()

    np.testing.assert_array_equal(as_it_is, picture[0, :, :, 0])
    np.testing.assert_array_equal(up, picture[0, [1, 2, 3, 3], :, 0])
    # of columns -2 to 1, the first ones being the edge, the order is turned
    np.testing.assert_array_equal(mirrored, picture[0][:, [1, 0, 0, 0], 0])


def test_views_are_all_different_and_mirror_nothing_that_has_a_side():
    assert views_of(98, mirrored=True) == VIEWS
    for side in (28, 56, 98):
        found = views_of(side, mirrored=False)
        assert len(set(found)) == 10 and found[0] == (0, 0, False)
        assert not any(flip for _, _, flip in found)
        assert max(abs(n) for view in found for n in view[:2]) == round(side / 14)


def test_pictures_are_warped_as_in_training():
    from edvit_tf.training.augment import affine

    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (5, 12, 16, 1)).astype(np.uint8)
    expected = affine(pictures, np.random.default_rng(3))

    # the same draws, in the order in which the training takes them
    draw = np.random.default_rng(3)
    draws = [draw.uniform(-1, 1, 5) for _ in range(3)] + [*draw.uniform(-1, 1, (2, 5))]
    maps = affine_maps(torch.tensor(np.array(draws), dtype=torch.float32), (12, 16, 1))
    found = warped(torch.tensor(pictures), maps).numpy()
    assert (np.abs(found - expected) <= 1).all()
    assert np.abs(found - pictures).mean() > 10


def test_own_classes_are_told_apart_from_each_other_and_the_rest(base):
    from edvit_tf.training.batches import group_targets

    weights, _, _ = base
    labels = torch.tensor([0, 1, 2, 3, 0, 0])
    targets = torch.eye(4)[labels] * 0.8 + 0.05
    pictures = torch.zeros((6, 16, 16, 1), dtype=torch.uint8)
    goals = torch.zeros((6, CONFIG.hidden_dim))
    groups = ((0, 2), (1, 3))
    step = _Step(
        CONFIG,
        stacked.stack(CONFIG, [tensors(weights)] * 2),
        Material(pictures, targets, goals, labels),
        Fit(epochs=1, batch_size=6, groups=groups),
    )
    step.rows.copy_(torch.arange(6))
    logits = torch.tensor(np.random.default_rng(0).normal(size=(2, 6, 4)), dtype=torch.float32)
    found = step._group_loss(logits, targets).item()

    losses = []
    for own, classes in zip(logits, groups, strict=True):
        rest = [c for c in range(4) if c not in classes]
        small = torch.cat([own[:, list(classes)], own[:, rest].logsumexp(1, keepdim=True)], 1)
        wanted = group_targets(labels.numpy(), targets.numpy(), classes, 4, distillation=1.0)
        each = -(torch.tensor(wanted) * small.log_softmax(1)).sum(1)
        inside = torch.isin(labels, torch.tensor(classes))
        losses.append((each[inside].mean() + each[~inside].mean()) / 2)  # half each
    assert found == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_answers_by_owner_and_by_ridge():
    logits = torch.tensor([[[5.0, 0, 9], [0, 5, 1]], [[0, 1, 0], [9, 0, 2]]])
    scores = experiments.by_owner(logits, ((0, 2), (1,)))
    # the second is surest of class 0, which is not its own
    assert scores.argmax(1).tolist() == [2, 2]
    torch.testing.assert_close(scores[:, 1], logits[1].log_softmax(1)[:, 1])

    rng = np.random.default_rng(0)
    features = torch.tensor(rng.normal(size=(2, 200, 3)))
    labels = (features[0, :, 0] + features[1, :, 2] > 0).long()  # takes both members
    learnt, seen = features[:, :120], features[:, 120:]
    found = experiments.by_ridge(learnt, labels[:120], seen, 2)
    assert experiments.accuracy(found, labels[120:]) >= 95
    alone = experiments.by_ridge(learnt[:1], labels[:120], seen[:1], 2)
    assert experiments.accuracy(alone, labels[120:]) < 85


def test_a_step_of_muon_is_that_of_the_training():
    from edvit_tf.training.optimizers import orthogonalised as ours

    matrices = np.random.default_rng(0).normal(size=(3, 5, 8)).astype(np.float32)
    found = orthogonalised(torch.tensor(matrices), torch.float32).numpy()
    np.testing.assert_allclose(found, ours(matrices).numpy(), rtol=1e-3, atol=1e-4)

    tall = orthogonalised(torch.tensor(matrices.transpose(0, 2, 1)), torch.float32).numpy()
    np.testing.assert_allclose(tall.transpose(0, 2, 1), found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("together", "changes"),
    [
        (False, {}),
        (True, {}),
        (False, {"augment": "affine", "groups": ((0, 3), (1, 2))}),
    ],
)
def test_a_fit_brings_the_loss_down_and_is_the_same_for_a_seed(base, together, changes):
    weights, _, patches = base
    final = CONFIG.pruned(1, CONFIG.num_classes, heads="keep")
    cutter = Cutter(CONFIG, tensors(weights), patches)
    one = cutter.cut(final, best_kept(CONFIG, final, cutter.scores([0, 1, 2, 3], patches)))
    start = stacked.stack(final, [one] * 2)

    # four classes, the lighter the higher: moved and mirrored they stay what they are
    labels = torch.arange(24) % 4
    light = 70 * labels[:, None, None, None] + torch.arange(16)[None, None, :, None]
    pictures = light.expand(24, 16, 16, 1).to(torch.uint8)
    targets = torch.eye(4)[labels]
    goals = vit.features(CONFIG, tensors(weights), vit.patches(CONFIG, pictures))
    material = Material(pictures, targets, goals, labels)
    settings = Fit(
        epochs=40, batch_size=8, together=together, rates=(1e-2,), feature_weight=0.1, **changes
    )

    def loss(whole):
        logits = experiments.answers(final, whole, pictures, VIEWS[:1])
        fused = logits.mean(0).log_softmax(-1)
        return float(-(targets * fused).sum(-1).mean())

    after = fit(final, start, material, settings, lambda text: None)
    assert loss(after) < 0.8 * loss(start)
    again = fit(final, start, material, settings, lambda text: None)
    torch.testing.assert_close(after["head_kernel"], again["head_kernel"])


def test_figures_of_a_fleet():
    labels = torch.tensor([0, 1, 1, 0])
    right = torch.tensor([[2.0, 0], [0, 2], [0, 2], [2, 0]])
    wrong = torch.tensor([[0.0, 1], [1, 0], [1, 0], [0, 1]])
    found = experiments.figures(torch.stack([right, right, wrong]), labels, together=True)
    assert found["fleet"] == 100.0
    assert found["alone"] == [100.0, 100.0, 0.0]
    assert found["disagreement"] == pytest.approx(66.67)
    assert "3 lost" not in found


def recording(path, label):
    return SimpleNamespace(where=path, label=label, id=path.name)


@pytest.fixture
def pictures(tmp_path):
    """A data set of 40 files: dark and light pictures."""
    rng = np.random.default_rng(0)
    splits = {"train": [], "validation": [], "test": []}
    for number in range(40):
        label = number % 4
        pixels = rng.integers(0, 40, (16, 16)) + 60 * label
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        split = "train" if number < 28 else "validation" if number < 36 else "test"
        splits[split].append(recording(path, label))
    return SimpleNamespace(name="made", spec=ImageSpec(16, 16, 1), splits=splits)


def test_a_pack_is_run_and_its_weights_are_ours(pictures, tmp_path, capsys):
    from edvit_tf.study.fleet.__main__ import main
    from edvit_tf.training.train import predict

    write_pack(pictures, CONFIG, random_weights(), tmp_path / "pack")
    pack = read_pack(tmp_path / "pack")
    assert pack.config == CONFIG and pack.spec == pictures.spec
    assert [len(pack.labels[s]) for s in ("train", "validation", "test")] == [28, 8, 4]

    names = ["single, 30 epochs", "together from the single model, own views"]
    arguments = [str(tmp_path / "pack"), "--out", str(tmp_path / "out"), "--epochs", "2"]
    assert main([*arguments, "--batch", "8", "--only", *names]) == 0

    results = json.loads((tmp_path / "out/results.json").read_text())
    assert [r["name"] for r in results] == names
    assert 0 <= results[1]["views"]["fleet"] <= 100
    assert set(results[0]["copies of the best"]) == {"1", "2", "3", "4", "5", "10"}

    # what comes back is read by our pipeline, and answers there as it did here
    final = CONFIG.pruned(1, CONFIG.num_classes, heads="keep")
    weights = dict(np.load(tmp_path / "out/01/00.npz"))
    x = np.stack([pack.spec.from_file(data, {})[0] for data in pack.files["validation"]])
    logits = predict(final, weights, x)["logits"]
    share = round(100 * float((logits.argmax(1) == pack.labels["validation"]).mean()), 2)
    assert share == results[0]["as it is"]["alone"][0]


def test_many_classes_are_run_with_groups_and_told_on_the_test_split(pictures, tmp_path, capsys):
    from edvit_tf.study.fleet.__main__ import main

    write_pack(pictures, CONFIG, random_weights(), tmp_path / "pack")
    arguments = [str(tmp_path / "pack"), "--out", str(tmp_path / "out"), "--epochs", "1"]
    arguments += ["--batch", "8", "--augment", "affine", "--threads", "1", "--test"]
    names = ["single, 100 epochs", "classes alike, from the single model", "together, other units"]
    arguments += ["--table", "many", "--members", "4", "--only", *names]
    assert main(arguments) == 0

    single, grouped, units = json.loads((tmp_path / "out/results.json").read_text())
    assert [r["members"] for r in (single, grouped, units)] == [2, 4, 4]
    assert grouped["test"]["views"].keys() == grouped["views"].keys()
    assert 0 <= grouped["views"]["mean of all"] <= 100 and "mean of all" not in units["views"]
    assert 0 <= grouped["views"]["ridge"] <= 100 and "ridge" not in single["views"]
    printed = capsys.readouterr().out.splitlines()
    assert sum("base: " in line and "with 10 views" in line for line in printed) == 2
    table = [line for line in printed if line.startswith("|")]
    assert len(table) == 5 and table[3].startswith(
        f"| {names[1]} | 1 | {grouped['as it is']['fleet']:.1f}"
    )

    with pytest.raises(SystemExit):
        main([*arguments, "--members", "11"])


def test_what_cannot_be_packed_is_refused(pictures, tmp_path):
    sound = SimpleNamespace(name="sound", spec=object(), splits={})
    with pytest.raises(DataError, match="holds no pictures"):
        write_pack(sound, CONFIG, {}, tmp_path / "pack")

    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("mine")
    with pytest.raises(OutputError, match="is not empty"):
        write_pack(pictures, CONFIG, {}, tmp_path / "full")

    pictures.splits["train"][0].where = 3
    with pytest.raises(DataError, match="is no file of its own"):
        write_pack(pictures, CONFIG, {}, tmp_path / "pack")
    with pytest.raises(DataError, match="no whole pack"):
        read_pack(tmp_path / "nothing")
