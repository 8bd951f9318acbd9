"""How a fleet's channels behave, a client's to an aggregator and an aggregator's to its devices."""

OPTIONS = [
    # the other end is in the house; a proxy of the environment is for the web
    ("grpc.enable_http_proxy", 0),
    # one that comes back with another address is looked for as soon as it is missed
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2000),
    ("grpc.enable_retries", 0),
]

# A client's: where the aggregator's name has several addresses, they are asked in turn, and one
# that is gone is left out.
IN_TURN = [*OPTIONS, ("grpc.lb_policy_name", "round_robin")]
