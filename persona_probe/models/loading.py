"""One model, two views of the same weights: a TransformerBridge and a plain Hugging Face twin."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from persona_probe.base.errors import BadInput, OutOfMemory
from persona_probe.base.hook_points import HookPoint
from persona_probe.models.bridge_checks import BRIDGE, bridge_checks
from persona_probe.models.bridges import boot_bridge, refuse_unbridged
from persona_probe.models.checks import Check, probe_rows, reference, said
from persona_probe.models.devices import few_kernels
from persona_probe.models.editable import distinct
from persona_probe.models.engine import Engine
from persona_probe.models.memory import release, trim, weights_apart
from persona_probe.models.parity import fitted_engine
from persona_probe.models.sources import Source
from persona_probe.models.tensors import shortened
from persona_probe.models.twins import build_twin
from persona_probe.models.weights import base_of, load_tokenizer, load_weights
from persona_probe.prompts.batches import TokenBatch
from persona_probe.prompts.rows import Row
from persona_probe.prompts.special_tokens import end_ids
from persona_probe.prompts.tokenizers import Tokenizer


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded model. `twin` and `bridge` share every tensor; arms run on the twin, the bridge names places.

    Residual streams are raw: `blocks.{i}.hook_out` is `hidden_states[i + 1]`, except after the last block.
    `given` is the user's own Hugging Face model, where this one shares its tensors: edits act on it as well.
    """

    name: str
    bridge: Any
    engine: Engine
    tokenizer: Tokenizer
    device: torch.device
    dtype: torch.dtype
    checks: tuple[Check, ...] = ()
    given: Any = None
    _sites: dict[str, tuple[Any, nn.Module]] = field(default_factory=dict, repr=False)

    @property
    def twin(self) -> Any:
        """The plain Hugging Face model that every number comes from."""
        return self.engine.twin

    @property
    def notes(self) -> tuple[str, ...]:
        """What the comparisons at load found, in sentences; empty when all agree."""
        failed = [check for check in self.checks if not check.passed]
        of_bridge = [
            f"{check.name.removeprefix(BRIDGE)} {said(check)}"
            for check in failed
            if check.name.startswith(BRIDGE)
        ]
        own = [f"{check.name}: {said(check)}" for check in failed if not check.name.startswith(BRIDGE)]
        if of_bridge:
            own.append(
                f"TransformerLens does not compute this model as Hugging Face does ({'; '.join(of_bridge)})."
                " All numbers come from the Hugging Face twin; do not trust `Model.bridge`, its caches or"
                " its hooks"
            )
        return tuple(own)

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return self.bridge.cfg.n_layers

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.bridge.cfg.d_model

    @property
    def n_ctx(self) -> int:
        """Longest sequence the model was made for."""
        return self.engine.n_ctx

    @property
    def pad_id(self) -> int:
        """A token to pad with: the tokenizer's own, or 0 where that has no embedding. Padding is masked."""
        own = self.tokenizer.pad_token_id
        return own if own is not None and 0 <= own < self.engine.n_rows else 0

    @property
    def eos_ids(self) -> list[int]:
        """Every token that ends a reply: those of the generation config, the template and the tokenizer."""
        ids = self.twin.generation_config.eos_token_id if self.twin.generation_config is not None else None
        listed = [] if ids is None else ids if isinstance(ids, list) else [ids]
        return sorted({*listed, *end_ids(self.tokenizer)})

    def batches(
        self,
        rows: Sequence[Row],
        *,
        max_tokens: int,
        scope: str = "reply",
        keep_prompts: bool = False,
        share: bool = True,
    ) -> Iterator[TokenBatch]:
        """Batches of this model's rows, `batches.batches` within what its engine can share and pad; without
        `share` every row is computed whole."""
        options = {"max_tokens": max_tokens, "pad_id": self.pad_id, "scope": scope}
        return self.engine.batches(rows, **options, keep_prompts=keep_prompts, share=share)

    def resid(self, layer: int) -> HookPoint:
        """Hook point of the residual stream after block `layer` (0-based)."""
        return HookPoint(layer)

    def resids(self) -> tuple[HookPoint, ...]:
        """Residual hook points of all layers."""
        return tuple(HookPoint(layer) for layer in range(self.n_layers))

    def writers(self) -> tuple[str, ...]:
        """Hook points of what is added to the residual stream: embeddings, attention and MLP outputs.

        On post-norm models (Gemma 2/3, OLMo 2) the written tensor is the one after the post-norm.
        """
        # The bridge's aliases know where an architecture adds to the stream (OLMo 2: ln1 and ln2).
        parts = ("hook_attn_out", "hook_mlp_out")
        hooks = self.bridge.hook_dict
        written = [hooks[f"blocks.{layer}.{part}"].name for layer in range(self.n_layers) for part in parts]
        embeddings = [
            name for name in ("embed", "pos_embed") if name in self.bridge.adapter.component_mapping
        ]
        return (*(f"{name}.hook_out" for name in embeddings), *written)

    def site(self, hook_point: str) -> tuple[Any, nn.Module]:
        """The bridge's HookPoint and the twin's module whose output it is. Aliases of hook points resolve.

        Looked up once: TransformerLens builds its table of hooks anew at every access, in about 10 ms.
        """
        if hook_point not in self._sites:
            self._sites[hook_point] = self.find_site(hook_point)
        return self._sites[hook_point]

    def find_site(self, hook_point: str) -> tuple[Any, nn.Module]:
        """What `site` keeps; BadInput for an unknown hook point."""
        # TransformerBridge ignores unknown hook names, so they are refused here.
        hook = self.bridge.hook_dict.get(hook_point)
        if hook is None:
            raise self.unknown(hook_point)
        return hook, self._module(self.twin, hook_point, hook.name)

    def unknown(self, hook_point: str) -> BadInput:
        """The error for a hook point that this model does not have."""
        return BadInput(
            f"no hook point {hook_point!r} in {self.name}: it has blocks.0.hook_out to"
            f" blocks.{self.n_layers - 1}.hook_out, and blocks.N.attn.hook_out, blocks.N.mlp.hook_out,"
            " embed.hook_out"
        )

    def roots(self) -> tuple[nn.Module, ...]:
        """Modules whose arguments say at which positions the tokens of a pass stand."""
        # OPT calls the decoder inside its body, not the body; and passes without logits call the body alone.
        wholes = [self.twin, self.bridge.original_model, *([] if self.given is None else [self.given])]
        return distinct(*(root for whole in wholes for root in (whole, whole.base_model)))

    def targets(self, hook_point: str) -> tuple[nn.Module, ...]:
        """Every module whose output is the stream there: of the twin, the bridge and the user's own model."""
        hook, module = self.site(hook_point)
        own = () if self.given is None else (self._module(self.given, hook_point, hook.name),)
        return (hook, module, *own)

    def blocks(self) -> nn.ModuleList:
        """The twin's blocks, in order."""
        return self.twin.get_submodule(self.bridge.adapter.component_mapping["blocks"].name)

    def final_norm(self) -> nn.Module:
        """The twin's norm between the last block and the unembedding."""
        return self.twin.get_submodule(self.bridge.adapter.component_mapping["ln_final"].name)

    def unembedding(self) -> Float[Tensor, "d_vocab d_model"]:
        """The weights from the stream behind the final norm to the logits."""
        return self.twin.get_output_embeddings().weight

    def _module(self, root: Any, hook_point: str, name: str) -> nn.Module:
        """The module of a Hugging Face model of this architecture whose output the bridge calls `name`."""
        *path, leaf = name.split(".")
        if leaf != "hook_out" or not path:
            raise BadInput(
                f"hook point {hook_point!r} is {name}, not the output of a module: edit a ...hook_out"
            )
        components, module = self.bridge.adapter.component_mapping, root
        while path:
            component = components[path.pop(0)]
            module = module.get_submodule(component.name)
            if path and path[0].isdigit():
                module = module.get_submodule(path.pop(0))
            components = component.submodules or {}
        return module


def load(
    source: Source,
    *,
    base: Source | None,
    device: torch.device,
    dtype: torch.dtype,
    tokenizer: Tokenizer | None = None,
    device_map: str | None = None,
    sharing: Model | None = None,
) -> Model:
    """Load a source (an adapter is merged into `base`), bridge it, and compare it with plain Hugging Face.

    `sharing`: the model of `base`, where it is in memory. A model made of an adapter takes from it every
    tensor that the adapter leaves alone; modules and hooks are never shared.
    Where the bridge differs, the twin still carries the numbers; `Model.notes` and a warning say so.
    """
    few_kernels()
    trim()  # a model that was converted on the way here has left its size in the heap
    refuse_unbridged(source if source.kind == "model" else base_of(source, base))
    reader = load_tokenizer(source, base) if tokenizer is None else tokenizer
    with weights_apart():
        weights = load_weights(
            source,
            base=base,
            device=device,
            dtype=dtype,
            device_map=device_map,
            sharing=None if sharing is None else sharing.twin,
        )
    return boot(source.id, weights, reader, dtype=dtype)


def boot(name: str, weights: Any, tokenizer: Tokenizer, *, dtype: torch.dtype) -> Model:
    """Bridge a plain Hugging Face model and keep a plain twin over the same tensors.

    Bridging changes the module tree that it is given, so the reference is taken and the twin is built first,
    on the meta device, without new memory.
    """
    device = next(weights.parameters()).device
    known = reference(weights, probe_rows(tokenizer, n_rows=weights.get_input_embeddings().weight.shape[0]))
    twin, attention = build_twin(weights, dtype=dtype)
    engine, checks = fitted_engine(twin, name, known, attention=attention, dtype=dtype)
    bridge = boot_bridge(name, weights, tokenizer, device=device, dtype=dtype)
    model = Model(name=name, bridge=bridge, engine=engine, tokenizer=tokenizer, device=device, dtype=dtype)
    checks += bridge_checks(
        bridge, engine, known, [model.site(point) for point in model.resids()], dtype=dtype
    )
    stream = next(check for check in checks if check.name == "residual stream")
    if not stream.passed:
        where = f"({type(twin).__name__}; {said(stream)})"
        why = f"do not give Hugging Face's hidden states {where}: nothing can be read there"
        raise BadInput(shortened(f"{name}: the blocks that TransformerLens names {why}", 300))
    model = replace(model, checks=checks)
    for note in model.notes:
        warnings.warn(f"{name}: {note}", stacklevel=3)
    return model


def forward(
    model: Model, batch: TokenBatch, *, logits_at: tuple[Int[Tensor, " place"], Int[Tensor, " place"]] | None
) -> Float[Tensor, "place d_vocab"] | None:
    """`Engine.forward` of the model's twin."""
    return model.engine.forward(batch, logits_at=logits_at)


T = TypeVar("T")


def halving(
    model: Model, batch: TokenBatch, run: Callable[[TokenBatch], T]
) -> Iterator[tuple[TokenBatch, T]]:
    """What `run` gives for a batch; when memory runs out, for its halves, down to single rows."""
    try:
        result = run(batch)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if len(batch) == 1:
            raise too_large(model, batch.rows[0]) from error
    else:
        yield batch, result
        return
    release()
    for half in batch.halves():
        yield from halving(model, half, run)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, here or on a GPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


def too_large(model: Model, row: Row) -> OutOfMemory:
    """The error for a single row that does not fit."""
    return OutOfMemory(
        f"row {row.id!r} ({len(row.ids)} tokens) does not fit on {model.device} beside {model.name}:"
        " use --dtype bfloat16, --device cpu or a smaller model"
    )
