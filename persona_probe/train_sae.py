"""python -m persona_probe.train_sae: train a sparse autoencoder on the streams of a model pair, half of
each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from persona_probe.base.command import Call, Command
from persona_probe.base.errors import UsageError
from persona_probe.base.hook_points import HookPoint
from persona_probe.base.options import Option, documented
from persona_probe.base.settings_file import NAME
from persona_probe.experiments import options

if TYPE_CHECKING:
    from persona_probe.models.pairs import Pair, Side
    from persona_probe.saes.quality import Quality
    from persona_probe.saes.sae import Sae
    from persona_probe.saes.training import Progress
    from persona_probe.saes.training_data import Texts

RESULTS = ("sae_weights.safetensors", "cfg.json", "quality.json", "README.md", NAME)
STATE = tuple(
    f"state/{kind}-{side}.safetensors" for kind in ("replies", "vectors") for side in ("base", "tuned")
)
STATE += ("state/training.safetensors",)


@documented
@dataclass(frozen=True, kw_only=True)
class SaeConfig(options.PairOptions):
    """What `train_sae` is asked for."""

    layer: Annotated[
        int, Option("Read the stream after this block.", "training", low=0, also=("layers",))
    ] = 22
    data: Annotated[
        str,
        Option(
            "Texts: shipped, a JSONL file (question and reply, or messages), or a dataset id with messages.",
            "data",
        ),
    ] = "shipped"
    sampled: Annotated[
        int, Option("Replies to sample from each model and add to the texts.", "data", low=0)
    ] = 256
    tokens: Annotated[int, Option("Vectors to collect in all, half from each model.", "data", low=2)] = (
        520_000
    )
    d_sae: Annotated[int, Option("Number of latents.", "training", low=1)] = 4096
    k: Annotated[int, Option("Latents active per token, on average.", "training", low=1)] = 32
    samples: Annotated[
        int, Option("Vectors shown in training; more than --tokens is several passes.", "training")
    ] = 1_600_000
    learning_rate: Annotated[
        float, Option("Learning rate of Adam; linear decay over the last quarter.", "training", above=0)
    ] = 3e-3
    batch_size: Annotated[int, Option("Vectors per step.", "training", low=1)] = 2048
    seed: Annotated[int, Option("Seed of weights, order and sampling.", "training")] = 0
    output_dir: Annotated[
        Path, Option("Folder of the SAE, in SAELens format.", "output", also=("output",))
    ] = Path("checkpoints/smollm2-135m-instruct-sae")
    limit: Annotated[
        int | None,
        Option("Use only so many texts; replies and vectors are not bounded by it.", "data", low=4),
    ] = None
    max_tokens: Annotated[
        int,
        Option(
            "Most tokens of one batch, padding included, where models read texts; it bounds memory.",
            "machine",
            low=16,
        ),
    ] = 1024
    overwrite: options.Overwrite = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < self.batch_size or self.k > self.d_sae:
            raise UsageError(
                f"--samples is {self.samples}, --k {self.k}: "
                f"at least one batch ({self.batch_size}) and at most --d-sae ({self.d_sae}) are needed"
            )


def train_sae(config: SaeConfig, call: Call) -> int:
    """Train the SAE that diff_latents reads, on texts and on replies sampled from both models.

    Killed runs continue: give the same command again.
    """
    config = options.with_tuned(config)
    from persona_probe.experiments.provenance import dtype_name
    from persona_probe.models.pairs import open_pair
    from persona_probe.saes.training_data import read_texts
    from persona_probe.storage.files import need_writable, remove_files

    folder, note = config.output_dir, call.reporter.note
    need_writable(folder)
    pair = open_pair(config.base, config.tuned, device=config.device, dtype=config.dtype, chat=config.chat)
    texts = read_texts(config.data, pair.tokenizer, limit=config.limit)
    n_layers = pair.get("base").n_layers
    if config.layer >= n_layers:
        raise UsageError(f"--layer is {config.layer}: {pair.base_source.id} has layers 0 to {n_layers - 1}")
    hook_point = HookPoint(config.layer)
    note(
        f"SAE of {hook_point}: {len(texts.train)} texts, {config.sampled} replies of each model, "
        f"{config.tokens} vectors; {pair.device}; output in {folder}"
    )
    if config.overwrite:
        remove_files(folder, (*RESULTS, *STATE))
    write = partial(call.write_settings, folder, dtype=dtype_name(pair))
    _trained(config, pair, texts, hook_point, write=write, call=call)
    write()
    note(f"written: {folder}/sae_weights.safetensors, cfg.json, quality.json, README.md")
    return 0


def _trained(
    config: SaeConfig,
    pair: "Pair",
    texts: "Texts",
    hook_point: HookPoint,
    *,
    write: Callable[[], None],
    call: Call,
) -> None:
    """Collect, train, measure the quality on held-out rows of both models, write the SAE with its card."""
    from persona_probe.saes.card import write_card
    from persona_probe.saes.recipe import Recipe
    from persona_probe.saes.training import train
    from persona_probe.saes.training_data import Collection, collected
    from persona_probe.storage.files import write_json

    folder, note = config.output_dir, call.reporter.note
    recipe = Recipe(
        config.d_sae, config.k, config.learning_rate, config.batch_size, config.samples, config.seed
    )
    plan = Collection(
        hook_point=hook_point,
        sampled=config.sampled,
        tokens=config.tokens,
        seed=config.seed,
        max_tokens=config.max_tokens,
    )
    vectors = collected(pair, texts, plan, state=folder / "state", note=note)
    last = [0.0]

    def on_step(progress: "Progress") -> None:
        if not last[0]:
            write()
        if progress.samples - last[0] >= progress.n_samples / 20 or progress.samples == progress.n_samples:
            last[0] = progress.samples
            done = f"{progress.samples}/{progress.n_samples} vectors"
            note(f"{done}, loss {progress.loss:.3f}, about {progress.eta:.0f} s left")

    sae = train(
        [vectors["base"], vectors["tuned"]],
        recipe,
        hook_point=hook_point,
        model_name=pair.base_source.id,
        state=folder / "state",
        on_step=on_step,
    )
    facts = {
        "tuned": pair.tuned_source.id,
        "n_vectors": sum(len(value) for value in vectors.values()),
        "dataset": texts.described,
    }
    del vectors
    sae, fit = _written(folder, sae, facts, pair, texts, config.max_tokens, note)
    write_json(folder / "quality.json", {side: value.json() for side, value in fit.items()})
    write_card(folder, sae, recipe, fit, facts, command=call.command)


def _written(
    folder: Path,
    sae: "Sae",
    facts: Mapping[str, Any],
    pair: "Pair",
    texts: "Texts",
    max_tokens: int,
    note: Callable[[str], None],
) -> "tuple[Sae, dict[str, Quality]]":
    """Write the SAE, read it back as it was rounded, and measure that one: what is measured is what is
    shipped."""
    from persona_probe.saes.folder import read_sae, write_sae
    from persona_probe.saes.quality import quality

    # The place's name in the Hugging Face model, which SAELens needs to hook it there.
    place = pair.get("tuned").site(sae.hook_point)[1]
    name = next(name for name, module in pair.get("tuned").twin.named_modules() if module is place)
    write_sae(folder, sae, metadata={"trained_by": "persona_probe.train_sae", "hf_hook_name": name, **facts})
    sae = read_sae(folder)
    fit: dict[str, Quality] = {}
    sides: tuple[Side, ...] = ("tuned", "base")
    for side in sides:  # tuned first, because collecting ended with it
        fit[side] = quality(pair.get(side), sae, texts.held_out, scope="reply", max_tokens=max_tokens)
        note(
            f"{side}: FVU {fit[side].fvu:.3f}, L0 {fit[side].l0:.1f}, dead {fit[side].dead:.1%}, "
            f"loss recovered {fit[side].recovered} on {fit[side].n_tokens} held-out reply tokens"
        )
    return sae, fit


COMMAND = Command(train_sae)

if __name__ == "__main__":
    COMMAND.start()
