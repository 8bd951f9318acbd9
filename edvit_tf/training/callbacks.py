"""Keras callbacks of the caller, which reach every Keras fit of this process.

A run has many fits, and a callback that keeps a state (a log folder) may want to know which it is
in: so a function of the fit's title, "base" or "submodel-00", may be given in the place of a list.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

# a list of callbacks, or a function: title of a fit -> such a list
Callbacks = Sequence[Any] | Callable[[str], Sequence[Any]]

_given: ContextVar[Callbacks] = ContextVar("callbacks", default=())


@contextlib.contextmanager
def reaching_fits(callbacks: Callbacks) -> Iterator[None]:
    """Within it every fit has these callbacks beside its own."""
    token = _given.set(callbacks)
    try:
        yield
    finally:
        _given.reset(token)


def callbacks_of(title: str) -> list[Any]:
    """Those of the fit of this title."""
    given = _given.get()
    return list(given(title) if callable(given) else given)
