"""A HookedTransformer that the user has loaded, measured as it is: its own forward pass, called as a Hugging
Face model is."""

from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from persona_probe.base.errors import BadInput
from persona_probe.models.calls import last_places
from persona_probe.models.checks import probe_rows, reference
from persona_probe.models.editable import distinct, named
from persona_probe.models.loading import Model
from persona_probe.models.parity import fitted_engine
from persona_probe.models.tensors import check_finite
from persona_probe.prompts.tokenizers import Tokenizer

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

# Where a block writes, by the names that a bridge has for it.
_PARTS = {"hook_out": "hook_resid_post", "attn.hook_out": "hook_attn_out", "mlp.hook_out": "hook_mlp_out"}
_EMBEDDINGS = {"embed.hook_out": "hook_embed", "pos_embed.hook_out": "hook_pos_embed"}


def take_hooked(given: "HookedTransformer", tokenizer: Tokenizer) -> "HookedModel":
    """A HookedTransformer as a model of ours, over its own modules; nothing of it is copied.

    Its residual stream and logits are those of its own weights, as TransformerLens folded and centred them.
    BadInput for hooks that are still on it, for weights that are not finite, and where it does not compute
    the same for rows in a batch as for rows alone and no way around it is known.
    """
    name = named(given)
    if left := [point for point, hook in given.hook_dict.items() if hook.fwd_hooks or hook.bwd_hooks]:
        raise BadInput(f"{name} has hooks left at {left[0]}: remove them with model.reset_hooks()")
    check_finite(name, given.named_parameters())
    dtype, twin = given.W_E.dtype, HookedTwin(given)
    known = reference(twin, probe_rows(tokenizer, n_rows=given.cfg.d_vocab))
    engine, checks = fitted_engine(twin, name, known, attention="eager", dtype=dtype)
    return HookedModel(
        name=name,
        bridge=given,
        engine=engine,
        tokenizer=tokenizer,
        device=engine.device,
        dtype=dtype,
        checks=checks,
        given=given,
    )


def same_processing(base: Model | None, tuned: Model | None) -> None:
    """Refuse a HookedTransformer beside a model whose stream has other coordinates. None: a model by name.

    TransformerLens takes the mean out of everything that is written into the stream of a model with
    LayerNorm. With RMSNorm it leaves the stream as it is.
    """
    kinds = {side: _processing(model) for side, model in (("base", base), ("tuned", tuned))}
    if len(set(kinds.values())) > 1:
        raise BadInput(
            f"the streams of base ({kinds['base']}) and tuned ({kinds['tuned']}) differ by TransformerLens'"
            " processing: load both as HookedTransformers in the same way, or both by name"
        )


def _processing(model: Model | None) -> str:
    if not isinstance(model, HookedModel) or model.given.cfg.normalization_type not in ("LN", "LNPre"):
        return "as trained"
    written = model.given.W_E.float()
    return "centred" if written.mean(-1).abs().max() < 1e-3 * written.abs().max() else "as trained"


@dataclass(frozen=True, eq=False)
class HookedModel(Model):
    """`bridge` and `given` are the HookedTransformer itself; `twin` calls the same modules in another way."""

    def writers(self) -> tuple[str, ...]:
        """Hook points of what is added to the residual stream: embeddings, attention and MLP outputs."""
        embeddings = [name for name, inside in _EMBEDDINGS.items() if inside in self.given.hook_dict]
        parts = [
            f"blocks.{layer}.{part}"
            for layer in range(self.n_layers)
            for part, inside in _PARTS.items()
            if part != "hook_out" and f"blocks.{layer}.{inside}" in self.given.hook_dict
        ]
        return (*embeddings, *parts)

    def find_site(self, hook_point: str) -> tuple[Any, nn.Module]:
        """The HookPoint of TransformerLens through which the stream passes there, twice: it is the module,
        too."""
        places = {
            f"blocks.{layer}.{part}": f"blocks.{layer}.{inside}"
            for layer in range(self.n_layers)
            for part, inside in _PARTS.items()
        }
        inside = (places | _EMBEDDINGS).get(hook_point, hook_point)
        hook = self.given.hook_dict.get(inside)
        if hook is None or inside not in {*places.values(), *_EMBEDDINGS.values()}:
            raise self.unknown(hook_point)
        return hook, hook

    def roots(self) -> tuple[nn.Module, ...]:
        """Modules whose arguments say at which positions the tokens of a pass stand."""
        return distinct(self.twin, self.twin.base_model, *self.given.blocks)

    def targets(self, hook_point: str) -> tuple[nn.Module, ...]:
        """The one module that the stream passes through there."""
        return (self.site(hook_point)[1],)

    def blocks(self) -> nn.ModuleList:
        """The blocks of the HookedTransformer, in order."""
        return self.given.blocks

    def final_norm(self) -> nn.Module:
        """The norm between the last block and the unembedding."""
        return self.given.ln_final

    def unembedding(self) -> Float[Tensor, "d_vocab d_model"]:
        """The weights from the stream behind the final norm to the logits."""
        return self.given.W_U.detach().T


class HookedTwin(nn.Module):
    """Calls a HookedTransformer with the arguments, and gives the results, of a Hugging Face model."""

    runs = "the HookedTransformer's own passes"  # what a check-up says of it
    # Blocks that are skipped would leave its cache without their tokens; its body gives no state.
    cannot = ("shares", "splits_head")
    generation_config = None

    def __init__(self, hooked: "HookedTransformer") -> None:
        super().__init__()
        self.hooked = hooked
        self.base_model = _Body(hooked)
        self.config = _Config(hooked.cfg)

    def get_input_embeddings(self) -> Any:
        """The embedding; its `weight` is [d_vocab, d_model]."""
        return SimpleNamespace(weight=self.hooked.W_E)

    def get_output_embeddings(self) -> nn.Module:
        """The module that gives logits; TransformerLens keeps its weights as [d_model, d_vocab]."""
        return self.hooked.unembed

    def forward(
        self,
        input_ids: Int[Tensor, "batch new"],
        attention_mask: Int[Tensor, "batch pos"] | None = None,
        past_key_values: Any = None,
        use_cache: bool = False,
        output_hidden_states: bool = False,
        logits_to_keep: int = 0,
    ) -> SimpleNamespace:
        """`logits` and `past_key_values`, and with `output_hidden_states` the embedding and every block's
        stream."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if use_cache and past_key_values is None:
            from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

            past_key_values = TransformerLensKeyValueCache.init_cache(
                self.hooked.cfg, input_ids.device, len(input_ids)
            )
        states: list[Tensor] = []
        handles = [
            hook.register_forward_hook(lambda _module, _args, stream: states.append(stream))
            for hook in (self._entrance(), *(block.hook_resid_post for block in self._blocks()))
            if output_hidden_states
        ]
        few = last_places(self.hooked.unembed, logits_to_keep) if logits_to_keep else nullcontext()
        try:
            with few:
                logits = self.hooked(
                    input_ids,
                    attention_mask=attention_mask[:, -input_ids.shape[1] :],
                    past_kv_cache=past_key_values,
                )
        finally:
            for handle in handles:
                handle.remove()
        return SimpleNamespace(logits=logits, past_key_values=past_key_values, hidden_states=tuple(states))

    def _entrance(self) -> nn.Module:
        return self._blocks()[0].hook_resid_pre

    def _blocks(self) -> list[Any]:
        return list(self.hooked.blocks)


class _Body(nn.Module):
    """The same without the unembedding."""

    def __init__(self, hooked: "HookedTransformer") -> None:
        super().__init__()
        self.hooked = hooked

    def forward(
        self, input_ids: Int[Tensor, "batch pos"], attention_mask: Int[Tensor, "batch pos"] | None = None
    ) -> None:
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        self.hooked(input_ids, attention_mask=mask, return_type=None)


class _Config:
    """What is asked of a Hugging Face config, answered from TransformerLens' config."""

    model_type = "hooked_transformer"

    def __init__(self, config: Any) -> None:
        self.max_position_embeddings: int = config.n_ctx
        self.hidden_size: int = config.d_model
        self.num_hidden_layers: int = config.n_layers
        self.vocab_size: int = config.d_vocab

    def get_text_config(self, decoder: bool = True) -> "_Config":
        """This one: a HookedTransformer is a language model alone."""
        return self
