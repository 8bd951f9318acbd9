"""In which order servers are restarted: what answers at every moment."""

from hypothesis import given
from hypothesis import strategies as st

from edvit_tf.operate.deploy.order import may_go_over, restart_order

PAIRS = {"a": {0}, "b": {1}, "c": {0}, "d": {1}}


def test_replicas_stand_in_for_each_other():
    order = restart_order(PAIRS, set(PAIRS), set(PAIRS), new_bundle=False)
    assert order.before == (("a", "b"), ("c", "d")) and order.after == order.alone == ()


def test_a_new_bundle_goes_by_halves_with_the_aggregator_between():
    order = restart_order(PAIRS, set(PAIRS), set(PAIRS), new_bundle=True)
    assert (order.before, order.after, order.alone) == ((("a", "b"),), (("c", "d"),), ())


def test_what_one_device_alone_has_is_said_and_goes_last_and_alone():
    hosts = {"a": {0}, "b": {1}, "c": {0}}
    order = restart_order(hosts, set(hosts), set(hosts), new_bundle=False)
    assert order.before == (("a",), ("c",), ("b",)) or order.before == (("a",), ("b",), ("c",))
    assert order.alone == (1,)


def test_a_replica_that_is_down_stands_in_for_nobody():
    order = restart_order(PAIRS, {"a", "c"}, {"a", "b", "d"}, new_bundle=False)
    # c first: it answers for nothing yet, and then a may go
    assert order.before == (("c",), ("a",))


def test_a_first_deployment_starts_all_together():
    assert restart_order(PAIRS, set(PAIRS), set(), new_bundle=False).before == (tuple(PAIRS),)
    assert restart_order(PAIRS, set(), set(PAIRS), new_bundle=False).before == ()


def test_an_aggregator_goes_over_only_where_as_much_answers():
    assert may_go_over(PAIRS, {"a", "b"}, set(PAIRS), least=2)
    assert not may_go_over(PAIRS, {"a", "c"}, set(PAIRS), least=2)
    # nobody was answered before
    assert may_go_over(PAIRS, {"a"}, {"b"}, least=2)


HOSTS = st.dictionaries(
    st.sampled_from("abcdef"), st.sets(st.integers(0, 2), min_size=1, max_size=2), min_size=1
)


@given(HOSTS, st.data(), st.booleans())
def test_each_restarts_once_and_what_two_answer_for_is_always_answered(hosts, data, new_bundle):
    names = st.sets(st.sampled_from(sorted(hosts)))
    restarts, serving = data.draw(names), data.draw(names)
    order = restart_order(hosts, restarts, serving, new_bundle)
    waves = [*order.before, *order.after]
    assert sorted(name for wave in waves for name in wave) == sorted(restarts)

    covered = set().union(*(hosts[name] for name in serving))
    live = set(serving)
    # after the aggregator nobody asks those of the old bundle
    for wave in order.before[:1] if new_bundle else order.before:
        left = set().union(*(hosts[name] for name in live - set(wave)))
        assert covered - left <= set(order.alone)
        # nobody else had it
        for index in covered - left:
            assert sum(index in hosts[name] for name in live) == 1
        live |= set(wave)
