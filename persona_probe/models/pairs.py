"""A base and a tuned model, one in memory at a time."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from persona_probe.base.errors import BadInput
from persona_probe.models.bridges import refuse_unbridged
from persona_probe.models.devices import choose_device, choose_dtype
from persona_probe.models.hooked import same_processing
from persona_probe.models.loaded import is_loaded, source_of, take, tokenizer_of
from persona_probe.models.loading import Model, load
from persona_probe.models.memory import release
from persona_probe.models.sources import Source, resolve, same_shape, text_sizes
from persona_probe.models.weights import load_tokenizer
from persona_probe.prompts.templates import identity_of
from persona_probe.prompts.tokenizer_facts import check_tokenizers
from persona_probe.prompts.tokenizers import AS_IS, ChatOptions, Tokenizer, set_options
from persona_probe.storage.files import sha256_json

Side = Literal["base", "tuned"]
SIDES: tuple[Side, ...] = ("base", "tuned")


@dataclass
class Pair:
    """Loads either side on demand and drops the other first, unless `keep_both`. The tokenizer is one for
    both.

    With `keep_both` a tuned side that is an adapter shares with the base every weight that it leaves alone.
    """

    base_source: Source
    tuned_source: Source
    tokenizer: Tokenizer
    device: torch.device
    dtype: torch.dtype
    device_map: str | None = None
    keep_both: bool = False
    _loaded: dict[str, Model] = field(default_factory=dict)
    _held: dict[str, Model] = field(default_factory=dict)

    @property
    def base(self) -> Model:
        """The base model, loaded when it is not in memory."""
        return self.get("base")

    @property
    def tuned(self) -> Model:
        """The tuned model, loaded when it is not in memory."""
        return self.get("tuned")

    @property
    def n_layers(self) -> int:
        """Number of blocks; no weights are loaded for it."""
        held = next(iter(self._held.values()), None)
        return held.n_layers if held else int(text_sizes(self.base_source.folder)["num_hidden_layers"])

    def get(self, side: Side) -> Model:
        """The model of one side; loading takes seconds, a model that is already in memory costs nothing."""
        if side in self._held:
            return self._held[side]
        if side not in self._loaded:
            if not self.keep_both:
                self.close()
            shares = self.keep_both and side == "tuned" and self.tuned_source.kind == "adapter"
            options: dict[str, Any] = {
                "device": self.device,
                "dtype": self.dtype,
                "tokenizer": self.tokenizer,
                "device_map": self.device_map,
                # Spread over several devices, a model has hooks of its own and may lie outside memory.
                "sharing": self.base if shares and self.device_map is None else None,
            }
            self._loaded[side] = load(
                self.source(side), base=None if side == "base" else self.base_source, **options
            )
        return self._loaded[side]

    def source(self, side: Side) -> Source:
        """Where one side's weights come from."""
        return self.base_source if side == "base" else self.tuned_source

    def sha256(self, side: Side) -> str:
        """Hash of all files of one side that decide its numbers; an adapter's includes its base's."""
        return self._joined(side, self.base_source.sha256, self.tuned_source.sha256)

    def weights_sha256(self, side: Side) -> str:
        """Hash of one side's config and weights, without its tokenizer: which model a direction was found
        on."""
        return self._joined(side, self.base_source.weights_sha256, self.tuned_source.weights_sha256)

    def key(self, side: Side) -> str:
        """What a measurement of one side is kept under: its files, and how text is read (tokenizer, template,
        its date and thinking)."""
        return sha256_json([self.sha256(side), identity_of(self.tokenizer)])

    def _joined(self, side: Side, base: str, tuned: str) -> str:
        return base if side == "base" else f"{base}+{tuned}" if self.tuned_source.kind == "adapter" else tuned

    def hold(self, models: Mapping[str, Model]) -> None:
        """Keep models that the user has loaded; `close` does not drop them."""
        self._held.update(models)

    def close(self) -> None:
        """Drop whatever was loaded here."""
        self._loaded.clear()
        release()


def open_pair(
    base: str | Path | nn.Module | Model,
    tuned: str | Path | nn.Module | Model,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    template: Literal["base", "tuned"] | None = None,
    tokenizer: Tokenizer | None = None,
    device_map: str | None = None,
    keep_both: bool = False,
    chat: ChatOptions = AS_IS,
) -> Pair:
    """A base model and the tuned one, compared before any weight is loaded: shape, identity, tokenizer, chat
    template.

    `base`, `tuned`: a name that ships, a folder, a GGUF file, a hub id, for `tuned` also a LoRA adapter; or a
    Hugging Face model, TransformerBridge or HookedTransformer that is already loaded, which is used as it is
    and stays as it is.
    A loaded Hugging Face model brings no tokenizer with it: give `tokenizer`, unless the other side is a
    name. Names are loaded when they are first used, one at a time unless `keep_both`. `device` and `dtype`:
    "auto" or a name. Both sides read every text with `chat`: what the template takes for today's date, and
    its think block.
    """
    given = {"base": base, "tuned": tuned}
    held = {side: model for side, model in given.items() if is_loaded(model)}
    named = {side: resolve(str(model)) for side, model in given.items() if side not in held}
    readers = _tokenizers(given, named, tokenizer, chat)
    reader = readers[template or "base"]
    models = {side: take(model, reader) for side, model in held.items()}
    sources = [named.get(side) or source_of(given[side], reader) for side in SIDES]
    _check_sides(sources[0], sources[1], models)
    if template is None:
        check_tokenizers(readers["base"], readers["tuned"])
    where = next((model.device for model in models.values()), None) or choose_device(device)
    number = next((model.dtype for model in models.values()), None) or choose_dtype(dtype, where)
    pair = Pair(
        base_source=sources[0],
        tuned_source=sources[1],
        tokenizer=reader,
        device=where,
        dtype=number,
        device_map=device_map,
        keep_both=keep_both or bool(held),
    )
    pair.hold(models)
    return pair


def open_model(
    model: str | Path | nn.Module | Model,
    *,
    base: str | Path | None = None,
    tokenizer: Tokenizer | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
) -> Model:
    """One model, given as a side of `open_pair` is; an adapter needs `base`, the model that it was trained
    on."""
    if not isinstance(model, str | Path):
        return take(model, tokenizer or tokenizer_of(model))
    where = choose_device(device)
    source, under = resolve(model), None if base is None else resolve(base)
    return load(source, base=under, device=where, dtype=choose_dtype(dtype, where), tokenizer=tokenizer)


def _tokenizers(
    given: Mapping[str, Any], named: Mapping[str, Source], tokenizer: Tokenizer | None, chat: ChatOptions
) -> dict[str, Tokenizer]:
    """Each side's tokenizer: the one that was given, or its own; a loaded model without one takes that of the
    other side."""
    if tokenizer is not None:
        return dict.fromkeys(given, set_options(copy.deepcopy(tokenizer), chat))
    if "base" in named:
        refuse_unbridged(named["base"])
    under = named.get("base")
    readers = {
        side: load_tokenizer(source, None if side == "base" else under) for side, source in named.items()
    }
    for side in given:
        if side not in named:
            other = next(iter(readers.values()), None)
            readers[side] = other if other is not None else copy.deepcopy(tokenizer_of(given[side]))
    return {side: set_options(reader, chat) for side, reader in readers.items()}


def _check_sides(base: Source, tuned: Source, models: Mapping[str, Model]) -> None:
    """Refuse sides that cannot be compared layer by layer, or that are one and the same."""
    if base.weights_sha256 == tuned.weights_sha256:
        raise BadInput(
            f"base {base.id} and tuned {tuned.id} are the same weights: there is no difference to find"
        )
    if not models:
        return same_shape(base, tuned)
    same_processing(models.get("base"), models.get("tuned"))
    sizes = {side: (model.n_layers, model.d_model) for side, model in models.items()}
    for side, source in (("base", base), ("tuned", tuned)):
        if side not in sizes and source.kind == "model":
            known = text_sizes(source.folder)
            sizes[side] = (known["num_hidden_layers"], known["hidden_size"])
    if len(set(sizes.values())) > 1:
        said = ", ".join(
            f"{side} has {depth} layers of width {width}" for side, (depth, width) in sizes.items()
        )
        raise BadInput(f"base {base.id} and tuned {tuned.id} differ in shape: {said}")
    if tuned.kind == "adapter" and base.kind == "loaded":
        raise BadInput(
            f"{tuned.id} is an adapter: give its base by name, or merge it and give the tuned model loaded"
        )
    return None
