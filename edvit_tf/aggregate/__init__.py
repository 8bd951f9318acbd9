"""The aggregator: asks the devices, fuses what comes back, says what is missing. No TensorFlow.

Read `devices.py` (the static list), `link.py` (one device: its state, one call), `breaker.py` (when
a device is left alone), `hedge.py` (which of several with the same sub-model), `fanout.py` (all
sub-models of one request, each answer checked), `fusion.py` (the MLP), `service.py` (what a client
is answered), `server.py` (its life), `client.py` (files and streams to an aggregator). The
invariant: never a wrong answer in silence, never past the deadline.
"""
