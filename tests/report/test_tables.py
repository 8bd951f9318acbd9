"""Text tables: what stands in which column."""

from edvit_tf.data.names import few
from edvit_tf.models import preset
from edvit_tf.report.tables import cost_table


def test_the_table_of_costs_has_a_line_a_model():
    base = preset("vit_base", (224, 224, 3), 10)
    lines = cost_table({"vit_base": base, "a_longer_name": base.pruned(2, 3)}).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split()[:4] == ["model", "heads", "d", "c"]
    assert lines[1].split() == [
        "vit_base",
        "12",
        "768",
        "3072",
        "85.81",
        "16.85",
        "17.56",
        "327.33",
    ]
    assert lines[2].split()[:4] == ["a_longer_name", "2", "128", "512"]


def test_of_many_names_the_count_and_the_first_few_are_said():
    assert few(("disc", "ring"), 10, "classes") == "disc, ring"
    many = [f"class-{i}" for i in range(100)]
    assert few(many, 40, "classes") == "100 classes: class-0, class-1, ..."
    # one at least, in whatever room
    assert few(many, 3, "classes") == "100 classes: class-0, ..."
