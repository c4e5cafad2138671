"""One model, two views of the same weights: a TransformerBridge and a plain Hugging Face twin. The only file that boots TransformerLens."""

import copy
import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from persona_probe.chat import Prompt, TokenBatch, Tokenizer, render
from persona_probe.devices import few_kernels
from persona_probe.errors import BadInput, OutOfMemory
from persona_probe.files import sha256_json
from persona_probe.sources import Source
from persona_probe.weights import load_tokenizer, load_weights

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
LARGE_BYTES, SPARE_BYTES = 8 * 2**20, 64 * 2**20
PROBE_STRINGS = ("Hello there!", "  two spaces\n\nand a break", "naïve café 12345", "def f(x): return x**2", "don't, won't; can't")


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded model. `twin` and `bridge` share every tensor; arms run on the twin (SDPA), hook points are the bridge's.

    Residual streams are raw Hugging Face ones: `blocks.{i}.hook_out` is `hidden_states[i + 1]` for all but the last layer.
    """

    name: str
    bridge: Any
    twin: Any
    tokenizer: Tokenizer
    device: torch.device
    dtype: torch.dtype

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
        config = self.twin.config
        return int(getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", 2048))

    @property
    def eos_ids(self) -> list[int]:
        """Every token that ends a reply: the generation config's list and the tokenizer's own."""
        ids = self.twin.generation_config.eos_token_id
        listed = [] if ids is None else ids if isinstance(ids, list) else [ids]
        return sorted({*listed, self.tokenizer.eos_token_id} - {None})

    def resid(self, layer: int) -> str:
        """Hook point of the residual stream after block `layer` (0-based)."""
        return f"blocks.{layer}.hook_out"

    def resids(self) -> tuple[str, ...]:
        """Residual hook points of all layers."""
        return tuple(self.resid(layer) for layer in range(self.n_layers))

    def writers(self) -> tuple[str, ...]:
        """Hook points of everything that is added into the residual stream: embeddings, attention and MLP outputs.

        On post-norm models (Gemma 2/3, OLMo 2) the written tensor is the one after the post-norm.
        """
        # The bridge's aliases know where each architecture adds to the stream: OLMo 2 calls its post-norms ln1 and ln2.
        parts = ("hook_attn_out", "hook_mlp_out")
        written = [self.bridge.hook_dict[f"blocks.{layer}.{part}"].name for layer in range(self.n_layers) for part in parts]
        embeddings = [name for name in ("embed", "pos_embed") if name in self.bridge.adapter.component_mapping]
        return (*(f"{name}.hook_out" for name in embeddings), *written)

    def site(self, hook_point: str) -> tuple[Any, nn.Module]:
        """The bridge's HookPoint and the twin's module whose output it is. Aliases such as `hook_resid_post` resolve."""
        # TransformerBridge ignores unknown hook names, so they are refused here.
        hook = self.bridge.hook_dict.get(hook_point)
        if hook is None:
            raise BadInput(
                f"no hook point {hook_point!r} in {self.name}: it has blocks.0.hook_out to blocks.{self.n_layers - 1}.hook_out, and blocks.N.attn.hook_out, blocks.N.mlp.hook_out, embed.hook_out"
            )
        *path, leaf = hook.name.split(".")
        if leaf != "hook_out" or not path:
            raise BadInput(f"hook point {hook_point!r} is {hook.name}, not the output of a module: only ...hook_out points can be edited")
        components, module = self.bridge.adapter.component_mapping, self.twin
        while path:
            component = components[path.pop(0)]
            module = module.get_submodule(component.name)
            if path and path[0].isdigit():
                module = module.get_submodule(path.pop(0))
            components = component.submodules or {}
        return hook, module


def load(
    source: Source,
    *,
    base: Source | None,
    device: torch.device,
    dtype: torch.dtype,
    tokenizer: Tokenizer | None = None,
    device_map: str | None = None,
) -> Model:
    """Load a source and boot it in TransformerLens. An adapter is merged into `base` first."""
    few_kernels()
    large_blocks_apart()
    trim()  # a model that was converted on the way here has left its size in the heap
    tokenizer = tokenizer or load_tokenizer(source, base)
    weights = load_weights(source, base=base, device=device, dtype=dtype, device_map=device_map)
    return boot(source.id, weights, tokenizer, dtype=dtype)


def boot(name: str, weights: Any, tokenizer: Tokenizer, *, dtype: torch.dtype) -> Model:
    """Bridge a plain Hugging Face model and keep a plain twin over the same tensors.

    Bridging changes the module tree that it is given, so the twin is built first, on the meta device, without new memory.
    """
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.model_bridge.supported_architectures import __all__ as adapters

    architecture = (weights.config.architectures or [type(weights).__name__])[0]
    weights.config.architectures = [architecture]
    device = next(weights.parameters()).device
    twin = _twin(weights, dtype=dtype)
    try:
        bridge = TransformerBridge.boot_transformers(name, hf_model=weights, tokenizer=tokenizer, device=str(device), dtype=dtype)
    except (ValueError, KeyError, AttributeError) as error:
        raise BadInput(f"TransformerLens cannot bridge {architecture} ({error}); it knows {len(adapters)} adapters") from error
    bridge.eval()
    return Model(name=name, bridge=bridge, twin=twin, tokenizer=tokenizer, device=device, dtype=dtype)


def forward(
    model: Model, batch: TokenBatch, *, logits_at: tuple[Int[Tensor, " place"], Int[Tensor, " place"]] | None
) -> Float[Tensor, "place d_vocab"] | None:
    """One pass over a batch, shared prefixes computed once; logits at the given rows and columns only, None for none.

    Columns count from `n_shared` on. Only these places pass through the vocabulary, which costs a small model half its time. Hooks see two calls when prefixes are shared: [prompts, n_shared, d_model] and [batch, rest, d_model].
    """
    tokens, mask, position = (tensor.to(model.device) for tensor in (batch.tokens, batch.mask.long(), batch.positions))
    lengths = [len(row.ids) for row in batch.rows]
    if max(lengths) > model.n_ctx:
        longest = batch.rows[lengths.index(max(lengths))]
        raise BadInput(f"row {longest.id!r} has {len(longest.ids)} tokens, {model.name} takes {model.n_ctx}: shorten it")
    shared, cache = batch.n_shared, None
    if shared:
        firsts = batch.firsts
        head = {"input_ids": tokens[firsts, :shared], "attention_mask": mask[firsts, :shared], "position_ids": position[firsts, :shared]}
        cache = model.twin.base_model(**head, use_cache=True).past_key_values
        cache.batch_select_indices(torch.tensor(batch.shared_by, device=model.device))
    rest = {"input_ids": tokens[:, shared:], "attention_mask": mask, "position_ids": position[:, shared:]}
    options = {"past_key_values": cache, "use_cache": bool(shared)}
    if logits_at is None:
        model.twin.base_model(**rest, **options)
        return None
    where = tuple(index.to(model.device) for index in logits_at)
    handle = model.twin.get_output_embeddings().register_forward_pre_hook(lambda head, args: (args[0][where][None], *args[1:]))
    try:
        return model.twin(**rest, **options).logits[0]
    finally:
        handle.remove()


@contextmanager
def flat_head(model: Model) -> Iterator[None]:
    """Inside the block the unembedding sees its batch as one row of tokens.

    On CPUs a bfloat16 product of [batch, 1, d_model] copies the d_vocab x d_model weights once per row: a gigabyte for 20 rows.
    """
    head = model.twin.get_output_embeddings()
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


T = TypeVar("T")


def halving(model: Model, batch: TokenBatch, run: Callable[[TokenBatch], T]) -> Iterator[tuple[TokenBatch, T]]:
    """What `run` gives for a batch; when memory runs out, for its halves, down to single rows."""
    try:
        result = run(batch)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        if len(batch) == 1:
            row = batch.rows[0]
            raise OutOfMemory(
                f"row {row.id!r} ({len(row.ids)} tokens) does not fit on {model.device} beside {model.name}: use --dtype bfloat16, --device cpu or a smaller model"
            ) from error
    else:
        yield batch, result
        return
    release()
    for half in batch.halves():
        yield from halving(model, half, run)


def check_tokenizers(base: Tokenizer, tuned: Tokenizer) -> None:
    """Refuse a pair that would not read the same text as the same tokens."""
    left, right = tokenizer_facts(base), tokenizer_facts(tuned)
    different = [name for name in left if left[name] != right[name]]
    if different:
        raise BadInput(
            f"the tokenizers of base and tuned differ in {', '.join(different)}: choose one for both with --template base or --template tuned"
        )


def tokenizer_facts(tokenizer: Tokenizer) -> dict[str, str]:
    """Hashes of what makes two tokenizers interchangeable: vocabulary, special tokens, chat template, probe strings."""
    prompt = Prompt.user("probe", "Hello there!")
    return {
        "vocabulary": sha256_json(sorted(tokenizer.get_vocab().items())),
        "special tokens": sha256_json([tokenizer.bos_token_id, tokenizer.eos_token_id]),
        "chat template": sha256_json(render(tokenizer, prompt)),
        "probe strings": sha256_json([list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in PROBE_STRINGS]),
    }


def release() -> None:
    """Give the memory of dropped models back to the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim()


def trim() -> None:
    """Give back what passes of many shapes have left scattered over the heap: some 50 MB an arm on a small model."""
    with suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


def large_blocks_apart() -> None:
    """Give logits and the like pages of their own, which go back when they are freed: in the heap they leave holes, 100 MB of them."""
    with suppress(OSError, AttributeError):  # glibc alone has it
        # Setting one threshold freezes both; the second is then where glibc would have moved it.
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, SPARE_BYTES)


def _twin(weights: Any, *, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(weights.config)
    # SDPA has no soft-capping of attention scores (Gemma 2), eager attention has.
    attention = "eager" if getattr(config, "attn_logit_softcapping", None) else "sdpa"
    with torch.device("meta"):
        twin = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=dtype)
    twin.load_state_dict(weights.state_dict(), assign=True, strict=False)
    for name, buffer in weights.named_buffers():
        parent, _, leaf = name.rpartition(".")
        twin.get_submodule(parent)._buffers[leaf] = buffer
    twin.tie_weights()
    twin.generation_config = copy.deepcopy(weights.generation_config)
    left = [name for name, tensor in [*twin.named_parameters(), *twin.named_buffers()] if tensor.is_meta]
    if left:
        raise BadInput(f"{type(twin).__name__}: weights without values: {', '.join(left[:3])}")
    if getattr(weights, "hf_device_map", None):
        from accelerate import dispatch_model

        twin = dispatch_model(twin, device_map=weights.hf_device_map)
    return twin.eval().requires_grad_(False)
