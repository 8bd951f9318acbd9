"""A call that may block for long, in a thread that nobody has to wait for.

The pool of `asyncio.to_thread` is small, and is waited for at the end: seven names that no server
resolves would hold up a good device, and SIGTERM.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any


class OwnThread:
    """One call at a time. Belongs to one event loop."""

    def __init__(self) -> None:
        self._pending: asyncio.Future | None = None

    async def run(self, call: Callable[[], Any], seconds: float) -> Any:
        """What `call()` returns or raises; TimeoutError after so long, and at once while an earlier
        call still blocks.
        """
        if self._pending is not None and not self._pending.done():
            raise TimeoutError("an earlier look-up of this address has not ended yet")

        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        # one that fails when nobody waits for it any more is no error to be logged
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._pending = answer

        def work() -> None:
            try:
                outcome, failure = call(), None
            except Exception as error:  # noqa: BLE001 (the caller's to see)
                outcome, failure = None, error
            # the loop may have ended meanwhile
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_tell, answer, outcome, failure)

        threading.Thread(target=work, daemon=True).start()
        done, _ = await asyncio.wait([answer], timeout=seconds)
        if not done:
            raise TimeoutError(f"no end of it within {seconds:g} s")
        return answer.result()


def _tell(answer: asyncio.Future, outcome: Any, failure: Exception | None) -> None:
    if answer.done():
        return
    if failure is None:
        answer.set_result(outcome)
    else:
        answer.set_exception(failure)
