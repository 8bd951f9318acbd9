"""The aggregator: asks the devices, fuses what comes back, says what is missing. No TensorFlow.

Read `devices.py` (the static list), `probe.py` (what answers at an address), `link.py` (one device:
one call), `device_stream.py` (many requests over one call), `breaker.py` (when a device is left
alone), `heavy.py` (stuck, or busy with a large file), `pins.py` (what it may be asked for),
`hedge.py` (which of several with the same sub-model), `reply.py` (an answer is checked), `votes.py`
(whose fault a refusal is), `fanout.py` (all sub-models of one request), `outgoing.py` (how much at
once), `fusion.py` (the MLP), `seen.py` (what a page will tell), `service.py` (what a client is
answered), `http/` (pages, and the same over HTTP), `server.py` (from the command line to the port),
`client.py`, `framing.py` and `live.py` (files and streams to an aggregator), and `sensors.py`
(workers with inputs of their own, asked without an aggregator).

The invariant: never a wrong answer in silence, never past the deadline.
"""

# before any module here imports grpc: it sets how gRPC resolves names
import edvit_tf.device.rpc  # noqa: F401
