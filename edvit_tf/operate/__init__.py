"""What an operator does from the workstation: keys and certificates (`certs.py`), bundles sent to
devices (`push.py`), a whole fleet as processes of one machine (`up.py`, `processes.py`), which
others find (`running.py`).
"""
