"""Places in a model where its residual stream is read and edited, named as TransformerLens names them."""

import re
from typing import Any

from persona_probe.base.errors import BadInput

PATTERN = r"^blocks\.[0-9]{1,6}\.hook_out$"


class HookPoint(str):
    """The residual stream after block `layer` (0-based): the text `blocks.{layer}.hook_out`, which knows its
    layer."""

    layer: int

    def __new__(cls, layer: int) -> "HookPoint":
        """The hook point of a layer."""
        if layer < 0:
            raise BadInput(f"layer {layer} has no hook point: layers count from 0")
        point = super().__new__(cls, f"blocks.{layer}.hook_out")
        point.layer = layer
        return point

    @classmethod
    def parse(cls, text: object) -> "HookPoint":
        """The hook point that a file or a user names; BadInput for anything but `blocks.N.hook_out`."""
        if isinstance(text, cls):
            return text
        if not isinstance(text, str) or not re.fullmatch(PATTERN, text):
            raise BadInput(
                f"{text!r:.60} is no hook point of the residual stream: expected blocks.N.hook_out"
            )
        return cls(int(text.split(".")[1]))

    def __getnewargs__(self) -> tuple[int]:  # type: ignore[override]  # a copy is made from the layer
        return (self.layer,)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """In a record: JSON text of this form, a HookPoint once it is read."""
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(
            cls.parse, core_schema.str_schema(pattern=PATTERN)
        )
