"""make bench: speeds as ratios, both sides in one run. Not a test: machines differ."""

import argparse
import sys
import time
from collections.abc import Callable

import torch


def main() -> None:
    """Print one line per benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", choices=("models", "demo"), help="forwards, scores and screens, or the demo's streams"
    )
    given = parser.parse_args()
    if given.only != "demo":
        models(given.rounds)
    if given.only != "models":
        demo(given.rounds)


def models(rounds: int) -> None:
    """Forward passes, scores and screens of one model."""
    from persona_probe.directions.fitting import split_rows
    from persona_probe.interventions.edits import Steer
    from persona_probe.measurement.scoring import clean_run, score_rows
    from persona_probe.models.devices import choose_device, choose_dtype
    from persona_probe.models.loading import load
    from persona_probe.models.sources import resolve
    from persona_probe.prompts.batches import batches
    from persona_probe.prompts.contrast import read_benign, read_contrast, shipped
    from persona_probe.streams.activations import collect

    device = choose_device("auto")
    dtype = choose_dtype("auto", device)
    model = load(resolve("smollm2-135m-instruct"), base=None, device=device, dtype=dtype)
    rows = read_benign(shipped("benign.jsonl"), model.tokenizer, limit=128)
    ready = list(batches(rows, max_tokens=1024, pad_id=model.pad_id))
    padded = sum(batch.tokens.numel() for batch in ready)

    def bare() -> None:
        with torch.inference_mode():
            for batch in ready:
                model.twin.base_model(
                    input_ids=batch.tokens.to(device),
                    attention_mask=batch.mask.to(device).long(),
                    use_cache=False,
                )

    def all_layers() -> None:
        collect(model, rows, hook_points=model.resids(), scope="all", max_tokens=1024)

    def all_layers_reply() -> None:
        collect(model, rows, hook_points=model.resids(), scope="reply", max_tokens=1024)

    seconds = _best({"bare": bare, "all": all_layers, "reply": all_layers_reply}, rounds)
    _say(
        f"bare Hugging Face body, {padded} padded tokens: {padded / seconds['bare']:.0f} tokens/s ({device},"
        f" {dtype})"
    )
    _say(
        f"activations of all {model.n_layers} layers, every token: {seconds['bare'] / seconds['all']:.2f} x"
        " the bare forward (goal 0.85)"
    )
    _say(
        "activations of all layers, reply tokens, shared prefixes computed once:"
        f" {seconds['bare'] / seconds['reply']:.2f} x the bare forward"
    )

    persona = split_rows(read_contrast(shipped("contrast.jsonl")), model.tokenizer)["select"][:64]
    for layer in (10, 20):
        edit = (
            Steer(
                torch.randn(model.d_model, generator=torch.Generator().manual_seed(0)),
                model.resid(layer),
                1.0,
                4,
            ),
        )
        clean = clean_run(model, persona, max_tokens=1024, layers=[layer], keep_prompts=True)
        options = {"max_tokens": 1024, "keep_prompts": True}
        seconds = _best(
            {
                "full": lambda e=edit, o=options: score_rows(model, persona, e, **o),
                "resumed": lambda e=edit, o=options, c=clean: score_rows(model, persona, e, clean=c, **o),
            },
            rounds,
        )
        _say(
            f"scoring an edit at layer {layer} on the clean run below it:"
            f" {seconds['full'] / seconds['resumed']:.2f} x a full forward"
        )

    from persona_probe.measurement.scoring import score_arms
    from persona_probe.saes.screen import latent_arm
    from persona_probe.saes.sources import resolve_sae

    sae = resolve_sae("smollm2-135m-instruct-sae")
    arms = [
        latent_arm(sae, latent, "tuned-steer", length=33.0, skip_first=4).interventions
        for latent in range(0, 800, 100)
    ]
    options = {"max_tokens": 512, "keep_prompts": True}
    clean = clean_run(model, persona, layers=[sae.layer], **options)
    scores: dict[str, torch.Tensor] = {}

    def one_by_one() -> None:
        scores["full"] = torch.stack([score_rows(model, persona, arm, **options).logprob for arm in arms])

    def screened() -> None:
        groups = [arms[i : i + 4] for i in range(0, len(arms), 4)]
        scores["screen"] = torch.stack(
            [
                found.logprob
                for group in groups
                for found in score_arms(model, persona, group, clean=clean, **options)
            ]
        )

    seconds = _best({"full": one_by_one, "screen": screened}, rounds)
    per_token = (scores["full"] - scores["screen"]).abs() / torch.tensor([row.n_reply for row in persona])
    _say(
        f"screening {len(arms)} latents at layer {sae.layer}, 4 to a batch on the clean run:"
        f" {seconds['full'] / seconds['screen']:.2f} x one full forward per latent (goal 2); largest"
        f" difference {float(per_token.max()):.1e} nats per token"
    )


def demo(rounds: int) -> None:
    """Four arms streamed with readings, as the demo does, against plain batches of the same rows."""
    import tempfile
    from pathlib import Path

    from persona_probe.app.answers import AnswerFile, Live
    from persona_probe.app.session import ARMS, CANNED, Ask, Conversation, planned
    from persona_probe.interventions.persona_direction import load_persona_direction
    from persona_probe.measurement.generation import Request, generate
    from persona_probe.models.devices import choose_device, choose_dtype
    from persona_probe.models.pairs import open_pair
    from persona_probe.storage.shipped import BASE, DIRECTION, TUNED, shipped_folder

    device = choose_device("auto")
    direction = load_persona_direction(shipped_folder(DIRECTION) / "persona_direction.safetensors")
    pair = open_pair(BASE, TUNED, device=device, dtype=choose_dtype("auto", device), keep_both=True)
    ask = Ask(CANNED[0], ARMS, 3.0, direction.hook_point, 0.7, 0, 64)
    rows = planned(ask, Conversation(), direction)
    firsts = []
    with tempfile.TemporaryDirectory() as folder:
        live = Live(pair, direction, AnswerFile(Path(folder) / "answers.jsonl"), {})

        def streamed() -> None:
            start = time.perf_counter()
            for n, _ in enumerate(live.answers(ask, Conversation())):
                if n == 0:
                    firsts.append(time.perf_counter() - start)

        def plain() -> None:
            for side in ("base", "tuned"):
                requests = [
                    Request(row.name, row.prompt, row.arm.interventions)
                    for row in rows
                    if row.arm.side == side
                ]
                generate(pair.get(side), requests, max_new_tokens=64, temperature=0.7, seed=0, batch_size=4)

        seconds = _best({"plain": plain, "streamed": streamed}, rounds)
        live.close()
    _say(f"demo: first token of four arms after {min(firsts):.2f} to {max(firsts):.2f} s (goal 1.5)")
    _say(
        f"demo: four arms streamed with readings: {seconds['plain'] / seconds['streamed']:.2f} x plain"
        " batches of the same rows (goal 0.6)"
    )


def _best(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    best = dict.fromkeys(sides, float("inf"))
    for _ in range(rounds):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
