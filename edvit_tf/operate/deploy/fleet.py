"""`edvit deploy`: from a bundle and a devices.toml to a fleet that answers, by one command.

All machines are brought to what they are to run at the same time; then the servers are restarted in
an order that keeps answers coming (`order.py`). A machine that fails says so, and the others go on.
What a machine has is looked at each time, so that the same command again does what failed, or what
changed, and nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from edvit_tf.operate.deploy import session, steps
from edvit_tf.operate.deploy.order import may_go_over, restart_order
from edvit_tf.operate.deploy.session import StepFailed
from edvit_tf.operate.deploy.steps import AGGREGATOR, WORKER, Target
from edvit_tf.operate.deploy.table import DONE, FAILED, LEFT, NONE, SAME, Table

_AT_ONCE = 32  # machines
_LEAST_PYTHON = [3, 11]
_PROCESSORS = ("aarch64", "x86_64")
# What a look at a machine has, whoever wrote it
_SEEN = {"machine": str, "bits": int, "python": list, "rsync": bool, "systemd": bool}
_SEEN |= {"free_bytes": int, "stores": dict, "identities": dict, "units": dict, "state": dict}
_PACKAGE_BYTES = 200 << 20  # an environment with numpy, a runtime, gRPC and pip
_FOUND_SECONDS = 30.0  # for an aggregator to find a device that was restarted


@dataclass
class _State:
    """What is known of a machine."""

    target: Target
    seen: dict = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)  # of its servers, as they are to be started
    failure: str | None = None

    @property
    def name(self) -> str:
        return self.target.machine.name

    def must_restart(self, unit: str) -> bool:
        return unit in self.keys and not steps.runs(self.seen, unit, self.keys[unit])


def deploy(targets: Sequence[Target], table: Table, say: Callable[[str], None]) -> dict[str, str]:
    """Brings a fleet up; returns what failed, by machine. `say` gets sentences for people."""
    states = [_State(target) for target in targets]
    with ThreadPoolExecutor(min(_AT_ONCE, len(states))) as pool:
        list(pool.map(lambda state: _prepare(state, table), states))
        _restart_all(states, table, say, pool)
    return {state.name: state.failure for state in states if state.failure is not None}


def _prepare(state: _State, table: Table) -> None:
    """Everything of a machine but the restarts."""
    target = state.target
    changed = False

    def step(name: str, work: Callable[[], bool | None]) -> None:
        """`work` says whether it did something; None: there is nothing of this kind."""
        nonlocal changed
        table.begin(state.name, name)
        try:
            did = work()
        except StepFailed as error:
            table.end(state.name, name, FAILED)
            state.failure = f"{name}: {error}"
            raise
        # a look changes nothing
        changed = changed or (bool(did) and name != "reach")
        table.end(state.name, name, NONE if did is None else DONE if did else SAME)

    def run(commands: list) -> bool:
        session.run(target.machine.ssh, commands)
        return bool(commands)

    def rsync() -> bool:
        return session.has_rsync() and state.seen["rsync"]

    try:
        step("reach", lambda: _look(state))
        step("package", lambda: run(steps.package(target, state.seen, rsync())))
        step("identity", lambda: run(steps.identity(target, state.seen)))
        step("bundle", lambda: run(steps.bundle(target, state.seen, rsync())))
        if target.machine.sub_models:
            step("check", lambda: run(steps.check(target, state.seen, changed)))
        if target.machine.sub_models and target.settings.tune:
            step("tune", lambda: run(steps.tune(target, state.seen)))
        step("unit", lambda: _units(state))
    except StepFailed:
        pass


def _look(state: _State) -> bool:
    seen = session.answer(state.target.machine.ssh, steps.look(state.target))
    wrong = [name for name, kind in _SEEN.items() if not isinstance(seen.get(name), kind)]
    if wrong:
        raise StepFailed(
            f"its answer has no {', '.join(wrong)}, or not as it is to be. Does python3 there "
            f"run what it is given? Look: ssh {state.target.machine.ssh} python3 --version"
        )
    state.seen = seen
    if seen["machine"] not in _PROCESSORS or seen["bits"] != 64:
        raise StepFailed(
            f"the system there has {seen['bits']} bits, on {seen['machine']}; the packages are "
            "for 64 bits, on aarch64 and x86_64. Install Raspberry Pi OS (64-bit)."
        )
    if state.seen["python"] < _LEAST_PYTHON:
        found = ".".join(map(str, state.seen["python"]))
        raise StepFailed(
            f"python3 there is {found}; edvit_tf needs 3.11. Install Raspberry Pi OS bookworm or "
            "newer."
        )
    if not state.seen["systemd"]:
        raise StepFailed("there is no systemctl; a machine without systemd is set up by hand.")

    _check_room(state)
    return True


def _check_room(state: _State) -> None:
    """A disk that is too full is said before anything is sent: some programs hide why they end."""
    target, seen = state.target, state.seen
    need = 0
    if seen.get("package") != target.settings.wheel.digest:
        need += _PACKAGE_BYTES
    if None in seen["stores"].values():
        names = {name for files in target.files().values() for name in files["sha256"]}
        path = target.settings.bundle.path
        # on its way, and in the store
        need += 2 * sum((path / name).stat().st_size for name in names)
    if seen["free_bytes"] < need:
        raise StepFailed(
            f"the disk is full: {seen['free_bytes'] / 2**20:.0f} MiB are free, "
            f"{need / 2**20:.0f} are needed. Make room (ssh {target.machine.ssh} df -h); then run "
            "the same command again."
        )


def _units(state: _State) -> bool:
    """Writes the units; whether one of them changed."""
    *files, last = steps.units(state.target)
    changed = False
    answers = []
    for command in [*files, last]:
        if "python3" not in command.words[-1]:
            session.run(state.target.machine.ssh, [command])
            continue
        answers.append(session.answer(state.target.machine.ssh, command))

    for unit, said in zip(state.target.units, answers, strict=True):
        state.keys[unit] = steps.start_key(state.target, unit, said["sha256"])
        changed = changed or said["changed"]
    return changed


def _restart_all(
    states: Sequence[_State], table: Table, say: Callable[[str], None], pool: ThreadPoolExecutor
) -> None:
    """Restarts what has to be, turn after turn, and waits until the aggregator has found all."""
    hub = next((state for state in states if state.target.machine.aggregator), None)
    page = None if hub is None else _page(hub, states)
    changes_over = hub is not None and _changes_over(hub, page)

    stopped = None
    for unit, wave in _turns(states, hub, page, changes_over, say):
        if stopped is not None:
            for state in wave:
                table.end(state.name, "restart", LEFT)
            continue
        _restart_wave(wave, unit, table, pool)
        if hub is not None and page is not None and unit == WORKER and not changes_over:
            _found_again(hub, [state for state in wave if not _moved(state, page)], table, say)
        failed = [state for state in wave if state.failure is not None]
        # who answered before, and does not now: whoever stands in for it must not go as well
        stopped = next((state for state in failed if _active(state, unit)), None)
        if stopped is not None:
            say(f"{stopped.name} did not come back: what was still to be restarted was left alone.")

    _tell_the_rest(states, table)
    if hub is not None and hub.failure is None and stopped is None:
        workers = [state for state in states if WORKER in state.keys and state.failure is None]
        _found(hub, [state.name for state in workers], say)


def _turns(
    states: Sequence[_State],
    hub: _State | None,
    page: dict | None,
    changes_over: bool,
    say: Callable[[str], None],
) -> list[tuple[str, list[_State]]]:
    """The machines of each turn, and which of their servers is restarted."""
    workers = {state.name: state for state in states if state.target.machine.sub_models}
    hosts = {name: set(state.target.machine.sub_models) for name, state in workers.items()}
    able = {name for name, state in workers.items() if state.failure is None}
    restarts = {name for name in able if workers[name].must_restart(WORKER)}
    serving = _serving(workers, page)

    if hub is not None and changes_over:
        least = hub.target.settings.min_submodels or len(set().union(*hosts.values()))
        if hub.failure is not None or not may_go_over(hosts, able, serving, least):
            say(
                "Nothing was restarted: the fleet answers with the bundle and authority before, "
                "and would answer for less with the new. Mend what failed, and run the same "
                "command again."
            )
            return []

    order = restart_order(hosts, restarts, serving, changes_over)
    if order.alone and hub is not None and _active(hub, AGGREGATOR):
        names = ", ".join(f"submodel-{index:02d}" for index in order.alone)
        say(f"One device alone has {names}: answers are without it while that restarts.")

    turns = [(WORKER, [workers[name] for name in wave]) for wave in order.before]
    if hub is not None and hub.failure is None and hub.must_restart(AGGREGATOR):
        turns.append((AGGREGATOR, [hub]))
    return turns + [(WORKER, [workers[name] for name in wave]) for wave in order.after]


def _page(hub: _State, states: Sequence[_State]) -> dict | None:
    """What the aggregator says of itself before anything restarts; None where it does not."""
    if not _active(hub, AGGREGATOR):
        return None
    names = [state.name for state in states if state.target.machine.sub_models]
    command = steps.wait(hub.target, names, 0.0, steps.health_before(hub.target, hub.seen))
    try:
        page = session.answer(hub.target.machine.ssh, command)
    except StepFailed:
        return None
    return page if page["bundle_digest"] else None


def _changes_over(hub: _State, page: dict | None) -> bool:
    """Whether the aggregator that runs asks other devices than the one that is to run: those of
    another bundle, or of another authority. Its store may have the new bundle since a run before.
    """
    if not _active(hub, AGGREGATOR):
        return False
    if page is None:
        stores = hub.seen.get("stores", {})
        served = stores.get(hub.target.hub_store)
    else:
        served = page["bundle_digest"]
    new_bundle = served != hub.target.settings.bundle.digest
    return new_bundle or not steps.trusts(hub.target, hub.seen)


def _moved(state: _State, page: Mapping[str, Any]) -> bool:
    """Whether the aggregator that runs asks a device elsewhere than the one that is to run: it does
    not find that one before it restarts.
    """
    asked = page["addresses"].get(state.name)
    return asked is not None and asked != state.target.machine.address


def _serving(workers: Mapping[str, _State], page: dict | None) -> set[str]:
    """The devices that answer now: as the aggregator finds them, for it reaches some that ssh does
    not; else those whose worker runs.
    """
    if page is not None:
        return set(workers) - set(page["waiting"])
    return {name for name, state in workers.items() if _active(state, WORKER)}


def _tell_the_rest(states: Sequence[_State], table: Table) -> None:
    """Of machines that were not restarted: that they run what they are to run, or wait."""
    for state in states:
        if state.failure is None and "restart" not in table.cells[state.name]:
            waits = any(state.must_restart(unit) for unit in state.target.units)
            table.end(state.name, "restart", LEFT if waits else SAME)


def _restart_wave(
    states: Sequence[_State], unit: str, table: Table, pool: ThreadPoolExecutor
) -> None:
    def one(state: _State) -> None:
        table.begin(state.name, "restart")
        command = steps.restart(state.target, unit, state.keys[unit])
        try:
            session.answer(state.target.machine.ssh, command)
        except StepFailed as error:
            state.failure = f"restart: {error}"
        table.end(state.name, "restart", DONE if state.failure is None else FAILED)

    list(pool.map(one, states))


def _found_again(
    hub: _State, wave: Sequence[_State], table: Table, say: Callable[[str], None]
) -> None:
    """Waits for a wave; one that answered before and is not found now has failed."""
    health = steps.health_before(hub.target, hub.seen)
    waiting = _found(hub, [one.name for one in wave if one.failure is None], say, health)
    for state in wave:
        if state.name in waiting and _active(state, WORKER):
            state.failure = "restart: the aggregator does not find it again"
            table.end(state.name, "restart", FAILED)


def _found(
    hub: _State, names: Sequence[str], say: Callable[[str], None], health: str | None = None
) -> set[str]:
    """Waits until the aggregator has found these devices; returns, and says, which it has not."""
    try:
        command = steps.wait(hub.target, list(names), _FOUND_SECONDS, health)
        waiting = session.answer(hub.target.machine.ssh, command)["waiting"]
    except StepFailed as error:
        say(f"{hub.name}: {error}")
        return set(names)
    for name, state in waiting.items():
        said = state or "not in its list"
        say(f"The aggregator finds {name}: {said} (docs/howto/several_pis.md says what that means)")
    return set(waiting)


def _active(state: _State, unit: str) -> bool:
    return state.seen.get("units", {}).get(unit, {}).get("active") == "active"
