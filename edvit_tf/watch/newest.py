"""The one item that waits to be asked for. A newer one takes its place."""

import threading

from edvit_tf.watch.item import Item


class Newest:
    """A place for one item, between a source's thread and those that ask."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: Item | None = None
        self._ended = False
        self._taken = 0
        self.dropped = 0  # items that were replaced before anybody took them

    def put(self, item: Item) -> bool:
        """In the place of an older one; False once it is closed."""
        with self._changed:
            if self._ended:
                return False
            self.dropped += self._item is not None
            self._item = item
            self._changed.notify()
            return True

    def put_when_free(self, item: Item) -> bool:
        """As soon as the one before is taken; False once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is None or self._ended)
            if self._ended:
                return False
            self._item = item
            self._changed.notify_all()
            return True

    def take(self) -> tuple[int, Item] | None:
        """(its number from 0, the item), waiting for one; None when no more come."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._ended)
            item, self._item = self._item, None
            if item is None:
                return None
            number = self._taken
            self._taken += 1
            self._changed.notify_all()
            return number, item

    def end(self) -> None:
        """Nothing more comes; what is there may still be taken."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more comes or goes; what waits is given up."""
        with self._changed:
            self._item = None
            self._ended = True
            self._changed.notify_all()
