"""Whose fault it is when a device refuses an input, or answers it with numbers that no input gives:
the devices vote.

A device that says INVALID_ARGUMENT to a file may be right, and then all say so, or be broken, and
then the others have answered. So what it says is a doubt, until the request is over: where more
sub-models doubt than answer, the input is at fault, the client is told, and no device is blamed.
Else it was that device's wrong answer, which counts as missing and moves its breaker.
"""

from dataclasses import dataclass, field

from edvit_tf.aggregate.link import Asked, Link
from edvit_tf.aggregate.reply import Reply
from edvit_tf.device.rpc import messages

OUT_OF_RANGE = "out of range"
# of doubts that are the client's to mend when most devices have them
_OF_THE_INPUT = ("INVALID_ARGUMENT", OUT_OF_RANGE)


@dataclass(frozen=True)
class Doubt:
    """A refusal, or a doubtful answer, of one device."""

    device: str
    kind: str  # a status' name, or OUT_OF_RANGE
    words: str  # the device's, or what of the answer is doubtful

    @property
    def is_out_of_range(self) -> bool:
        return self.kind == OUT_OF_RANGE

    def __str__(self) -> str:
        return f"{self.device} {self.kind}: {self.words}"


@dataclass
class Votes:
    """The sub-models' results in one request, as they come."""

    sub_models: int
    least: int  # answers that the request needs
    _answered: int = 0
    _failed: int = 0  # for reasons that say nothing of the input
    _doubts: list[Doubt] = field(default_factory=list)  # one for each sub-model that has no better
    _held: list[tuple[Link, Asked, Doubt]] = field(default_factory=list)  # of replicas too
    _blamed: bool | None = None  # whether the devices that doubt are at fault; None before the end
    _proved: bool = True  # by the answers of others

    def doubt(self, link: Link, asked: Asked, kind: str, words: str) -> Doubt:
        """A device's doubt; the device hears at the end what it was worth."""
        made = Doubt(link.device.name, kind, words)
        if self._blamed is None:
            self._held.append((link, asked, made))
        else:
            # an attempt that was not waited for hears of its end a little later
            link.doubted(kind, asked, blamed=self._blamed, proved=self._proved)

        return made

    def count(self, result: Reply | Doubt | str) -> None:
        """A sub-model's result."""
        if isinstance(result, Reply):
            self._answered += 1
        elif isinstance(result, Doubt):
            self._doubts.append(result)
        else:
            self._failed += 1

    def decided(self) -> bool:
        """Whether the results that are still to come change nothing."""
        # most of all sub-models: the input is at fault, whatever the rest says
        if 2 * len(self._doubts) > self.sub_models:
            return True
        # too few can come; with a doubt among them the others still tell whose fault that is
        return not self._doubts and self._failed > self.sub_models - self.least

    def settle(self, given_up: bool = False) -> None:
        """The request is over: devices hear what their doubts were worth, those that still come
        too. `given_up`: its client went away, so that not all have voted.
        """
        # an answer is the proof that the input was good; none, or fewer: nobody is blamed
        self._blamed = 0 < self._answered >= len(self._doubts) and not given_up
        for link, asked, doubt in self._held:
            link.doubted(doubt.kind, asked, blamed=self._blamed)

    def settle_alone(self) -> None:
        """The request is over, and asked for one sub-model alone, so that nobody else has voted:
        each device that doubts is tried by an input of ours.
        """
        self._blamed, self._proved = True, False
        for link, asked, doubt in self._held:
            link.doubted(doubt.kind, asked, blamed=True, proved=False)

    def raise_refusal(self) -> None:
        """Raises WireError INVALID_ARGUMENT if by most devices the input cannot be used."""
        of_the_input = [doubt for doubt in self._doubts if doubt.kind in _OF_THE_INPUT]
        if len(of_the_input) <= self._answered:
            return

        # what a device says of the file helps more than numbers that are odd
        for doubt in of_the_input:
            if doubt.kind == "INVALID_ARGUMENT":
                raise messages.WireError(f"{doubt.device}: {doubt.words}")

        raise messages.WireError(
            f"input: got one that most devices answer far outside of all that was measured "
            f"({of_the_input[0]}) Expected a picture or sound of the kind that the model was "
            "trained on."
        )
