"""A fleet under load that does not wait for it: requests arrive at a given rate, whatever becomes
of those before them.

`arrivals.py` says when, `drive.py` sends, `target.py` is whom they are sent to, `figures.py` what
came of it, `perf_analyzer.py` the same by Triton's tool, `run.py` the whole.
"""

# before any module here imports grpc: it sets how gRPC resolves names
import edvit_tf.device.rpc  # noqa: F401
