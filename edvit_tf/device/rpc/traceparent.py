"""To which trace a request belongs, as W3C's Trace Context says it: taken from a client, passed on
to workers, and put into the lines of logs that tell of the request.

Clients send it as metadata of a call, or as a header of HTTP; an aggregator sends it to its workers
as a parameter of the request, because many requests go over one call. What is no such text is left
out, as the standard demands: a request is answered whatever stands there.

Source: https://www.w3.org/TR/trace-context/
"""

import re
from contextvars import ContextVar
from typing import Any, NamedTuple

TRACEPARENT = "traceparent"
_CHARACTERS = 256  # of a later version's; that of version 00 has 55
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class Trace(NamedTuple):
    """The span of a trace in which a request is asked."""

    trace_id: str  # 32 digits
    span_id: str  # 16
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"


_here: ContextVar[Trace | None] = ContextVar("trace", default=None)


def enter(trace: Trace | None) -> None:
    """From now on this is the span in which this task answers."""
    _here.set(trace)


def here() -> Trace | None:
    """The span in which this task answers: its client's, or one of ours below or without that."""
    return _here.get()


def parsed(text: object) -> Trace | None:
    """None for what is no traceparent."""
    found = _FORM.fullmatch(text) if isinstance(text, str) and len(text) <= _CHARACTERS else None
    if found is None:
        return None

    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    if not int(trace_id, 16) or not int(span_id, 16):
        return None
    return Trace(trace_id, span_id, bool(int(flags, 16) & 1))


def trace_of(request: Any, context: Any) -> Trace | None:
    """That of a request with its call (`grpc.aio`'s context, or what stands for it); None without
    one, and with several.
    """
    # reading a map's entry would make one; some requests have none
    parameters: Any = getattr(request, "parameters", ())
    if TRACEPARENT in parameters:
        return parsed(parameters[TRACEPARENT].string_param)

    given = [value for key, value in context.invocation_metadata() or () if key == TRACEPARENT]
    return parsed(given[0]) if len(given) == 1 else None


def fields(trace: Trace | None) -> dict[str, str]:
    """What a line of a log says of it."""
    return {} if trace is None else {"trace_id": trace.trace_id}
