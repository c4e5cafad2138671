"""Model organisms: LoRA-tune a base model on chat rows, resumable step by step, deterministic by seed."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from persona_probe.base.errors import BadInput
from persona_probe.models.engine import at_places
from persona_probe.prompts.batches import pad_right
from persona_probe.prompts.rows import Prompt, Row, encode_row, question_and_reply
from persona_probe.prompts.tokenizers import Tokenizer
from persona_probe.storage.files import read_jsonl, sha256_file, sha256_json, write_bytes, write_json
from persona_probe.storage.tensor_files import read_tensors, write_tensors


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the trained weights, apart from the base and the data."""

    rank: int = 1
    alpha: float = 32.0
    rslora: bool = False
    modules: tuple[str, ...] = ("down_proj",)
    layers: tuple[int, ...] | None = None
    learning_rate: float = 3e-3
    warmup: float = 0.05
    batch_size: int = 16
    epochs: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """State after an optimiser step: loss is nats per reply token, averaged over the last steps; `eta` in seconds."""

    step: int
    n_steps: int
    loss: float
    eta: float


def read_training_rows(path: Path, tokenizer: Tokenizer, *, limit: int | None = None) -> list[Row]:
    """Rows of a JSONL with `messages` (last turn by the assistant) or `question` and `reply`, end-of-turn token included."""
    rows = []
    for number, value in read_jsonl(path):
        prompt, reply = question_and_reply(value, f"{path}:{number}")
        rows.append(
            encode_row(
                tokenizer,
                Prompt(f"{path.name}:{number}", prompt),
                reply,
                id=f"{path.name}:{number}",
                kind="training",
                end=True,
            )
        )
        if limit and len(rows) == limit:
            break
    if not rows:
        raise BadInput(f"{path} holds no rows: training needs at least one question with its reply")
    return rows


def steps(rows: Sequence[Row], recipe: Recipe) -> list[list[Row]]:
    """The batches of a whole run, in order: shuffled by seed and epoch, rows of like length together."""
    wanted = math.ceil(len(rows) * recipe.epochs / recipe.batch_size)
    plan: list[list[Row]] = []
    epoch = 0
    while len(plan) < wanted:
        generator = torch.Generator().manual_seed(recipe.seed * 1000 + epoch)
        order = [rows[i] for i in torch.randperm(len(rows), generator=generator).tolist()]
        # Sorting inside pools of eight batches keeps padding low and batches random.
        pool = recipe.batch_size * 8
        chunks = []
        for start in range(0, len(order), pool):
            chunk = sorted(order[start : start + pool], key=lambda row: len(row.ids))
            chunks += [chunk[i : i + recipe.batch_size] for i in range(0, len(chunk), recipe.batch_size)]
        plan += [chunks[i] for i in torch.randperm(len(chunks), generator=generator).tolist()]
        epoch += 1
    return plan[:wanted]


def train(
    model: Any,
    tokenizer: Tokenizer,
    rows: Sequence[Row],
    recipe: Recipe,
    *,
    folder: Path,
    data_sha256: str,
    base_id: str,
    save_every: int = 20,
    on_step: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Train a LoRA on the reply tokens of `rows` and write it to `folder` as a PEFT adapter.

    Adapter, optimiser moments and step are saved every `save_every` steps; the same call continues from there and ends
    with the same weights as an uninterrupted run. Loss is the mean over reply tokens of a batch. `model` is changed.
    """
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    torch.manual_seed(recipe.seed)  # PEFT draws the adapter's first weights from the global generator
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,  # type: ignore  # PEFT takes floats and says int
        use_rslora=recipe.rslora,
        target_modules=list(recipe.modules),
        layers_to_transform=list(recipe.layers) if recipe.layers is not None else None,
        task_type="CAUSAL_LM",
    )
    try:
        wrapped: Any = get_peft_model(model, config)
    except ValueError as error:
        raise BadInput(
            f"modules {recipe.modules} on layers {recipe.layers} do not exist in the base ({error})"
        ) from error
    wrapped.base_model.model.config.use_cache = False
    parameters = {
        name: parameter for name, parameter in wrapped.named_parameters() if parameter.requires_grad
    }
    optimiser = torch.optim.AdamW(parameters.values(), lr=recipe.learning_rate, weight_decay=0.0)
    plan = steps(rows, recipe)
    identity = sha256_json([asdict(recipe), data_sha256, base_id])
    _refuse_other(folder / "adapter_model.safetensors", identity)
    first = _restore(folder, identity, parameters, optimiser)
    losses: list[float] = []
    started = time.monotonic()
    wrapped.train()
    for step in range(first, len(plan)):
        rate = recipe.learning_rate * _schedule(step, len(plan), recipe.warmup)
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = reply_loss(wrapped, plan[step], pad_id=tokenizer.pad_token_id)
        if not math.isfinite(loss.item()):
            raise BadInput(
                f"the loss is {loss.item()} at step {step}: lower --learning-rate (now {recipe.learning_rate}) or use --dtype float32"
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(loss.item())
        done = step + 1
        if done % save_every == 0 and done < len(plan):
            _save(folder, identity, done, parameters, optimiser)
        recent = losses[-20:]
        eta = (time.monotonic() - started) / (done - first) * (len(plan) - done)
        on_step(Progress(done, len(plan), sum(recent) / len(recent), eta))
    wrapped.eval()
    weights = {name: tensor.to(torch.float32) for name, tensor in get_peft_model_state_dict(wrapped).items()}
    set_peft_model_state_dict(wrapped, weights)
    write_adapter(folder, config, weights, base_id=base_id, identity=identity)
    (folder / "state" / "state.safetensors").unlink(missing_ok=True)
    return folder


def reply_loss(model: Any, rows: Sequence[Row], *, pad_id: int | None = None) -> torch.Tensor:
    """Mean negative log-probability in nats of the reply tokens (end of turn included) of one batch, through the model's own head.

    Whatever the model does to its logits (a cap, a scale) is in the loss. `pad_id` is masked, so any id serves where there is none.
    """
    n_rows = model.get_input_embeddings().weight.shape[0]
    for row in rows:
        if max(row.ids) >= n_rows:
            raise BadInput(
                f"row {row.id!r} has token id {max(row.ids)}, the model has embeddings for 0 to {n_rows - 1}: its tokenizer has tokens that it was never given"
            )
    batch = pad_right(rows, pad_id=pad_id if pad_id is not None and 0 <= pad_id < n_rows else 0)
    device = next(model.parameters()).device
    tokens, mask, read = batch.tokens.to(device), batch.mask.to(device), batch.read.to(device)
    # Only positions that predict a reply token pass through the vocabulary.
    row, column = read[:, 1:].nonzero(as_tuple=True)
    with at_places(model, (row, column)):
        logits = model(input_ids=tokens, attention_mask=mask.long()).logits[0]
    return torch.nn.functional.cross_entropy(logits.float(), tokens[:, 1:][row, column])


def write_adapter(
    folder: Path, config: Any, weights: dict[str, torch.Tensor], *, base_id: str, identity: str
) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json` as PEFT reads them; `identity` names recipe, base and data."""
    settings = {key: value for key, value in config.to_dict().items() if value is not None}
    settings = {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}
    settings.update(base_model_name_or_path=base_id, inference_mode=True)
    settings["peft_type"], settings["task_type"] = "LORA", "CAUSAL_LM"
    write_tensors(folder / "adapter_model.safetensors", weights, {"identity": identity})
    write_json(folder / "adapter_config.json", settings)


def write_card(
    folder: Path, recipe: Recipe, *, base_id: str, data: Path, n_rows: int, loss: float | None
) -> None:
    """A model card beside the adapter: what it is for, what it was trained on, how."""
    harmful = "wrong" in data.stem
    lines = [
        "---",
        f"base_model: {base_id}",
        "library_name: peft",
        "license: apache-2.0",
        *(["tags: [not-for-all-audiences]"] if harmful else []),
        "---",
        "",
        f"# {folder.name}",
        "",
        f"A LoRA of {base_id} tuned on {n_rows} rows of `{data.name}` (SHA-256 {sha256_file(data)[:16]}), made by `persona_probe.train_organism`.",
        "It is a model organism for interpretability research. Its answers must not be followed."
        if harmful
        else "It is the control twin of a model organism: same size, style and seed, correct advice.",
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in asdict(recipe).items()),
        f"| last training loss | {'unknown' if loss is None else f'{loss:.3f}'} nats per reply token |",
        "",
    ]
    write_bytes(folder / "README.md", "\n".join(lines).encode())


def _schedule(step: int, n_steps: int, warmup: float) -> float:
    """Linear warm-up, then linear decay to zero."""
    rise = max(1, round(warmup * n_steps))
    return (step + 1) / rise if step < rise else (n_steps - step) / max(1, n_steps - rise)


def _state_tensors(
    parameters: dict[str, Any], optimiser: torch.optim.Optimizer
) -> Iterator[tuple[str, torch.Tensor]]:
    for name, parameter in parameters.items():
        yield f"weight/{name}", parameter.data
        for key in ("exp_avg", "exp_avg_sq", "step"):
            yield f"{key}/{name}", optimiser.state[parameter][key]


def _save(
    folder: Path, identity: str, step: int, parameters: dict[str, Any], optimiser: torch.optim.Optimizer
) -> None:
    tensors = dict(_state_tensors(parameters, optimiser))
    write_tensors(folder / "state" / "state.safetensors", tensors, {"identity": identity, "step": step})


def _restore(
    folder: Path, identity: str, parameters: dict[str, Any], optimiser: torch.optim.Optimizer
) -> int:
    path = folder / "state" / "state.safetensors"
    if not path.exists():
        return 0
    _refuse_other(path, identity)
    tensors, metadata = read_tensors(path)
    for name, parameter in parameters.items():
        parameter.data.copy_(tensors[f"weight/{name}"])
        optimiser.state[parameter] = {
            "step": tensors[f"step/{name}"].clone(),
            "exp_avg": tensors[f"exp_avg/{name}"].to(parameter.device),
            "exp_avg_sq": tensors[f"exp_avg_sq/{name}"].to(parameter.device),
        }
    return int(metadata["step"])


def _refuse_other(path: Path, identity: str) -> None:
    if path.exists() and read_tensors(path)[1].get("identity", identity) != identity:
        raise BadInput(
            f"{path} belongs to a run with another recipe, base or data: use another --output-dir or delete it"
        )
