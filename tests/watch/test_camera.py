"""Cameras and videos: real ones are files and streams that PyAV makes and reads."""

import contextlib
import http.server
import io
import sys
import threading
import time
import types

import numpy as np
import pytest

from edvit_tf.device.model.decode_picture import decode_image
from edvit_tf.device.model.image import ImageSpec
from edvit_tf.errors import SourceError
from edvit_tf.watch import camera, pictures
from edvit_tf.watch.camera import Camera
from edvit_tf.watch.pictures import Seeing, picture_value
from edvit_tf.watch.video import Frame, _as_ffmpeg, _pixels_of, without_password

SPEC = ImageSpec(16, 16, 3)
RNG = np.random.default_rng(7)


def half_and_half(number: int) -> np.ndarray:
    """A frame whose left half is red and its right half as blue as its number says."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :32, 0] = 220
    pixels[:, 32:, 2] = 40 + 2 * number
    return pixels


def video(path, frames: int = 60, rate: int = 30):
    """A video file of 30 frames a second."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(half_and_half(number), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


class Stop(threading.Event):
    """Told to stop it never is; it notes how long it should have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout=None):
        self.waits.append(timeout)
        return False


def taken(camera: Camera, stop=None, most: int = 10**9) -> tuple[list, list[str]]:
    items, words = [], []

    def give(item) -> bool:
        items.append(item)
        return len(items) < most

    camera.run(give, stop or Stop(), words.append)
    return items, words


def test_a_video_is_played_at_its_own_rate_and_a_fast_one_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(camera, "time", types.SimpleNamespace(monotonic=lambda: 100.0))
    file = str(video(tmp_path / "door.mp4"))
    stop = Stop()
    items, words = taken(Camera(file, SPEC, fast=False), stop)
    assert len(items) == 60 and words == []
    assert items[30].fields == {"frame": 30, "seconds": 1.0}
    assert max(stop.waits) == pytest.approx(59 / 30)  # of a clock that stands still

    [value] = items[20].values()
    assert value.shape == (1, 16, 16, 3) and value.dtype == np.uint8
    left, right = value[0, 8, 3], value[0, 8, 12]
    np.testing.assert_allclose(left, [220, 0, 0], atol=25)
    np.testing.assert_allclose(right, [0, 0, 80], atol=25)

    stop = Stop()
    assert len(taken(Camera(file, SPEC, fast=True), stop)[0]) == 60 and stop.waits == []


def test_a_video_whose_clock_jumps_is_played_on(tmp_path, monkeypatch):
    pixels = half_and_half(1)
    seconds = [0, 0.5, 95000, 95000.5, 3, 3.5]
    frames = [Frame(second, lambda *_: pixels) for second in seconds]
    opened = contextlib.nullcontext(iter(frames))
    monkeypatch.setattr(camera, "opened_video", lambda _: opened)
    monkeypatch.setattr(camera, "time", types.SimpleNamespace(monotonic=lambda: 100.0))
    (tmp_path / "door.ts").write_bytes(b"")
    stop = Stop()
    taken(Camera(str(tmp_path / "door.ts"), SPEC, fast=False), stop)
    assert stop.waits == [0, 0.5] * 3


def test_what_is_no_camera_and_no_video_is_one_error(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(SourceError, match="is no file. Give a number"):
        Camera(str(tmp_path / "none.mp4"), SPEC, fast=False)
    for where in (str(tmp_path / "text.mp4"), "97", "rtsp://me:secret@127.0.0.1:1/door"):
        with pytest.raises(SourceError, match="cannot be opened") as caught:
            taken(Camera(where, SPEC, fast=False))
        assert "secret" not in str(caught.value)
    with pytest.raises(SourceError, match="has its own pace"):
        Camera("0", SPEC, fast=True)
    assert without_password("rtsp://me:p@w@host/x") == "rtsp://host/***"
    assert _as_ffmpeg("0")[1]["format"] in ("v4l2", "avfoundation")
    assert _as_ffmpeg("/dev/v4l/by-id/usb-Door-index0")[1] == {"format": "v4l2"}


def test_a_frame_of_8k_is_scaled_down_before_it_is_looked_at():
    av = pytest.importorskip("av")
    large = np.zeros((4320, 7680, 3), np.uint8)
    large[:, 3840:] = 200
    pixels = _pixels_of(av.VideoFrame.from_ndarray(large, format="rgb24"))(32, 32)
    assert pixels.shape == (32, 32, 3)
    assert pixels[:, :15].max() < 20 and pixels[:, 17:].min() > 180


# ---- a camera of the network that comes and goes


class _Camera(http.server.BaseHTTPRequestHandler):
    """As cheap cameras do it: one JPEG after the other, in a response without an end."""

    def do_GET(self):
        self.server.asked += 1
        if self.server.asked in self.server.refused:
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        for number in range(5):
            data = jpeg(half_and_half(number))
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(head.encode() + data + b"\r\n")

    def log_message(self, *_):
        pass


def jpeg(pixels: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def test_a_camera_that_goes_away_is_opened_again(monkeypatch):
    pytest.importorskip("av")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Camera) as server:
        server.asked, server.refused = 0, (2, 3)
        threading.Thread(target=server.serve_forever).start()
        try:
            where = f"http://me:secret@127.0.0.1:{server.server_address[1]}/video"
            stop = Stop()
            items, words = taken(Camera(where, SPEC, fast=False), stop, 7)
        finally:
            server.shutdown()
    assert len(items) == 7 and server.asked == 4
    assert stop.waits == [0.5, 1.0, 2.0]  # once it had ended, and twice refused
    assert len(words) == 2 and "secret" not in "".join(words)
    assert "went away, going on" in words[0] and words[1].endswith(" is back.")


def test_the_camera_of_a_pi(monkeypatch):
    calls = []

    class Picamera2:
        def create_video_configuration(self, main):
            return main

        def configure(self, main):
            calls.append(main["format"])

        def capture_array(self, name):
            return half_and_half(5)

        def start(self):
            calls.append("start")

        def stop(self):
            calls.append("stop")

        def close(self):
            calls.append("close")

    module = types.SimpleNamespace(Picamera2=Picamera2)
    monkeypatch.setitem(sys.modules, "picamera2", module)
    items, _ = taken(Camera("pi", SPEC, fast=False), most=2)
    assert items[1].values()[0][0, 8, 3].tolist() == [220, 0, 0]
    assert calls == ["BGR888", "start", "stop", "close"]

    def none():
        raise IndexError("list index out of range")  # what it raises without a camera

    monkeypatch.setattr(module, "Picamera2", none)
    with pytest.raises(SourceError, match="--camera pi: the Pi's camera cannot be started"):
        taken(Camera("pi", SPEC, fast=False))
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(SourceError, match="apt install python3-picamera2"):
        taken(Camera("pi", SPEC, fast=False))


# ---- what is sent, and what shows nothing


@pytest.mark.parametrize("channels", [1, 3])
def test_a_large_input_goes_as_a_jpeg_of_the_model_s_size(channels):
    smooth = np.linspace(0, 255, 300 * 400 * 3).reshape(300, 400, 3).astype(np.uint8)
    small = picture_value(smooth, ImageSpec(32, 32, channels))
    assert small.shape == (1, 32, 32, channels)

    spec = ImageSpec(288, 288, channels)
    sent = picture_value(smooth, spec)
    assert isinstance(sent, bytes) and len(sent) < 288 * 288 * channels / 4
    exact = pictures.image_input(smooth, spec)
    decoded = decode_image(sent).reshape(288, 288, channels)
    assert np.abs(decoded.astype(int) - exact).mean() < 2


def test_frames_that_show_nothing_are_said_once_and_when_that_is_over():
    words = []
    seeing = Seeing("--camera 0", words.append)
    green = np.zeros((20, 20, 3), np.uint8)
    green[..., 1] = 154
    noise = RNG.integers(0, 255, (4, 20, 20, 3), np.uint8)
    for pixels in (noise[0], green, green + 1, green, noise[1], green * 0, noise[2]):
        seeing.look(pixels)
    assert words == [
        "--camera 0 shows one colour alone (red 0, green 154, blue 0), going on.",
        "--camera 0 shows something again.",
        "--camera 0 shows one colour alone (red 0, green 0, blue 0), going on.",
        "--camera 0 shows something again.",
    ]


def test_a_night_at_the_edge_of_darkness_is_said_once():
    words = []
    seeing = Seeing("--camera 0", words.append)
    for spread in RNG.uniform(1.6, 2.6, 100):
        pixels = np.full((20, 20, 3), 30, np.uint8)
        pixels[:10] += np.uint8(np.rint(2 * spread))  # halves: a deviation of `spread`
        seeing.look(pixels)
    assert len(words) == 1


def test_a_frame_that_is_asked_for_again_is_no_second_one(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr(pictures, "time", types.SimpleNamespace(monotonic=lambda: now))
    items, words = taken(Camera(str(video(tmp_path / "door.mp4", 1)), SPEC, fast=True))
    for _ in range(20):  # the fleet is away
        items[0].values()
        now += 1
    assert words == []


def test_a_frozen_picture_is_said_after_a_while(monkeypatch):
    words = []
    now = time.monotonic()
    monkeypatch.setattr(pictures, "time", types.SimpleNamespace(monotonic=lambda: now))
    seeing = Seeing("--camera 0", words.append)
    noise = RNG.integers(0, 255, (2, 20, 20, 3), np.uint8)
    for _ in range(12):
        seeing.look(noise[0])
        now += 1
    assert words == ["--camera 0 shows the very same picture for 10 s, going on."]
    seeing.look(noise[1])
    assert words[1:] == ["--camera 0 shows something again."]
