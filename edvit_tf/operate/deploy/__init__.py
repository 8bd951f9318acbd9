"""`edvit deploy`: a bundle and a devices.toml become a fleet that answers.

Read `machines.py` (who runs what), `certificates.py` and `wheel.py` (what is made here),
`commands.py` (what ssh is given), `steps.py` (what a machine needs, by what was seen of it),
`order.py` (who restarts when), `session.py` (running, and why it failed), `fleet.py` (all of it),
`on_device.py` (what runs there).
"""
