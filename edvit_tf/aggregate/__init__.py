"""The aggregator: asks the devices, fuses what comes back, says what is missing. No TensorFlow.

Read `devices.py` (the static list), `link.py` (one device: what it has, one call),
`device_stream.py` (many requests over one call), `breaker.py` (when a device is left alone),
`hedge.py` (which of several with the same sub-model), `fanout.py` (all sub-models of one request,
each answer checked), `fusion.py` (the MLP), `service.py` (what a client is answered), `server.py`
(from the command line to the port), `client.py` and `framing.py` (files and streams to an
aggregator). The invariant: never a wrong answer in silence, never past the deadline.
"""

# before any module here imports grpc: it sets how gRPC resolves names
import edvit_tf.device.rpc  # noqa: F401
