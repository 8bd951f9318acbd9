"""What runs on a Raspberry Pi: the standard library, numpy, one TFLite runtime and grpc; nothing
else of ours.

Four rooms, each importing from those before it alone:

`model/` runs a file: a bundle is opened and verified, pictures and recordings become inputs, a
model runs here or in a process of its own, proves itself on the golden input, is tuned.

`rpc/` is asked over the network: `messages.py` and `tensors.py` (the protocol), `tls.py` (who a
peer is), `ports.py`, `handlers.py` and `streams.py` (what a call passes), `base_service.py` (what
every server answers), `http_server.py` (its pages), `executor.py` and `watchdog.py` (one thread and
its queue), `lifecycle.py` (from the open port to the closed one). The aggregator and clients use it
too.

`worker/` serves sub-models: `loaded_models.py` (those that are fit to), `service.py` (the calls),
`server.py`, `systemd_unit.py`; `selfcheck.py` and `power.py` look at the machine.

`update/` brings a bundle's next version, tries it out, and takes it back.

`errors.py` has the exit codes, `__main__.py` the command line.
"""
