"""Room that callers share: the calls, requests and bytes that a server holds at the same time.

Who comes first must not take it all, and a lone caller should not be held to a small quota, so the
threshold moves: a name may hold as much as it leaves free. A lone name gets half; of two greedy
ones each gets a third, and a third is free for whoever comes next. Within a name the same holds of
its connections, each of which may hold twice what it leaves of the name's share. So one program
that asks without end leaves room for another one with the same certificate.

Source: dynamic thresholds of shared buffers, Choudhury and Hahne, IEEE/ACM Transactions on
Networking 6(2), 1998; with alpha 1 for names and 2 for connections.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator

import grpc

from edvit_tf.device.rpc.callers import Caller, Turn
from edvit_tf.device.rpc.messages import WireError

_NAME = 1  # times what is free that a name may hold
_CONNECTION = 2  # times what is left of its name's share that a connection may hold


class Shares:
    """`limit` of something, e.g. "calls", and `reserved` more that aggregators alone may take.

    With `first_for_all` a name that holds nothing gets what it asks for, as long as the limit
    holds: for amounts of which only a few have room. Belongs to one event loop.
    """

    def __init__(
        self, what: str, limit: int, reserved: int = 0, *, first_for_all: bool = False
    ) -> None:
        self.what = what
        self.limit = limit
        self.reserved = reserved
        self.first_for_all = first_for_all
        self.used = 0
        self._of_names: Counter[str] = Counter()
        self._of_connections: Counter[Turn] = Counter()
        self._waiting: dict[asyncio.Future[None], tuple[Caller, int]] = {}  # in turn

    def left(self, caller: Caller) -> int:
        """How much a caller may still take now."""
        free = self.limit - self.used
        if caller.asks_for_others:
            free += self.reserved

        if self.first_for_all and not self._of_names[caller.name]:
            return max(0, free)

        # up to where it holds _NAME times what is free then; and so for the connection
        name_left = (_NAME * free - self._of_names[caller.name]) // (1 + _NAME)
        held = self._of_connections[caller.turn]
        connection_left = (_CONNECTION * name_left - held) // (1 + _CONNECTION)

        return max(0, min(name_left, connection_left))

    def take(self, caller: Caller, amount: int = 1) -> bool:
        """Takes `amount` for a caller; False if that were more than its share."""
        if amount > self.left(caller):
            return False

        self._add(caller, amount)
        return True

    def _add(self, caller: Caller, amount: int) -> None:
        self.used += amount
        self._of_names[caller.name] += amount
        self._of_connections[caller.turn] += amount

    def give(self, caller: Caller, amount: int = 1) -> None:
        """Gives back what was taken; who waits for room may get it."""
        self.used -= amount
        self._of_names[caller.name] -= amount
        self._of_connections[caller.turn] -= amount

        # of names that come and go nothing stays
        if not self._of_names[caller.name]:
            del self._of_names[caller.name]
        if not self._of_connections[caller.turn]:
            del self._of_connections[caller.turn]

        self._let_in()

    @contextlib.contextmanager
    def held(self, caller: Caller, amount: int = 1) -> Iterator[None]:
        """Holds `amount` for the block. Raises WireError RESOURCE_EXHAUSTED."""
        if not self.take(caller, amount):
            raise self.refusal(caller, amount)
        try:
            yield
        finally:
            self.give(caller, amount)

    def refusal(self, caller: Caller, amount: int = 1) -> WireError:
        """What a caller is told whose share is used up."""
        return WireError(
            f"{self.what} at once: got {amount} more, with {self._of_names[caller.name]} held by "
            f"{caller.name} and {self.used} by all; expected at most {self.left(caller)} more (of "
            f"{self.limit} in all, shared between those who ask). Send less at a time.",
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        )

    async def wait(self, caller: Caller, amount: int = 1) -> None:
        """Takes `amount` as soon as that is within the caller's share; a name that holds nothing
        needs no share, only the room, which those who come later leave to it. A cancelled wait
        takes nothing.
        """
        # what is reserved for aggregators is kept for nobody else
        earlier = self._waiting.values() if not caller.asks_for_others else ()
        if not any(self._is_kept_for(*each) for each in earlier) and self._fits(caller, amount):
            self._add(caller, amount)
            return

        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = caller, amount
        try:
            await turn
        except asyncio.CancelledError:
            # let in and cancelled in the same moment
            if turn.done() and not turn.cancelled():
                self.give(caller, amount)
            # what was kept for it is free for those behind it
            self._waiting.pop(turn, None)
            self._let_in()
            raise

    def _fits(self, caller: Caller, amount: int) -> bool:
        """Whether one that waits may take so much now."""
        if amount <= self.left(caller):
            return True
        # large, where others hold their shares: else it would be shut out for as long as they do
        return not self._of_names[caller.name] and amount <= self.limit - self.used

    def _is_kept_for(self, caller: Caller, amount: int) -> bool:
        """Whether the room that one waits for is kept for it, although it does not suffice yet."""
        return not self._of_names[caller.name] and amount <= self.limit

    def _let_in(self) -> None:
        kept = False
        for turn, (caller, amount) in list(self._waiting.items()):
            if turn.done() or (kept and not caller.asks_for_others):
                continue
            if self._fits(caller, amount):
                self._add(caller, amount)
                del self._waiting[turn]
                turn.set_result(None)
            else:
                kept = kept or self._is_kept_for(caller, amount)
