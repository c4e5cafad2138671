"""Passes of a plain Hugging Face model over token batches, run only in ways that have been shown to give that
model's own numbers."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from persona_probe.base.errors import BadInput
from persona_probe.models.sources import text_config
from persona_probe.prompts.batches import TokenBatch, batches
from persona_probe.prompts.rows import Row

Attention = Literal["sdpa", "eager"]
OPTIONAL = (
    "position_ids",
    "use_cache",
    "past_key_values",
    "logits_to_keep",
)  # arguments that not every family takes
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
    in generation.
    """

    twin: Any
    name: str
    attention: Attention
    shares: bool = True
    caches: bool = True
    pads: bool = True
    pads_left: bool = True

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
    ) -> Iterator[TokenBatch]:
        """`batches.batches`, with no row beside one that could change its score, and nothing shared that this
        model cannot share."""
        window = self.window
        short = [row for row in rows if window is None or len(row.ids) <= window]
        kinds = [
            (short, max_tokens, self.shares),
            ([row for row in rows if len(row.ids) > (window or len(row.ids))], max_tokens, False),
        ]
        for some, size, shares in kinds:
            alone = not self.pads or (some is not short and self._rope("dynamic") is not None)
            for batch in batches(
                some,
                max_tokens=1 if alone else size,
                pad_id=pad_id,
                scope=scope,
                keep_prompts=keep_prompts and shares,
            ):
                yield batch if shares else replace(batch, n_shared=0)

    def forward(
        self, batch: TokenBatch, *, logits_at: tuple[Int[Tensor, " place"], Int[Tensor, " place"]] | None
    ) -> Float[Tensor, "place d_vocab"] | None:
        """One pass over a batch, shared prefixes computed once; logits at the given rows and columns only,
        None for none.

        Columns count from `n_shared` on. Only these places pass through the vocabulary, which costs a small
        model half its time. Hooks see two calls when prefixes are shared: [prompts, n_shared, d_model] and
        [batch, rest, d_model].
        """
        lengths = [len(row.ids) for row in batch.rows]
        if max(lengths) > self.n_ctx:
            longest = batch.rows[lengths.index(max(lengths))]
            raise BadInput(
                f"row {longest.id!r} has {len(longest.ids)} tokens, {self.name} takes {self.n_ctx}:"
                " shorten it"
            )
        for row in batch.rows:
            self.check_ids(row.ids, what=f"row {row.id!r}")
        tokens, mask, position = (
            tensor.to(self.device) for tensor in (batch.tokens, batch.mask.long(), batch.positions)
        )
        shared, cache = batch.n_shared, None
        self.fresh_rope()
        body = self.twin.base_model
        if shared:
            firsts = batch.firsts
            head = {
                "attention_mask": mask[firsts, :shared],
                "position_ids": position[firsts, :shared],
                "use_cache": True,
            }
            cache = body(input_ids=tokens[firsts, :shared], **taken(body, head)).past_key_values
            cache.batch_select_indices(torch.tensor(batch.shared_by, device=self.device))
        rest = {
            "attention_mask": mask,
            "position_ids": position[:, shared:],
            "past_key_values": cache,
            "use_cache": bool(shared),
        }
        if logits_at is None:
            body(input_ids=tokens[:, shared:], **taken(body, rest))
            return None
        where = tuple(index.to(self.device) for index in logits_at)
        with at_places(self.twin, where):
            return self.twin(input_ids=tokens[:, shared:], **taken(self.twin, rest)).logits[0]

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


def taken(module: nn.Module, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments that a module's forward names; the optional ones that it does not name are left out, and
    those that are None."""
    names = inspect.signature(module.forward).parameters
    return {
        name: value
        for name, value in given.items()
        if (name in names or name not in OPTIONAL) and value is not None
    }


@contextmanager
def at_places(model: Any, where: tuple[Tensor, ...]) -> Iterator[None]:
    """Inside the block only these rows and columns pass through the unembedding; logits are [1, places,
    d_vocab]. Works under PEFT too."""
    handle = model.get_output_embeddings().register_forward_pre_hook(
        lambda head, args: (args[0][where][None], *args[1:])
    )
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def last_places(head: nn.Module, n: int) -> Iterator[None]:
    """Inside the block only the last `n` columns pass through the unembedding."""
    handle = head.register_forward_pre_hook(
        lambda _module, args: (args[0][:, -n:], *args[1:]),
        prepend=True,  # before `flat_head`'s
    )
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def flat_head(engine: Engine) -> Iterator[None]:
    """Inside the block the unembedding sees its batch as one row of tokens.

    On CPUs a bfloat16 product of [batch, 1, d_model] copies the d_vocab x d_model weights once per row: a
    gigabyte for 20 rows.
    """
    head = engine.twin.get_output_embeddings()
    shapes: list[tuple[int, ...]] = []

    def flatten(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        shapes.append(tuple(args[0].shape[:-1]))
        return (args[0].reshape(1, -1, args[0].shape[-1]), *args[1:])

    def restore(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output.reshape(*shapes.pop(), output.shape[-1])

    handles = (head.register_forward_pre_hook(flatten), head.register_forward_hook(restore))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
