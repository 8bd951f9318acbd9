"""A queue that serves callers in turn: name after name, and within a name connection after
connection.

Who waits with one request waits for one of each of the others, however many those have queued.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

from edvit_tf.device.rpc.callers import Turn

_Item = TypeVar("_Item")


class FairQueue(Generic[_Item]):
    """Items by whose turn they take. No locks: that is the user's."""

    def __init__(self) -> None:
        # both in the order of their turns: who was served goes to the end
        self._names: dict[str, dict[str, list[_Item]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, turn: Turn, item: _Item) -> None:
        name, connection = turn
        self._names.setdefault(name, {}).setdefault(connection, []).append(item)
        self._count += 1

    def pop(self) -> _Item:
        """The item whose turn it is; there must be one."""
        name = next(iter(self._names))
        connections = self._names.pop(name)
        connection = next(iter(connections))
        items = connections.pop(connection)

        item = items.pop(0)
        self._count -= 1

        # to the end of the line, where something is left to serve
        if items:
            connections[connection] = items
        if connections:
            self._names[name] = connections

        return item

    def remove(self, turn: Turn, item: _Item) -> bool:
        """Takes an item out; False if it is not there any more."""
        name, connection = turn
        items = self._names.get(name, {}).get(connection, [])
        if item not in items:
            return False

        items.remove(item)
        self._count -= 1
        if not items:
            del self._names[name][connection]
        if not self._names[name]:
            del self._names[name]

        return True

    def ahead(self, turn: Turn) -> int:
        """How many are served before an item that comes now, if nobody else comes."""
        name, connection = turn
        own = self._names.get(name, {})
        before = _served_before(connection, {key: len(items) for key, items in own.items()})

        sizes = {}
        for other, connections in self._names.items():
            sizes[other] = sum(map(len, connections.values()))
        sizes[name] = before

        return _served_before(name, sizes)

    def in_order(self) -> Iterator[_Item]:
        """All items, as they are served if nobody else comes."""
        copy: FairQueue[_Item] = FairQueue()
        copy._count = self._count
        for name, connections in self._names.items():
            copy._names[name] = {key: list(items) for key, items in connections.items()}

        while copy:
            yield copy.pop()


def _served_before(key: str, sizes: dict[str, int]) -> int:
    """Items before the next one of `key`, by how many each has: a round serves one of each, in the
    order of the keys.
    """
    own = sizes.get(key, 0)
    before = own
    passed = False
    for other, size in sizes.items():
        if other == key:
            passed = True
        else:
            # the last round reaches those alone that stand before
            rounds = own if passed else own + 1
            before += min(size, rounds)

    return before
