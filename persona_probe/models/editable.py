"""Where edits go in: the modules of a model whose output is the stream at a hook point, for ours and for
models of others."""

from typing import Any, Protocol, runtime_checkable

from torch import nn

from persona_probe.base.errors import BadInput
from persona_probe.models.sources import text_config


@runtime_checkable
class Editable(Protocol):
    """A model that `applied` can edit."""

    @property
    def name(self) -> str:
        """How messages call it."""
        ...

    @property
    def d_model(self) -> int:
        """Width of its residual stream."""
        ...

    def roots(self) -> tuple[nn.Module, ...]:
        """Modules whose arguments say at which positions the tokens of a pass stand."""
        ...

    def targets(self, hook_point: str) -> tuple[nn.Module, ...]:
        """Modules whose output is the stream at a hook point; BadInput for an unknown one."""
        ...


class Foreign:
    """A model that the user has loaded, as something to edit. It is not copied; only hooks go in, and they
    come out again."""

    def __init__(
        self, name: str, d_model: int, roots: tuple[nn.Module, ...], blocks: list[nn.Module]
    ) -> None:
        self.name, self.d_model, self._roots, self._blocks = name, d_model, roots, blocks

    def roots(self) -> tuple[nn.Module, ...]:
        """Modules whose arguments say at which positions the tokens of a pass stand."""
        return self._roots

    def targets(self, hook_point: str) -> tuple[nn.Module, ...]:
        """The block, or its hook, that puts out the stream; only `blocks.N.hook_out` is known here."""
        known = {f"blocks.{i}.hook_out": block for i, block in enumerate(self._blocks)}
        if hook_point not in known:
            last = len(self._blocks) - 1
            raise BadInput(
                f"no hook point {hook_point!r} in {self.name}: it has blocks.0.hook_out to"
                f" blocks.{last}.hook_out"
            )
        return (known[hook_point],)


def editable(given: Any) -> Editable:
    """`given` as a model that can be edited: ours, a TransformerBridge, a HookedTransformer or a Hugging Face
    model."""
    if isinstance(given, Editable):
        return given
    if is_of(given, "TransformerBridge"):
        whole = given.original_model
        hooks = given.hook_dict  # built anew at every access
        blocks = [hooks[f"blocks.{i}.hook_out"] for i in range(given.cfg.n_layers)]
        return Foreign(named(given), given.cfg.d_model, distinct(whole, whole.base_model), blocks)
    if is_of(given, "HookedTransformer"):
        blocks = [given.hook_dict[f"blocks.{i}.hook_resid_post"] for i in range(given.cfg.n_layers)]
        return Foreign(named(given), given.cfg.d_model, tuple(given.blocks), blocks)
    if not is_hugging_face(given):
        raise BadInput(
            f"a {type(given).__name__} is no model that can be edited: give a model of a pair, "
            "a TransformerBridge, a HookedTransformer or a Hugging Face model"
        )
    config = text_config(given.config)
    return Foreign(
        named(given), int(config.hidden_size), distinct(given, given.base_model), decoder_blocks(given)
    )


def is_of(given: Any, name: str) -> bool:
    """Whether `given` is of a class of TransformerLens, told without importing it."""
    return any(
        kind.__name__ == name and kind.__module__.startswith("transformer_lens.")
        for kind in type(given).__mro__
    )


def is_hugging_face(given: Any) -> bool:
    """Whether `given` is a model of transformers, told without importing it."""
    return any(kind.__name__ == "PreTrainedModel" for kind in type(given).__mro__)


def decoder_blocks(model: Any) -> list[nn.Module]:
    """The blocks of a Hugging Face decoder, in order; BadInput where they are not one list of the depth in
    its config."""
    depth = int(text_config(model.config).num_hidden_layers)
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return list(module)
    raise BadInput(f"{named(model)}: no list of {depth} blocks was found in it, so there is nowhere to edit")


def named(given: Any) -> str:
    """A name for a loaded model: where it came from, without folders, else its class."""
    config = getattr(given, "config", None) or getattr(given, "cfg", None)
    path = getattr(config, "name_or_path", None) or getattr(config, "model_name", None) or ""
    last = str(path).rstrip("/").rpartition("/")[2]
    return f"{last} ({type(given).__name__}, loaded)" if last else f"{type(given).__name__}, loaded"


def distinct(*modules: nn.Module) -> tuple[nn.Module, ...]:
    """Each module once."""
    return tuple({id(module): module for module in modules}.values())
