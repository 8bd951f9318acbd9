"""What is done when a rule is fulfilled."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from edvit_tf.watch.item import Item
from edvit_tf.watch.outbox import Outbox
from edvit_tf.watch.rules import Rules

_LAST_SECONDS = 5.0  # for what is on its way at the end


class Actions:
    """Rules, and where their events go: `seen` hears of each, the outboxes send it."""

    def __init__(
        self, rules: Rules, seen: Callable[[dict[str, Any]], None], outboxes: Sequence[Outbox]
    ) -> None:
        self._rules, self._seen, self._outboxes = rules, seen, outboxes

    def begin(self, ended: Callable[[Exception], None]) -> None:
        """The stream begins; `ended` hears of a place that will never take an event."""
        for outbox in self._outboxes:
            outbox.begin(ended)

    def answered(self, item: Item, answer: dict[str, Any]) -> None:
        """Never waits."""
        for event in self._rules.seen(item, answer):
            self._seen(event)
            for outbox in self._outboxes:
                outbox.put(event)

    def finish(self) -> list[dict[str, Any]]:
        """What became of the messages, once those that wait had their last seconds."""
        until = time.monotonic() + _LAST_SECONDS
        return [outbox.finish(until) for outbox in self._outboxes]
