"""The kinds of input that there are. A further one is a subclass of InputSpec and a line here."""

import dataclasses
from typing import Any

from edvit_tf.device.model.image import ImageSpec
from edvit_tf.device.model.input_spec import InputSpec
from edvit_tf.device.model.sound import MelSpec
from edvit_tf.device.model.text import TextSpec

KINDS: dict[str, type[InputSpec]] = {spec.kind: spec for spec in (ImageSpec, MelSpec, TextSpec)}


def spec_from_dict(values: Any) -> InputSpec:
    """The inverse of `InputSpec.to_dict`; ValueError on an unknown kind, an unknown or missing key,
    or a wrong type.
    """
    kind = values.get("kind") if isinstance(values, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(
            f"Input spec of kind {kind!r}; the kinds are {', '.join(KINDS)}. "
            "Export the bundle again."
        )

    fields = {field.name: field for field in dataclasses.fields(KINDS[kind])}  # type: ignore[arg-type]

    # a field with a default may be left out
    needed = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
    given = {name: value for name, value in values.items() if name != "kind"}
    unknown = sorted(str(name) for name in given.keys() - fields.keys())
    missing = [name for name in needed if name not in given]
    if unknown or missing:
        raise ValueError(
            f"Input spec of kind {kind}: unknown keys {unknown}, missing keys {missing}; its keys "
            f"are {', '.join(fields)}. Use the edvit_tf version that wrote the bundle."
        )

    return KINDS[kind](**given)
