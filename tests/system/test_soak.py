"""The soak and the steady run as commands, short. .ci/run calls the soak for two minutes with all
devices at the aggregator, here they are below two relays.
"""

import json

from tests.support.commands import run_device


def test_a_short_soak(five_bundle, tmp_path):
    done = run_device(
        "-m",
        "tests.soak",
        "--minutes",
        "0.2",
        "--seed",
        "7",
        "--tree",
        "--bundle",
        five_bundle,
        "--out",
        tmp_path / "soak.json",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "soak.json").read_text())
    assert result["wrong"] == result["hangs"] == 0 and result["answered"] > 100
    assert 0 < result["degraded"] < result["answered"]
    assert sum(row["count"] for row in result["faults"].values()) >= 3
    assert result["hostile"] and result["beside_hostile_peers"]["requests"] > 10


def test_a_soak_fails_when_answers_are_not_what_they_should_be():
    from tests.support.soak_figures import figures
    from tests.support.traffic import Row

    def failed(*rows):
        return figures([good] * 2000 + list(rows), [], [good])["failed"]

    good = Row(0.0, 0.01, 0, "OK", frozenset(), True, {}, "")
    assert failed() == []
    assert failed(Row(0.0, 0.01, 0, "OK", frozenset({1}), False, {}, "")) == ["1 wrong answers"]
    assert failed(Row(0.0, 1.7, 0, "OK", frozenset(), True, {}, "")) == ["1 requests too late"]
    refused = Row(0.0, 0.01, 0, "UNAVAILABLE", None, True, {}, "why")
    assert failed(refused) == [] and failed(*[refused] * 3) == ["availability"]

    # what a machine that stood still has lost is counted apart, and may not be much
    lost = Row(0.0, 1.6, 0, "DEADLINE_EXCEEDED", None, True, {}, "", lost=True)
    assert failed(*[lost] * 100) == []
    assert failed(*[lost] * 101) == ["the machine stood still too often"]


def test_beside_a_hostile_peer_a_tenth_may_be_refused_and_memory_may_not_grow():
    from tests.support.chaos import PEER, Fault
    from tests.support.soak_figures import figures, memory_figures
    from tests.support.traffic import Row

    def row(started, code):
        return Row(started, 0.01, 0, code, frozenset(), True, {}, "")

    greedy = Fault("greedy", PEER, 10.0, 2.0, 1.0, "")
    calm = [row(5.0, "OK")] * 100

    def failed(refused):
        crowded = [row(11.0, "OK")] * (100 - refused) + [row(12.9, "RESOURCE_EXHAUSTED")] * refused
        return figures(calm + crowded, [greedy], calm)["failed"]

    assert failed(10) == [] and failed(11) == ["polite clients beside hostile peers"]
    sly = Fault("bombs", PEER, 10.0, 2.0, 1.0, "a bomb was answered")
    assert figures(calm, [sly], calm)["failed"] == ["bombs of device -1: a bomb was answered"]

    steady = [(100 + n % 3, 50) for n in range(40)]
    assert memory_figures(steady, 2.0)["grew"] is False
    growing = [(100 + n, 50) for n in range(40)]
    assert memory_figures(growing, 2.0)["grew"] is True
    assert memory_figures(growing, 0.2)["grew"] is False and not memory_figures([], 2.0)["grew"]


def test_what_a_hostile_peer_holds_is_no_leak_and_what_stays_is_one():
    from tests.support.soak_figures import memory_figures

    def grew(*hub):
        return memory_figures([(each, 50) for each in hub], 2.0)["grew"]

    rest, beside = [70] * 20, [95] * 80  # of a quarter; the most that was seen in an aggregator
    calm = [*[70] * 100] * 3
    assert not grew(*calm, *rest, *beside) and not grew(*calm, *beside, *rest)
    assert not grew(*beside, *rest, *[70] * 100, *beside, *rest, *beside, *rest)

    # 8 MiB that a peer of the third quarter left, seen although other peers come and go
    left = [each + 8 for each in (*rest, *beside)]
    assert grew(*[70] * 200, *left, *left)
    # what grows with each peer, by less than the peers hold
    assert grew(*(each + n // 20 for n, each in enumerate([*rest, *beside] * 4)))


def test_a_short_steady_run(tiny_bundle, tmp_path):
    done = run_device(
        "-m",
        "tests.steady",
        "--requests",
        "1000",
        "--bundle",
        tiny_bundle,
        "--out",
        tmp_path / "steady.json",
    )
    result = json.loads((tmp_path / "steady.json").read_text())
    assert result["wrong"] == result["not_whole"] == 0 and result["requests"] >= 1000, (
        done.stdout + done.stderr
    )
    assert [len(samples) for samples in result["processes"].values()] == [10, 10, 10]
