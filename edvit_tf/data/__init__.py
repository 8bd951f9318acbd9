"""Data sets: recordings on disk (or made up) -> splits -> windows the model takes, read one at a
time.

Read dataset.py (what every data set is), split.py (who is trained on, who is tested on), folders.py
(where the files are), catalogue.py (`load`, the one verb), then one module a data set: gtzan.py and
speech_commands.py over audio.py, mnist.py, cifar10.py, digits.py, caltech256.py, caltech101.py and
omniglot.py over class_pictures.py, newsgroups.py over texts.py, folder.py over own_*.py,
somebody's own files, and synthetic.py, the stand-ins. TensorFlow is imported by the Keras download
alone, librosa by audio.py inside its functions.

    data = edvit_tf.data.load("gtzan", "my/folder", image_size=(224, 224), seed=0,
    window_seconds=3.0) for x, label, recording in data.iterate("train"): ...
"""

from .catalogue import load, load_survey
from .dataset import Dataset, Recording, Skipped

__all__ = ["Dataset", "Recording", "Skipped", "load", "load_survey"]
