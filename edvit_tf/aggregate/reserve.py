"""How much of a request's time its devices do not get, so that the answer is there when its client
still waits.
"""

# Of the deadline, for fusion and the way back: a client whose own deadline is the shorter one must
# get the flagged answer before it gives up. With 5 ms it did not, on loopback.
_SHARE = 0.05
_LEAST_SECONDS = 0.02
# And for each request that may be answered at the same moment: where one device is silent, all that
# wait for it end together. On a loaded machine 67 of them took 0.37 s.
_TURN_SECONDS = 0.003
# The first of a crowd is to know of those that come behind it, as after the last deadline; but a
# crowd of a moment ago must not take time from those who come alone. By time: a request a second
# would remember it for minutes.
_CROWD_HALF_LIFE_SECONDS = 2.0


class Reserve:
    """What is held back by a server that asks others."""

    def __init__(self) -> None:
        self.crowd = 0.0  # requests that were in flight together lately
        self.crowd_at = 0.0  # time.monotonic() of that

    def seconds(self, left: float, now: float, in_flight: float, own_seconds: float) -> float:
        """Of the `left` seconds of a request at `now` (time.monotonic()), with `in_flight` of them
        at once; `own_seconds` is what the server itself does with the answers.
        """
        fades = 0.5 ** ((now - self.crowd_at) / _CROWD_HALF_LIFE_SECONDS)
        self.crowd = max(in_flight, fades * self.crowd)
        self.crowd_at = now

        reserve = max(_SHARE * left, _LEAST_SECONDS) + 4 * own_seconds
        reserve += self.crowd * _TURN_SECONDS

        # of a short deadline it must not take more than a quarter
        return min(left / 4, reserve)
