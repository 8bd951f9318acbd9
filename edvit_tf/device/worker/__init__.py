"""The worker: sub-models that answer over the network."""
