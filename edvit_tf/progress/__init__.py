"""What is told while something long runs: events, and who listens to them (a terminal, a log file,
a program). The rooms above tell; a command line chooses the listeners.
"""

from edvit_tf.progress.events import Event, listening, tell, warn

__all__ = ["Event", "listening", "tell", "warn"]
