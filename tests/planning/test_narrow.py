"""Algorithm 1's loop: the shares that go are those of the definition, and a thousand devices are
planned without looking at all of them for each share.
"""

import pytest

from edvit_tf.config import DeviceSpec
from edvit_tf.errors import PlanError
from edvit_tf.models import architecture, preset
from edvit_tf.planning import plan as module
from edvit_tf.planning.energy import spent
from edvit_tf.planning.narrow import Narrowing, Room
from edvit_tf.planning.placement import Joules
from edvit_tf.planning.plan import Plan, plan

BASE = preset("vit_base", (224, 224, 3), 30)


def by_definition(rows, kept, steps):
    """Shares after so many steps, each looking at every sub-model anew."""
    kept = list(kept)
    for _ in range(steps):
        sizes = []
        for k, count in zip(kept, rows, strict=True):
            config = BASE.pruned(k, count)
            sizes.append(architecture(config).file_bytes(config))
        prunable = [j for j, k in enumerate(kept) if k > 1]
        if not prunable:
            break
        kept[max(prunable, key=lambda j: (sizes[j], -j))] -= 1
    return kept


@pytest.mark.parametrize("steps", [0, 1, 4, 9, 40])
def test_a_step_takes_a_share_of_the_biggest(steps):
    rows = [3, 5, 5, 2, 4]
    sub_models = Narrowing(BASE, rows, 4, "float32", "merge")
    taken = [sub_models.narrow() for _ in range(steps)]
    assert sub_models.kept == by_definition(rows, [4] * 5, steps)
    assert taken == [True] * min(steps, 15) + [False] * max(0, steps - 15)
    assert sub_models.size_bytes == sum(cost.size_bytes for cost in sub_models.costs)
    assert sub_models.macs == sum(cost.macs for cost in sub_models.costs)


def test_what_no_device_could_hold_is_ruled_out():
    sub_models = Narrowing(BASE, [3, 3], 2, "float32", "merge")
    size, macs = sub_models.costs[0].size_bytes, sub_models.costs[0].macs

    def ruled_out(devices, samples=1, replicas=1):
        specs = [DeviceSpec(f"d{i}", *limits) for i, limits in enumerate(devices)]
        return Room(specs, samples, replicas).rules_out(sub_models)

    assert not ruled_out([(size, macs), (size, macs)])
    assert not ruled_out([(None, None)])
    assert ruled_out([(size - 1, macs), (size - 1, macs)])  # one is too big
    assert ruled_out([(2 * size - 1, None)])  # both together are
    assert ruled_out([(None, 2 * macs - 1)])
    assert ruled_out([(None, 3 * macs)], samples=2)
    # the second copy has no device that is large enough
    assert ruled_out([(4 * size, None), (size - 1, None)], replicas=2)


def test_what_no_device_has_joules_for_is_ruled_out():
    sub_models = Narrowing(BASE, [3, 3], 2, "float32", "merge")
    work = sub_models.costs[0].work
    assert work == architecture(BASE).macs_full(sub_models.costs[0].config) == sub_models.work // 2

    def ruled_out(limits, per_mac, samples=1, replicas=1):
        specs = [DeviceSpec(f"d{i}") for i in range(len(limits))]
        joules = Joules((work, work), per_mac, limits)
        return Room(specs, samples, replicas, joules).rules_out(sub_models)

    assert not ruled_out((5 * work, 7 * work), (5, 7))
    assert not ruled_out((None, 1), (5, 7))
    assert ruled_out((5 * work - 1, 7 * work - 1), (5, 7))  # one takes too much
    assert ruled_out((10 * work - 1,), (5,))  # both together do
    assert ruled_out((15 * work,), (5,), samples=2)
    # the second copy has no device that may spend as much
    assert ruled_out((20 * work, 7 * work - 1), (5, 7), replicas=2)
    sub_models.narrow()
    assert sub_models.work == sum(cost.work for cost in sub_models.costs) < 2 * work


def test_limits_in_joules_are_placed_only_where_sums_allow_it(monkeypatch):
    tried = []
    real = module.place
    monkeypatch.setattr(module, "place", lambda *given: tried.append(1) or real(*given))
    narrowest = BASE.pruned(1, 2)
    needed = spent(DeviceSpec("one", board="pi4b"), [narrowest]).computing_joules.middle
    limits = {"board": "pi4b", "energy_joules": 1.5 * needed}
    devices = [DeviceSpec(f"d{i}", **limits) for i in range(30)]
    groups = [(j,) for j in range(30)]
    made = plan(BASE, groups, devices, start_heads=8, objective="joules")
    assert {sub.kept for sub in made.sub_models} == {1} and not made.idle
    # of the 210 shares that go each was placed anew
    assert len(tried) == 1


def test_a_thousand_devices_are_placed_only_where_sums_allow_it(monkeypatch):
    """7,000 shares go before all fit: placing anew for each of them took minutes."""
    tried = []
    real = module.place
    monkeypatch.setattr(module, "place", lambda *given: tried.append(1) or real(*given))
    base = preset("vit_base", (224, 224, 3), 1000)
    narrowest = base.pruned(1, 2)
    most = int(1.5 * architecture(narrowest).file_bytes(narrowest))
    devices = [DeviceSpec(f"d{i:03d}", most) for i in range(1000)]
    made = plan(base, [(j,) for j in range(1000)], devices, start_heads=8)
    assert {sub.kept for sub in made.sub_models} == {1} and not made.idle
    assert len(tried) == 1

    with pytest.raises(PlanError, match="all 1000 sub-models are down to 1 of 12 heads"):
        plan(base, [(j,) for j in range(1000)], [DeviceSpec("one", most)], start_heads=8)
    assert len(tried) == 1


def test_a_warning_of_many_devices_looks_at_each_idle_one_once(monkeypatch):
    narrow = BASE.pruned(1, 2)
    size = architecture(narrow).file_bytes(narrow)
    devices = [DeviceSpec(f"large-{i}", 3 * size) for i in range(15)]
    small = [DeviceSpec(f"small-{i}", size // 2) for i in range(15)]
    result = plan(BASE, [(j,) for j in range(30)], [*devices, *small])
    assert result.idle == tuple(device.name for device in small)

    looked = []
    could_hold = Plan.could_hold

    def counted(self, device, widths):
        looked.append((device.name, widths))
        return could_hold(self, device, widths)

    def each(self, device):
        raise AssertionError(f"{device}: all sub-models are gone through for one device")

    monkeypatch.setattr(Plan, "could_hold", counted)
    monkeypatch.setattr(Plan, "held_by", each)
    warning = result.warning
    assert "small-0, small-1" in warning and "no room for any there" in warning
    # once for each width, of which there is one here, though there are thirty sub-models
    assert looked == [(device.name, narrow) for device in small]
