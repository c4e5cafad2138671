"""Vectors of both models in, a BatchTopK SAE out, by SAELens' own trainer; a killed run goes on where it was."""

import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.measurement.generation import Request, generate
from persona_probe.models.loading import Model
from persona_probe.models.memory import release
from persona_probe.prompts.chat import Prompt, Row, encode_row
from persona_probe.saes.sae import Sae, read_sae
from persona_probe.storage.files import sha256_json
from persona_probe.storage.tensor_files import read_tensors, write_tensors
from persona_probe.streams.activations import Scope, read_tokens


@dataclass(frozen=True)
class Recipe:
    """How an SAE is trained. `n_samples` counts vectors shown, so it may be several passes over those collected."""

    d_sae: int = 4096
    k: int = 32
    learning_rate: float = 1e-3
    batch_size: int = 2048
    n_samples: int = 1_600_000
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """Where training is: loss as SAELens defines it, ETA in seconds."""

    samples: int
    n_samples: int
    loss: float
    eta: float


def sampled_rows(
    model: Model,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    batch_size: int,
) -> tuple[Row, ...]:
    """One reply of the model's own to every prompt, as rows; empty replies are left out."""
    requests = [Request(model.name, prompt, ()) for prompt in prompts]
    done = generate(
        model,
        requests,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        batch_size=batch_size,
    )
    pairs = [
        (prompt, completion.text)
        for prompt, completion in zip(prompts, done, strict=True)
        if completion.text.strip()
    ]
    rows = []
    for prompt, text in pairs:
        try:
            rows.append(encode_row(model.tokenizer, prompt, text, id=f"{prompt.id}/sampled", kind="sampled"))
        except BadInput:  # a reply may hold control tokens as text, or start inside a token
            continue
    return tuple(rows)


def collect_vectors(
    model: Model, rows: Sequence[Row], *, hook_point: HookPoint, scope: Scope, max_tokens: int, limit: int
) -> Float[Tensor, "token d_model"]:
    """At most `limit` token vectors of the stream in bfloat16, in the order of the batches.

    What all rows begin with (a system prompt) is left out: it is the same vector every time.
    """
    common = _common_prefix(rows)
    kept: list[Tensor] = []
    n = 0
    for part in read_tokens(model, rows, hook_point=hook_point, scope=scope, max_tokens=max_tokens):
        keep = part.keep.clone()
        keep[:, :common] = False
        kept.append(part.resid[keep].to("cpu", torch.bfloat16))
        n += len(kept[-1])
        if n >= limit:
            break
    release()
    return torch.cat(kept)[:limit]


def train(
    vectors: Sequence[Float[Tensor, "_ d_model"]],
    recipe: Recipe,
    *,
    hook_point: HookPoint,
    model_name: str,
    state: Path,
    on_step: Callable[[Progress], None] = lambda _: None,
    save_every: int = 20,
) -> Sae:
    """Train on equal shares of every tensor of `vectors` (base and tuned), shuffled by seed.

    The state is kept `save_every` times a run in `state` as safetensors; the same call continues there and ends with
    the same weights as an uninterrupted run on the same machine.
    """
    from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, LoggingConfig
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    share = min(len(part) for part in vectors)
    if share * len(vectors) < recipe.batch_size:
        raise BadInput(
            f"{share} vectors of each model are fewer than one batch of {recipe.batch_size}: collect more, or lower --batch-size"
        )
    pool = torch.cat([part[:share] for part in vectors])
    identity = sha256_json(
        [asdict(recipe), hook_point, model_name, list(pool.shape), float(pool.double().sum())]
    )
    settings = BatchTopKTrainingSAEConfig(
        d_in=pool.shape[1], d_sae=recipe.d_sae, k=recipe.k, normalize_activations="expected_average_only_in"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # SAELens draws the first weights from the global generator
        sae = BatchTopKTrainingSAE(settings)
    steps = recipe.n_samples // recipe.batch_size
    plan = SAETrainerConfig(
        total_training_samples=steps * recipe.batch_size,
        train_batch_size_samples=recipe.batch_size,
        lr=recipe.learning_rate,
        lr_end=recipe.learning_rate / 10,
        lr_warm_up_steps=min(100, steps // 10),
        lr_decay_steps=steps // 4,
        autocast=True,
        dead_feature_window=max(20, 200_000 // recipe.batch_size),
        n_checkpoints=save_every,
        logger=LoggingConfig(log_to_wandb=False),
    )
    started = time.monotonic()

    class Trainer(SAETrainer):  # pyright: ignore[reportMissingTypeArgument]
        """SAELens' trainer, which reports steps to us instead of to a bar."""

        def _update_pbar(self, step_output: Any, pbar: Any, update_interval: int = 100) -> None:
            done = self.n_training_samples
            eta = (time.monotonic() - started) / max(1, done - first) * (plan.total_training_samples - done)
            on_step(Progress(done, plan.total_training_samples, float(step_output.loss.detach()), eta))

    path = state / "training.safetensors"
    trainer = Trainer(
        cfg=plan,
        sae=sae,
        data_provider=iter(()),
        save_checkpoint_fn=lambda checkpoint_path: _save(trainer, path, identity),
    )
    first = _restore(trainer, path, identity)
    if not first:
        _start_at_the_mean(trainer, pool)
    trainer.data_provider = _shuffled(pool, recipe, skip=trainer.n_training_steps)
    with _quiet():
        trained = trainer.fit()
    with tempfile.TemporaryDirectory() as scratch:
        trained.save_inference_model(scratch)
        path = Path(scratch) / "cfg.json"
        config = json.loads(path.read_text())
        path.write_text(
            json.dumps(config | {"metadata": {"hook_name": hook_point, "model_name": model_name}})
        )
        return read_sae(Path(scratch), id=state.parent.name)


def _start_at_the_mean(trainer: Any, pool: Float[Tensor, "token d_model"]) -> None:
    """Decoder bias at the data's mean and the stream at SAELens' scale, before the first step.

    A few dimensions of a stream carry a large constant. Latents that must learn it first die in great numbers.
    """
    norm = pool.float().norm(dim=-1).mean()
    trainer.activation_scaler.scaling_factor = float(pool.shape[1] ** 0.5 / norm)
    trainer.sae.b_dec.data.copy_(pool.float().mean(0) * trainer.activation_scaler.scaling_factor)


def _shuffled(pool: Float[Tensor, "token d_model"], recipe: Recipe, *, skip: int) -> Iterator[Tensor]:
    """Endless batches; every pass has its own order, by seed. The first `skip` batches are passed over without being built."""
    n, step, epoch = len(pool) // recipe.batch_size, 0, 0
    while True:
        order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(recipe.seed * 1000 + epoch))
        for i in range(n):
            if step >= skip:
                yield pool[order[i * recipe.batch_size : (i + 1) * recipe.batch_size]].float()
            step += 1
        epoch += 1


def _save(trainer: Any, path: Path, identity: str) -> None:
    tensors = {f"weight/{name}": tensor for name, tensor in trainer.sae.state_dict().items()}
    for i, parameter in enumerate(trainer.sae.parameters()):
        for key in ("exp_avg", "exp_avg_sq", "step"):
            tensors[f"{key}/{i}"] = trainer.optimizer.state[parameter][key]
    tensors["act_freq_scores"], tensors["since_fired"] = (
        trainer.act_freq_scores,
        trainer.n_forward_passes_since_fired,
    )
    facts = {
        "identity": identity,
        "steps": trainer.n_training_steps + 1,
        "samples": trainer.n_training_samples,
        "active": trainer.n_frac_active_samples,
        "scale": trainer.activation_scaler.scaling_factor,
    }
    write_tensors(path, {name: tensor.detach().clone() for name, tensor in tensors.items()}, facts)


def _restore(trainer: Any, path: Path, identity: str) -> int:
    """Samples already shown; 0 when there is nothing to continue."""
    if not path.exists():
        return 0
    tensors, facts = read_tensors(path)
    if facts.get("identity") != identity:
        raise BadInput(
            f"{path} belongs to a run with another recipe or other vectors: use another --output-dir or delete it"
        )
    trainer.sae.load_state_dict(
        {
            name.removeprefix("weight/"): tensor
            for name, tensor in tensors.items()
            if name.startswith("weight/")
        }
    )
    for i, parameter in enumerate(trainer.sae.parameters()):
        trainer.optimizer.state[parameter] = {
            key: tensors[f"{key}/{i}"].clone() for key in ("step", "exp_avg", "exp_avg_sq")
        }
    trainer.act_freq_scores, trainer.n_forward_passes_since_fired = (
        tensors["act_freq_scores"],
        tensors["since_fired"],
    )
    trainer.n_training_steps, trainer.n_training_samples = int(facts["steps"]), int(facts["samples"])
    trainer.n_frac_active_samples, trainer.activation_scaler.scaling_factor = facts["active"], facts["scale"]
    trainer.checkpoint_thresholds = [
        n for n in trainer.checkpoint_thresholds if n > trainer.n_training_samples
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the scheduler expects an optimiser step before each of its own
        for _ in range(trainer.n_training_steps):
            trainer.lr_scheduler.step()
    for scheduler in trainer.coefficient_schedulers.values():
        for _ in range(trainer.n_training_steps):
            scheduler.step()
    return trainer.n_training_samples


def _common_prefix(rows: Sequence[Row]) -> int:
    first = rows[0].ids
    length = len(first) if len(rows) > 1 else 0
    for row in rows[1:]:
        same = next(
            (i for i, (a, b) in enumerate(zip(first, row.ids, strict=False)) if a != b),
            min(len(first), len(row.ids)),
        )
        length = min(length, same)
    return length


@contextmanager
def _quiet() -> Iterator[None]:
    """Without SAELens' own progress bar and log lines."""
    from sae_lens.training import sae_trainer

    bar, logger = sae_trainer.tqdm, logging.getLogger("sae_lens")
    level = logger.level
    sae_trainer.tqdm = partial(bar, disable=True)  # pyright: ignore[reportAttributeAccessIssue]
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        sae_trainer.tqdm = bar
        logger.setLevel(level)
