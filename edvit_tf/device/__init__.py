"""What runs on a Raspberry Pi: the standard library, numpy, one TFLite runtime and grpc; nothing
else of ours.

Read `bundle.py` (open and verify a bundle), `preprocess.py` (files -> model inputs; training uses
it too), `runtime.py` (one shim over tflite-runtime and ai-edge-litert), `memory.py`, `batch.py` and
`process.py` (a model over an array file, in a process of its own), `golden.py` and `tune.py` (the
fastest file and thread count that answer right), `answer.py` (sub-models and fusion of a bundle in
one process), `power.py`, `selfcheck.py`, `__main__.py` (the command line).

Updates: `trial.py` (a bundle tried out), `versions.py` (side by side in a folder), `update.py` (the
commands).

Then the network: `protocol.py` and `wire.py` (messages, tensors; the aggregator and clients use
them too), `tls.py` (who a peer is), and the worker: `limits.py`, `hosted.py` (sub-models fit to
serve), `inputs.py` (what a request may bring), `executor.py` (one thread and its queue),
`watchdog.py`, `metrics.py`, `jsonlog.py`, `service.py` (the calls), `worker.py` (its life),
`unit.py` (systemd).
"""
