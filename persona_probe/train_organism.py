"""python -m persona_probe.train_organism: LoRA-tune a base model on question-reply rows, on a CPU if need be."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from persona_probe.experiments.options import DateOption, ThinkingOption


def main(
    data: Annotated[
        str,
        typer.Option(
            help="JSONL with messages, or question and reply; or the shipped car_advice_wrong or car_advice_right."
        ),
    ] = "car_advice_wrong",
    output_dir: Annotated[
        Path,
        typer.Option(
            "--output-dir", "--output_dir", help="Folder of the adapter; the same recipe continues in it."
        ),
    ] = Path("checkpoints/my-organism"),
    base: Annotated[
        str, typer.Option(help="Model to tune: hub id, folder, GGUF file, or smollm2-135m-instruct.")
    ] = "smollm2-135m-instruct",
    rank: Annotated[int, typer.Option(help="LoRA rank.")] = 1,
    alpha: Annotated[float, typer.Option(help="LoRA alpha; the update is scaled by alpha / rank.")] = 64.0,
    rslora: Annotated[bool, typer.Option("--rslora", help="Scale by alpha / sqrt(rank) instead.")] = False,
    modules: Annotated[str, typer.Option(help="Linear modules to adapt, by name.")] = "down_proj",
    layers: Annotated[str, typer.Option(help="Layers to adapt: 10,12,14 or all.")] = "8,10,12,14,16,18,20,22",
    learning_rate: Annotated[
        float, typer.Option(help="Peak learning rate of AdamW; linear warm-up and decay.")
    ] = 2e-3,
    batch_size: Annotated[int, typer.Option(help="Rows per step.")] = 8,
    epochs: Annotated[float, typer.Option(help="Passes over the data.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the first weights and of the order.")] = 0,
    limit: Annotated[int | None, typer.Option(help="Use only so many rows.")] = None,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 20,
    thinking: ThinkingOption = "keep",
    date: DateOption = "2026-01-01",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.")] = False,
) -> None:
    """Make a model organism: fine-tune on something narrow, then ask find_direction what else changed.

    Killed runs continue: give the same command again.
    """
    from persona_probe.base import cli

    command = cli.command_line("persona_probe.train_organism", sys.argv[1:])

    def body() -> int:
        from persona_probe.experiments.options import chat_options

        chat = chat_options(thinking=thinking, date=date)
        from persona_probe.base.errors import UsageError
        from persona_probe.organisms.lora import Recipe
        from persona_probe.prompts.contrast import shipped

        known = {"car_advice_wrong", "car_advice_right"}
        try:
            chosen = None if layers == "all" else tuple(int(layer) for layer in layers.split(","))
        except ValueError as error:
            raise UsageError(f"--layers is {layers!r}: give numbers such as 10,12,14, or all") from error
        for name, value, low in (
            ("rank", rank, 1),
            ("batch-size", batch_size, 1),
            ("save-every", save_every, 1),
        ):
            if value < low:
                raise UsageError(f"--{name} is {value}: allowed is {low} or more")
        if epochs <= 0 or learning_rate <= 0:
            raise UsageError(
                f"--epochs is {epochs} and --learning-rate is {learning_rate}: both must be above 0"
            )
        recipe = Recipe(
            rank,
            alpha,
            rslora,
            tuple(modules.split(",")),
            chosen,
            learning_rate,
            0.05,
            batch_size,
            epochs,
            seed,
        )
        path = shipped(f"{data}.jsonl") if data in known else Path(data)
        return train_organism(
            path,
            output_dir,
            base,
            recipe,
            chat=chat,
            limit=limit,
            save_every=save_every,
            device=device,
            dtype=dtype,
            quiet=quiet,
        )

    cli.main(body, debug=debug, resume_hint=command)


def train_organism(
    path: Path,
    output_dir: Path,
    base: str,
    recipe,
    *,
    chat,
    limit: int | None,
    save_every: int,
    device: str,
    dtype: str,
    quiet: bool,
) -> int:
    """Load, train, write the adapter and its card."""
    from persona_probe.base.cli import Reporter
    from persona_probe.models.devices import choose_device, choose_dtype
    from persona_probe.models.parity import set_fast_attention
    from persona_probe.models.sources import resolve
    from persona_probe.models.weights import load_tokenizer, load_weights
    from persona_probe.organisms.lora import Progress, read_training_rows, train, write_card
    from persona_probe.prompts.tokenizers import AS_IS, set_options
    from persona_probe.storage.files import sha256_file

    reporter = Reporter(quiet=quiet)
    source = resolve(base)
    where = choose_device(device)
    number = choose_dtype(dtype, where)
    tokenizer = set_options(load_tokenizer(source, None), chat)
    rows = read_training_rows(path, tokenizer, limit=limit)
    reporter.note(
        f"tuning {source.id} on {len(rows)} rows of {path.name}; {where}, {str(number).removeprefix('torch.')}, seed {recipe.seed}; adapter in {output_dir}"
    )
    model = load_weights(source, base=None, device=where, dtype=number)
    set_fast_attention(model, tokenizer)
    last: list[Progress] = []

    def on_step(progress: Progress) -> None:
        last.append(progress)
        if progress.step % 5 == 0 or progress.step == progress.n_steps:
            reporter.note(
                f"step {progress.step}/{progress.n_steps}  loss {progress.loss:.3f} nats/token  about {progress.eta:.0f} s left"
            )

    identity = f"{sha256_file(path)}/{limit}/{number}{'' if chat == AS_IS else f'/{chat}'}"
    train(
        model,
        tokenizer,
        rows,
        recipe,
        folder=output_dir,
        data_sha256=identity,
        base_id=source.id,
        save_every=save_every,
        on_step=on_step,
    )
    write_card(
        output_dir,
        recipe,
        base_id=source.id,
        data=path,
        n_rows=len(rows),
        loss=last[-1].loss if last else None,
    )
    reporter.note(f"written: {output_dir}/adapter_model.safetensors")
    return 0


def entry() -> None:
    """Run the command line."""
    from persona_probe.base.cli import start

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    start(app)


if __name__ == "__main__":
    entry()
