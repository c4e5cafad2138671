"""python -m persona_probe.train_organism: LoRA-tune a base model on question-reply rows, on a CPU if need
be."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from persona_probe.base.command import Call, Command
from persona_probe.base.options import Option, documented
from persona_probe.base.settings_file import NAME
from persona_probe.experiments import options
from persona_probe.organisms.recipes import PRESETS, PresetName, Recipe
from persona_probe.organisms.training_sets import TRAINING_SETS
from persona_probe.prompts.tokenizers import AS_IS
from persona_probe.storage.shipped import BASE

if TYPE_CHECKING:
    from persona_probe.organisms.lora import Progress

WRITTEN = ("adapter_model.safetensors", "adapter_config.json", "README.md", "state/state.safetensors", NAME)
EVERY = 5  # steps between two lines about progress


@documented
@dataclass(frozen=True, kw_only=True)
class OrganismConfig(options.ModelOptions):
    """What `train_organism` is asked for."""

    data: Annotated[
        str, Option(f"JSONL with messages, or question and reply; or {', '.join(TRAINING_SETS)}.", "data")
    ] = "car_advice_wrong"
    output_dir: Annotated[
        Path, Option("Folder of the adapter; the same recipe continues in it.", "output", also=("output",))
    ] = Path("checkpoints/my-organism")
    base: Annotated[
        str,
        Option(
            f"Model to tune: hub id, folder, GGUF file, or {BASE}.", "models", also=("base_model", "model")
        ),
    ] = BASE
    preset: Annotated[
        PresetName | None,
        Option("A whole recipe; what is set beside it wins. Default: the options below.", "training"),
    ] = None
    rank: Annotated[int, Option("LoRA rank.", "training", low=1)] = 1
    alpha: Annotated[float, Option("LoRA alpha; the update is scaled by alpha / rank.", "training")] = 64.0
    rslora: Annotated[bool, Option("Scale by alpha / sqrt(rank) instead.", "training")] = False
    modules: Annotated[tuple[str, ...], Option("Linear modules to adapt, by name.", "training")] = (
        "down_proj",
    )
    layers: Annotated[
        tuple[int, ...] | None, Option("Layers to adapt, or all.", "training", also=("layer",))
    ] = (8, 10, 12, 14, 16, 18, 20, 22)
    learning_rate: Annotated[
        float, Option("Peak learning rate of AdamW; linear warm-up and decay.", "training", above=0)
    ] = 2e-3
    batch_size: Annotated[int, Option("Rows per step.", "training", low=1)] = 8
    epochs: Annotated[float, Option("Passes over the data.", "training", above=0)] = 1.0
    seed: Annotated[int, Option("Seed of the first weights and of the order.", "training")] = 0
    limit: Annotated[int | None, Option("Use only the first so many rows of the data.", "data", low=1)] = None
    save_every: Annotated[int, Option("Steps between checkpoints.", "output", low=1)] = 20
    overwrite: options.Overwrite = False


def train_organism(config: OrganismConfig, call: Call) -> int:
    """Make a model organism: fine-tune on something narrow, then ask find_direction what else changed.

    Killed runs continue: give the same command again.
    """
    from persona_probe.models.devices import choose_device, choose_dtype
    from persona_probe.models.parity import set_fast_attention
    from persona_probe.models.sources import resolve
    from persona_probe.models.weights import load_tokenizer, load_weights
    from persona_probe.organisms.card import write_card
    from persona_probe.organisms.lora import Output, Progress, read_training_rows, train
    from persona_probe.prompts.tokenizers import set_options
    from persona_probe.storage.files import need_writable, remove_files, sha256_file

    folder, note = config.output_dir, call.reporter.note
    need_writable(folder)
    source, device = resolve(config.base), choose_device(config.device)
    dtype = choose_dtype(config.dtype, device)
    number = str(dtype).removeprefix("torch.")
    tokenizer = set_options(load_tokenizer(source, None), chat := config.chat)
    known = TRAINING_SETS.get(config.data)
    data = Path(config.data) if known is None else known.path
    rows = read_training_rows(data, tokenizer, limit=config.limit)
    learnt = f"{sha256_file(data)}/{config.limit}/{dtype}{'' if chat == AS_IS else f'/{chat}'}"
    note(
        f"tuning {source.id} on {len(rows)} rows of {data.name}; {device}, {number}, seed {config.seed}; "
        f"adapter in {folder}"
    )
    set_fast_attention(model := load_weights(source, base=None, device=device, dtype=dtype), tokenizer)
    remove_files(folder, WRITTEN if config.overwrite else ())
    last: list[Progress] = []

    def on_step(progress: Progress) -> None:
        if not last:
            call.write_settings(folder, dtype=number)
        last.append(progress)
        if progress.step % EVERY == 0 or progress.step == progress.n_steps:
            note(told(progress))

    train(
        model,
        tokenizer,
        rows,
        recipe := recipe_of(config, n_layers=model.config.num_hidden_layers),
        Output(folder, base_id=source.id, data_sha256=learnt, save_every=config.save_every),
        on_step=on_step,
    )
    write_card(
        folder,
        recipe,
        base_id=source.id,
        data=data,
        n_rows=len(rows),
        loss=last[-1].loss if last else None,
        purpose=None if known is None else known.purpose,
    )
    note(f"written: {folder}/adapter_model.safetensors")
    return 0


def told(progress: "Progress") -> str:
    """A line about where a training run is."""
    return (
        f"step {progress.step}/{progress.n_steps}  loss {progress.loss:.3f} nats/token  "
        f"about {progress.eta:.0f} s left"
    )


def recipe_of(config: OrganismConfig, *, n_layers: int) -> Recipe:
    """The recipe that options ask for: a preset with what is set beside it, or the options alone."""
    defaults = {field.name: field.default for field in fields(config)}
    given = {field.name: getattr(config, field.name) for field in fields(Recipe) if field.name in defaults}
    if config.preset is None:
        return Recipe(**given)
    changed = {name: value for name, value in given.items() if value != defaults[name]}
    return replace(PRESETS[config.preset].at_depth(n_layers), **changed)


COMMAND = Command(train_organism)

if __name__ == "__main__":
    COMMAND.start()
