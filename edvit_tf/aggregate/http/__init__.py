"""The aggregator's HTTP port: pages for people and programs, and the Open Inference Protocol over
HTTP.

Read `connections.py` (few, and none for long), `access.py` (who may see and ask), `bodies.py`
(JSON and binary tensors <-> the messages of gRPC), `rest.py` (a request over HTTP takes the way of
a call), `history.py`, `feed.py` and `events.py` (what the page is told), `files.py` (the page
itself, which lies in `page/`), `app.py` (the table of paths), `server.py` (a thread with an event
loop of its own, so that no page delays an answer) and `port.py` (all of it, opened).

uvicorn and starlette carry it, an extra of the aggregator; without them the port has /metrics and
/healthz alone, by the small server of a worker.
"""

# before any module here imports grpc: it sets how gRPC resolves names
import edvit_tf.device.rpc  # noqa: F401
