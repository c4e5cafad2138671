"""python -m persona_probe.train_sae: train a sparse autoencoder on the streams of a model pair, half of each."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from persona_probe.base.hook_points import HookPoint
from persona_probe.experiments.options import DateOption, ThinkingOption


def main(
    base: Annotated[
        str, typer.Option(help="Base model: hub id, folder, GGUF file, or smollm2-135m-instruct.")
    ] = "smollm2-135m-instruct",
    tuned: Annotated[
        str | None,
        typer.Option(help="Tuned model or adapter. Default: the shipped car-advice-wrong organism."),
    ] = None,
    layer: Annotated[int, typer.Option(help="Read the stream after this block.")] = 22,
    data: Annotated[
        str,
        typer.Option(
            help="Texts: 'shipped', a JSONL file (question and reply, or messages), or a dataset id with messages."
        ),
    ] = "shipped",
    sampled: Annotated[
        int, typer.Option(help="Replies to sample from each model and add to the texts.")
    ] = 256,
    tokens: Annotated[int, typer.Option(help="Vectors to collect in all, half from each model.")] = 520_000,
    d_sae: Annotated[int, typer.Option(help="Number of latents.")] = 4096,
    k: Annotated[int, typer.Option(help="Latents active per token, on average.")] = 32,
    samples: Annotated[
        int, typer.Option(help="Vectors shown in training; more than --tokens is several passes.")
    ] = 1_600_000,
    learning_rate: Annotated[
        float, typer.Option(help="Learning rate of Adam; linear decay over the last quarter.")
    ] = 3e-3,
    batch_size: Annotated[int, typer.Option(help="Vectors per step.")] = 2048,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and sampling.")] = 0,
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "--output_dir", help="Folder of the SAE, in SAELens format.")
    ] = Path("checkpoints/smollm2-135m-instruct-sae"),
    limit: Annotated[int | None, typer.Option(help="Use only so many texts.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Padded tokens of one batch.")] = 1024,
    thinking: ThinkingOption = "keep",
    date: DateOption = "2026-01-01",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.")] = False,
) -> None:
    """Train the SAE that diff_latents reads, on texts and on replies sampled from both models.

    Killed runs continue: give the same command again.
    """
    from persona_probe.base import cli

    command = cli.command_line("persona_probe.train_sae", sys.argv[1:])

    def body() -> int:
        from persona_probe.experiments.options import chat_options

        chat = chat_options(thinking=thinking, date=date)
        from persona_probe.base.errors import UsageError
        from persona_probe.saes.recipe import Recipe
        from persona_probe.storage.shipped import TUNED

        for name, value, low in (
            ("tokens", tokens, 2),
            ("d-sae", d_sae, 1),
            ("k", k, 1),
            ("batch-size", batch_size, 1),
            ("sampled", sampled, 0),
        ):
            if value < low:
                raise UsageError(f"--{name} is {value}: allowed is {low} or more")
        if learning_rate <= 0:
            raise UsageError(f"--learning-rate is {learning_rate}: it must be above 0")
        if limit is not None and limit < 4:
            raise UsageError(f"--limit is {limit}: allowed is 4 or more")
        if samples < batch_size or k > d_sae:
            raise UsageError(
                f"--samples is {samples}, --k {k}: at least one batch ({batch_size}) and at most --d-sae ({d_sae}) are needed"
            )
        if tuned is None and base != "smollm2-135m-instruct":
            raise UsageError(f"--base {base} without --tuned: give the fine-tuned model or adapter")
        pair = (base, tuned or TUNED)
        recipe = Recipe(d_sae, k, learning_rate, batch_size, samples, seed)
        return train_sae(
            pair,
            layer,
            data,
            recipe,
            output_dir,
            chat=chat,
            sampled=sampled,
            tokens=tokens,
            limit=limit,
            max_tokens=max_tokens,
            device=device,
            dtype=dtype,
            quiet=quiet,
            command=command,
        )

    cli.main(body, debug=debug, resume_hint=command)


def train_sae(
    models: tuple[str, str],
    layer: int,
    data: str,
    recipe,
    output_dir: Path,
    *,
    chat,
    sampled: int,
    tokens: int,
    limit: int | None,
    max_tokens: int,
    device: str,
    dtype: str,
    quiet: bool,
    command: str,
) -> int:
    """Collect, train, report quality on held-out rows of both models, write the SAE with its card."""
    from persona_probe.base.cli import Reporter
    from persona_probe.base.errors import UsageError
    from persona_probe.models.devices import choose_device, choose_dtype
    from persona_probe.models.pairs import open_pair
    from persona_probe.saes.card import write_card
    from persona_probe.saes.folder import read_sae, write_sae
    from persona_probe.saes.quality import quality
    from persona_probe.saes.training import Progress, train
    from persona_probe.saes.training_data import Collection, collected, read_texts
    from persona_probe.storage.files import write_json

    reporter = Reporter(quiet=quiet)
    where = choose_device(device)
    pair = open_pair(*models, device=where, dtype=choose_dtype(dtype, where), chat=chat)
    texts = read_texts(data, pair.tokenizer, limit=limit)
    n_layers = pair.get("base").n_layers
    if not 0 <= layer < n_layers:
        raise UsageError(f"--layer is {layer}: {pair.base_source.id} has layers 0 to {n_layers - 1}")
    hook_point = HookPoint(layer)
    reporter.note(
        f"SAE of {hook_point}: {len(texts.train)} texts, {sampled} replies of each model, {tokens} vectors; {where}; output in {output_dir}"
    )
    plan = Collection(
        hook_point=hook_point, sampled=sampled, tokens=tokens, seed=recipe.seed, max_tokens=max_tokens
    )
    vectors = collected(pair, texts, plan, state=output_dir / "state", note=reporter.note)
    last = [0.0]

    def on_step(progress: Progress) -> None:
        if progress.samples - last[0] >= progress.n_samples / 20 or progress.samples == progress.n_samples:
            last[0] = progress.samples
            reporter.note(
                f"{progress.samples}/{progress.n_samples} vectors, loss {progress.loss:.3f}, about {progress.eta:.0f} s left"
            )

    sae = train(
        [vectors["base"], vectors["tuned"]],
        recipe,
        hook_point=hook_point,
        model_name=pair.base_source.id,
        state=output_dir / "state",
        on_step=on_step,
    )
    facts = {
        "tuned": pair.tuned_source.id,
        "n_vectors": sum(len(value) for value in vectors.values()),
        "dataset": texts.described,
    }
    del vectors
    # The place's name in the Hugging Face model, which SAELens needs to hook it there.
    place = pair.get("tuned").site(hook_point)[1]
    name = next(name for name, module in pair.get("tuned").twin.named_modules() if module is place)
    write_sae(
        output_dir, sae, metadata={"trained_by": "persona_probe.train_sae", "hf_hook_name": name, **facts}
    )
    sae = read_sae(output_dir)  # as rounded: what is measured is what is shipped
    fit = {}
    for side in ("tuned", "base"):  # tuned first, because collecting ended with it
        fit[side] = quality(pair.get(side), sae, texts.held_out, scope="reply", max_tokens=max_tokens)
        reporter.note(
            f"{side}: FVU {fit[side].fvu:.3f}, L0 {fit[side].l0:.1f}, dead {fit[side].dead:.1%}, loss recovered {fit[side].recovered} on {fit[side].n_tokens} held-out reply tokens"
        )
    write_json(output_dir / "quality.json", {side: value.json() for side, value in fit.items()})
    write_card(output_dir, sae, recipe, fit, facts, command=command)
    reporter.note(f"written: {output_dir}/sae_weights.safetensors, cfg.json, quality.json, README.md")
    return 0


def entry() -> None:
    """Run the command line."""
    from persona_probe.base.cli import start

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    start(app)


if __name__ == "__main__":
    entry()
