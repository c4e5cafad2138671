"""Passes of a plain Hugging Face model over token batches, run only in ways that have been shown to give that
model's own numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from persona_probe.base.errors import BadInput
from persona_probe.models.cache import shared
from persona_probe.models.calls import at_places, forward_replaced, taken
from persona_probe.models.sources import text_config
from persona_probe.prompts.batches import CALL_TOKENS, TokenBatch, batches
from persona_probe.prompts.rows import Row

Attention = Literal["sdpa", "eager"]
# What a probe in float32 finds wrong by less than numbers of two bytes can show.
ROUNDING_HIDES = {
    "llama4_text": ("shares", "pads_left"),
    "recurrent_gemma": ("shares", "caches", "pads_left"),
}


@dataclass(frozen=True, eq=False)
class Engine:
    """How passes of one model are run.

    `shares`: prompts that rows have in common may be computed once. `caches`: generation may keep what
    earlier tokens left. `pads`: rows of different length may stand in one batch; `pads_left`: so may prompts
    in generation. `splits_head`: logits may be made apart from the blocks, a few tokens at a time.
    `regroups`: in generation, a beginning that prompts share may be run once, and rows may leave the batch.
    """

    twin: Any
    name: str
    attention: Attention
    shares: bool = True
    caches: bool = True
    pads: bool = True
    pads_left: bool = True
    splits_head: bool = True
    regroups: bool = True

    def __post_init__(self) -> None:
        known = (*ROUNDING_HIDES.get(self.config.model_type, ()), *getattr(self.twin, "cannot", ()))
        for field in known:
            object.__setattr__(self, field, False)

    @property
    def config(self) -> Any:
        """The config of the language model, inside a multimodal one."""
        return text_config(self.twin.config)

    @property
    def device(self) -> torch.device:
        """Where its input goes."""
        return self.twin.get_input_embeddings().weight.device

    @property
    def call_tokens(self) -> int:
        """So many tokens take about as long as what a pass costs beside its tokens: more of them where
        numbers of two bytes make products fast."""
        two_bytes = self.twin.get_input_embeddings().weight.element_size() == 2
        return 80 if two_bytes else CALL_TOKENS

    @property
    def n_ctx(self) -> int:
        """Longest sequence the model was made for."""
        sizes = (
            getattr(self.config, name, None)
            for name in ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "seq_length")
        )
        found = next((int(size) for size in sizes if isinstance(size, int) and size > 0), 2048)
        return int(found * self._growth) if self._rope("dynamic") else found

    @property
    def n_rows(self) -> int:
        """Token ids that have an embedding: 0 to `n_rows` - 1."""
        return self.twin.get_input_embeddings().weight.shape[0]

    @property
    def window(self) -> int | None:
        """Length beyond which rotary frequencies depend on the longest sequence of a batch; None where they
        never do."""
        longrope, dynamic = self._rope("longrope"), self._rope("dynamic")
        if longrope:
            given = [
                longrope.get("original_max_position_embeddings"),
                getattr(self.config, "original_max_position_embeddings", None),
            ]
            return next((int(size) for size in given if size), None)
        return int(self.config.max_position_embeddings) if dynamic else None

    @property
    def sliding(self) -> int | None:
        """How many tokens back a block looks at most, where some block does not look at all of them."""
        sizes = (getattr(self.config, name, None) for name in ("sliding_window", "attention_chunk_size"))
        return min((int(size) for size in sizes if isinstance(size, int)), default=None)

    @property
    def _growth(self) -> float:
        return max(1.0, float((self._rope("dynamic") or {}).get("factor") or 1.0))

    def _rope(self, kind: str) -> dict[str, Any] | None:
        found = (
            getattr(self.config, "rope_parameters", None) or getattr(self.config, "rope_scaling", None) or {}
        )
        parts = (
            [found, *(part for part in found.values() if isinstance(part, dict))]
            if isinstance(found, dict)
            else []
        )
        return next((part for part in parts if part.get("rope_type", part.get("type")) == kind), None)

    def batches(
        self,
        rows: Sequence[Row],
        *,
        max_tokens: int,
        pad_id: int,
        scope: str = "reply",
        keep_prompts: bool = False,
        share: bool = True,
    ) -> Iterator[TokenBatch]:
        """`batches.batches`, with no row beside one that could change its score, and nothing shared that this
        model cannot share; without `share`, nothing at all."""
        window = self.window
        short = [row for row in rows if window is None or len(row.ids) <= window]
        kinds = [
            (short, self.shares and share),
            ([row for row in rows if len(row.ids) > (window or len(row.ids))], False),
        ]
        for some, shares in kinds:
            alone = not self.pads or (some is not short and self._rope("dynamic") is not None)
            yield from batches(
                some,
                max_tokens=1 if alone else max_tokens,
                pad_id=pad_id,
                scope=scope,
                keep_prompts=keep_prompts,
                call_tokens=self.call_tokens if shares else None,
            )

    def forward(
        self, batch: TokenBatch, *, logits_at: tuple[Int[Tensor, " place"], Int[Tensor, " place"]] | None
    ) -> Float[Tensor, "place d_vocab"] | None:
        """One pass over a batch, shared prefixes computed once; logits at the given rows and columns only,
        None for none.

        Columns count from `n_shared` on. Only these places pass through the vocabulary, which costs a small
        model half its time. Hooks see two calls when prefixes are shared: [prompts, n_shared, d_model] and
        [batch, rest, d_model].
        """
        if logits_at is None:
            self._body(batch)
            return None
        rest = self._rest(batch)
        where = tuple(index.to(self.device) for index in logits_at)
        with at_places(self.twin, where):
            return self.twin(**taken(self.twin, rest)).logits[0]

    def states(
        self, batch: TokenBatch, at: tuple[Int[Tensor, " place"], Int[Tensor, " place"]]
    ) -> Float[Tensor, "place d_model"]:
        """One pass over a batch as in `forward`; at some rows and columns what the unembedding is given."""
        rows, columns = (index.to(self.device, non_blocking=True) for index in at)
        return self._body(batch).last_hidden_state[rows, columns]

    def logits(self, states: Float[Tensor, "place d_model"]) -> Float[Tensor, "place d_vocab"]:
        """Logits of what `states` gives, by the model's own code behind its body: scales and caps
        included."""
        body, calls = self.twin.base_model, []

        def instead(*_: Any, **__: Any) -> Any:
            calls.append(None)
            return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=states[None])  # type: ignore  # a plain tensor

        with forward_replaced(body, instead):
            ids = torch.zeros(1, len(states), dtype=torch.long, device=self.device)
            logits = self.twin(input_ids=ids).logits[0]
        assert calls, f"{self.name} does not call its body for logits"
        return logits

    def _body(self, batch: TokenBatch) -> Any:
        body = self.twin.base_model
        return body(**taken(body, self._rest(batch)))

    def _rest(self, batch: TokenBatch) -> dict[str, Any]:
        """Arguments of the pass over all columns that are not shared; those that are have been run."""
        self._check(batch)
        tokens, mask, position = (
            tensor.to(self.device, non_blocking=True)
            for tensor in (batch.tokens, batch.mask.long(), batch.positions)
        )
        n_shared, cache = batch.n_shared, None
        self.fresh_rope()
        if n_shared:
            body, firsts = self.twin.base_model, batch.firsts
            firsts = (
                slice(0, 1) if len(firsts) == 1 else torch.tensor(firsts).to(self.device, non_blocking=True)
            )
            head = {
                "input_ids": tokens[firsts, :n_shared],
                "attention_mask": mask[firsts, :n_shared],
                "position_ids": position[firsts, :n_shared],
                "use_cache": True,
            }
            prefix_of = torch.tensor(batch.shared_by).to(self.device, non_blocking=True)
            cache = shared(body(**taken(body, head)).past_key_values, prefix_of)
        return {
            "input_ids": tokens[:, n_shared:],
            "attention_mask": mask,
            "position_ids": position[:, n_shared:],
            "past_key_values": cache,
            "use_cache": bool(n_shared),
        }

    def _check(self, batch: TokenBatch) -> None:
        """BadInput for a row that is too long, or that has a token without an embedding."""
        lengths = [len(row.ids) for row in batch.rows]
        if max(lengths) > self.n_ctx:
            longest = batch.rows[lengths.index(max(lengths))]
            raise BadInput(
                f"row {longest.id!r} has {len(longest.ids)} tokens, {self.name} takes {self.n_ctx}:"
                " shorten it"
            )
        for row in batch.rows:
            self.check_ids(row.ids, what=f"row {row.id!r}")

    def next_logits(
        self, tokens: Int[Tensor, "batch new"], mask: Int[Tensor, "batch pos"], cache: Any
    ) -> tuple[Float[Tensor, "batch d_vocab"], Any]:
        """Logits after the last of `tokens`, and the cache for the next call. `mask` covers what the cache
        holds, too."""
        position = (mask.cumsum(-1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        if cache is None:
            self.fresh_rope()
        given = {
            "attention_mask": mask,
            "position_ids": position,
            "past_key_values": cache,
            "use_cache": self.caches,
            "logits_to_keep": 1,
        }
        out = self.twin(input_ids=tokens, **taken(self.twin, given))
        return out.logits[:, -1], getattr(out, "past_key_values", None) if self.caches else None

    def check_ids(self, ids: Sequence[int], *, what: str) -> None:
        """BadInput for a token id without an embedding: it would read past the matrix."""
        if max(ids) >= self.n_rows:
            raise BadInput(
                f"{what} has token id {max(ids)}, {self.name} has embeddings for 0 to {self.n_rows - 1}: its"
                " tokenizer has tokens that the model was never given"
            )

    def fresh_rope(self) -> None:
        """Forget the length that dynamic rotary embeddings have grown to: a score must not depend on what was
        scored before."""
        if self._rope("dynamic") is None:
            return
        for module in self.twin.modules():
            if hasattr(module, "max_seq_len_cached") and hasattr(module, "original_inv_freq"):
                module.max_seq_len_cached = module.original_max_seq_len
                module.register_buffer(
                    "inv_freq", module.original_inv_freq.to(module.inv_freq.device), persistent=False
                )
