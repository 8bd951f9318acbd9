"""What runs on a Raspberry Pi: the standard library, numpy, one TFLite runtime and grpc; nothing
else of ours.

Four rooms, each with its own words:

- `model/`: run a file. Bundles opened and verified, inputs decoded (training decodes them by the same
  code), sub-models run and tuned, all answers of a bundle in one process.
- `rpc/`: be asked. Messages, tensors, TLS, streams; the aggregator uses it too.
- `worker/`: the server of sub-models, its self-check and its systemd unit.
- `update/`: versions side by side in a folder, tried out before they are trusted.

`errors.py` has what can go wrong, and what a command then ends with.
"""
