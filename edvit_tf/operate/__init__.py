"""What an operator does from the workstation: keys and certificates (`certs.py`), bundles sent to
devices (`push.py`).
"""
