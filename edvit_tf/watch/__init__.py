"""A stream that never ends, asked of a fleet: the newest frame or window of sound, again and again.

Read `item.py` (what is asked), `newest.py` (the one that waits; what it replaces is dropped),
`hub.py` (what the fleet takes, and its answers), `outage.py` (the fleet is away, and back),
`asking.py` (a few requests in flight, answers in order), and `watch.py` (all of it, to its end).

The invariant: what is asked is new. No queue grows, whatever is slow or away.
"""
