"""The worker: sub-models that answer over the network."""

# before any module here imports grpc: it sets how gRPC resolves names
import edvit_tf.device.rpc  # noqa: F401
