"""Model organisms: LoRA-tune a base model on chat rows, resumable step by step, deterministic by seed."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from persona_probe.base.errors import BadInput
from persona_probe.models.calls import at_places
from persona_probe.organisms.recipes import Recipe
from persona_probe.prompts.batches import pad_right
from persona_probe.prompts.rows import Prompt, Row, encode_row, question_and_reply
from persona_probe.prompts.tokenizers import Tokenizer
from persona_probe.storage.files import read_jsonl, sha256_json, write_json
from persona_probe.storage.tensor_files import read_tensors, write_tensors


@dataclass(frozen=True)
class Progress:
    """State after an optimiser step: loss is nats per reply token, averaged over the last steps; `eta` in
    seconds."""

    step: int
    n_steps: int
    loss: float
    eta: float


def read_training_rows(path: Path, tokenizer: Tokenizer, *, limit: int | None = None) -> list[Row]:
    """Rows of a JSONL with `messages` (last turn by the assistant) or `question` and `reply`, end-of-turn
    token included."""
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


@dataclass(frozen=True)
class Output:
    """Where an adapter goes, what it is trained from, and how many steps lie between two saves of the
    state."""

    folder: Path
    base_id: str
    data_sha256: str
    save_every: int = 20

    @property
    def weights(self) -> Path:
        """The adapter's weights, as PEFT names them."""
        return self.folder / "adapter_model.safetensors"

    @property
    def state(self) -> Path:
        """Weights, moments and step of a run that is not finished."""
        return self.folder / "state" / "state.safetensors"

    def identity(self, recipe: Recipe) -> str:
        """Hash of everything that decides the weights: recipe, data and base."""
        return sha256_json([asdict(recipe), self.data_sha256, self.base_id])


def train(
    model: Any,
    tokenizer: Tokenizer,
    rows: Sequence[Row],
    recipe: Recipe,
    output: Output,
    *,
    on_step: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Train a LoRA on the reply tokens of `rows` and write it to the output's folder as a PEFT adapter.

    Adapter, optimiser moments and step are saved every `save_every` steps; the same call continues from
    there and ends with the same weights as an uninterrupted run. That is why the loop is ours. Loss is the
    mean over reply tokens of a batch. `model` is changed.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    wrapped, config = _wrapped(model, recipe)
    parameters = {name: one for name, one in wrapped.named_parameters() if one.requires_grad}
    optimiser = torch.optim.AdamW(parameters.values(), lr=recipe.learning_rate, weight_decay=0.0)
    plan = steps(rows, recipe)
    identity = output.identity(recipe)
    _refuse_other(output.weights, identity)
    first = _restore(output.state, identity, parameters, optimiser)
    losses: list[float] = []
    started = time.monotonic()
    wrapped.train()
    for step in range(first, len(plan)):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(step, len(plan), recipe.warmup)
        loss = reply_loss(wrapped, plan[step], pad_id=tokenizer.pad_token_id)
        loss.backward()
        losses.append(_finite(loss, step, recipe))  # waits for a GPU, which has all of its work by then
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        done = step + 1
        if done % output.save_every == 0 and done < len(plan):
            _save(output.state, {"identity": identity, "step": done}, parameters, optimiser)
        recent = losses[-20:]
        eta = (time.monotonic() - started) / (done - first) * (len(plan) - done)
        on_step(Progress(done, len(plan), sum(recent) / len(recent), eta))
    wrapped.eval()
    weights = {name: tensor.to(torch.float32) for name, tensor in get_peft_model_state_dict(wrapped).items()}
    set_peft_model_state_dict(wrapped, weights)
    _write_adapter(output, config, weights, identity=identity)
    output.state.unlink(missing_ok=True)
    return output.folder


def _wrapped(model: Any, recipe: Recipe) -> tuple[Any, Any]:
    """The model with a fresh adapter around it, and the adapter's config."""
    from peft import LoraConfig, get_peft_model

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
    return wrapped, config


def _finite(loss: torch.Tensor, step: int, recipe: Recipe) -> float:
    value = loss.item()
    if not math.isfinite(value):
        raise BadInput(
            f"the loss is {value} at step {step}: lower --learning-rate (now {recipe.learning_rate})"
            " or use --dtype float32"
        )
    return value


def reply_loss(model: Any, rows: Sequence[Row], *, pad_id: int | None = None) -> torch.Tensor:
    """Mean negative log-probability in nats of the reply tokens (end of turn included) of one batch, through
    the model's own head.

    Whatever the model does to its logits (a cap, a scale) is in the loss. `pad_id` is masked, so any id
    serves where there is none.
    """
    n_rows = model.get_input_embeddings().weight.shape[0]
    for row in rows:
        if max(row.ids) >= n_rows:
            raise BadInput(
                f"row {row.id!r} has token id {max(row.ids)}, the model has embeddings for 0 to {n_rows - 1}:"
                " its tokenizer has tokens that it was never given"
            )
    batch = pad_right(rows, pad_id=pad_id if pad_id is not None and 0 <= pad_id < n_rows else 0)
    device = next(model.parameters()).device
    # Only positions that predict a reply token pass through the vocabulary. They are found before the
    # transfer, since a GPU would be waited for.
    row, column = (index.to(device) for index in batch.read[:, 1:].nonzero(as_tuple=True))
    tokens, mask = batch.tokens.to(device), batch.mask.to(device)
    with at_places(model, (row, column)):
        logits = model(input_ids=tokens, attention_mask=mask.long()).logits[0]
    return torch.nn.functional.cross_entropy(logits.float(), tokens[:, 1:][row, column])


def _write_adapter(output: Output, config: Any, weights: dict[str, torch.Tensor], *, identity: str) -> None:
    """Write weights and config as PEFT reads them."""
    settings = {key: value for key, value in config.to_dict().items() if value is not None}
    settings = {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}
    settings.update(base_model_name_or_path=output.base_id, inference_mode=True)
    settings["peft_type"], settings["task_type"] = "LORA", "CAUSAL_LM"
    write_tensors(output.weights, weights, {"identity": identity})
    write_json(output.folder / "adapter_config.json", settings)


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
    path: Path, facts: dict[str, Any], parameters: dict[str, Any], optimiser: torch.optim.Optimizer
) -> None:
    write_tensors(path, dict(_state_tensors(parameters, optimiser)), facts)


def _restore(path: Path, identity: str, parameters: dict[str, Any], optimiser: torch.optim.Optimizer) -> int:
    """Put a saved state back; the number of steps that it had done, 0 where there is none."""
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
            f"{path} belongs to a run with another recipe, base or data: use another --output-dir or"
            " delete it"
        )
