"""Opens the HTTP port of an aggregator, with all that is on it."""

import asyncio

from edvit_tf.aggregate.http.access import Access
from edvit_tf.aggregate.http.app import make_app
from edvit_tf.aggregate.http.connections import ANSWER_SECONDS
from edvit_tf.aggregate.http.events import Events
from edvit_tf.aggregate.http.feed import Feed
from edvit_tf.aggregate.http.options import HttpOptions
from edvit_tf.aggregate.http.rest import Rest
from edvit_tf.aggregate.http.server import HttpServer
from edvit_tf.aggregate.seen import Seen
from edvit_tf.device.rpc.base_service import BaseService
from edvit_tf.device.rpc.handlers import INFER
from edvit_tf.device.rpc.limits import RECEIVE_SECONDS
from edvit_tf.device.rpc.ports import is_loopback

_MARGIN_SECONDS = 5.0


def open_live_port(
    service: BaseService, seen: Seen, options: HttpOptions, host: str, port: int
) -> tuple[HttpServer, Rest, Feed]:
    """The port, open, in the event loop of the service. Raises OSError if it cannot listen."""
    feed = Feed(
        service.bundle,
        service.model_input,
        seen,
        service.health_said,
        lambda: service.metrics.unanswered(INFER),
    )
    rest = Rest(service, asyncio.get_running_loop())
    access = Access(is_loopback(host), options.token)
    app = make_app(service.routes(), rest, Events(feed), access, service.accepted_roles)
    own = service.own if options.https else None

    server = HttpServer(app, host, port, own, feed.run, answer_seconds(service))
    return server, rest, feed


def answer_seconds(service: BaseService) -> float:
    """What an answer may take: a body that comes late, and the longest deadline."""
    return max(ANSWER_SECONDS, RECEIVE_SECONDS + service.deadline_seconds + _MARGIN_SECONDS)
