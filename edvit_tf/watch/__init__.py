"""A stream that never ends, asked of a fleet: the newest frame or window of sound, again and again.

Read `item.py` (what is asked), `newest.py` (the one that waits; what it replaces is dropped),
`hub.py` (what the fleet takes, and its answers), `outage.py` (the fleet is away, and back),
`asking.py` (a few requests in flight, answers in order), and `watch.py` (all of it, to its end).

Sources: `folder.py`; `camera.py` with `video.py`, `pi_camera.py` and `pictures.py`; `microphone.py`
with `recorder.py`, `sound_pipe.py`, `sound_file.py`, `silence.py` and `windows.py`; `reopening.py`
(one that goes away).

Several microphones of one room: `room.py` (the file), `sensor_sound.py` (one of them), `moments.py`
(windows of one moment), `sensors.py` (all of them), `workers.py` (who is asked).

What is done with answers: `rules.py`, `actions.py`, `outbox.py` (a thread that sends), and where
to: `mqtt.py`, `webhook.py`, `program.py`.

The invariant: what is asked is new. No queue grows, whatever is slow or away.
"""
