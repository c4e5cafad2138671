"""Vectors of both models in, a BatchTopK SAE out, by SAELens' own trainer; a killed run goes on where it was.

The loop, the losses and the schedules are SAELens'. Ours are the starting point, the order of the vectors,
and the state on disk: SAELens keeps its own as a pickle, which this project never opens.
"""

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
from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, LoggingConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.training import sae_trainer
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.saes.folder import CONFIG, read_sae
from persona_probe.saes.recipe import Recipe
from persona_probe.saes.sae import Sae
from persona_probe.storage.files import sha256_json
from persona_probe.storage.tensor_files import read_tensors, write_tensors

OPTIMISER = ("exp_avg", "exp_avg_sq", "step")  # of Adam, for every parameter


@dataclass(frozen=True)
class Progress:
    """Where training is: loss as SAELens defines it, ETA in seconds."""

    samples: int
    n_samples: int
    loss: float
    eta: float


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

    The state is kept `save_every` times a run in `state` as safetensors; the same call continues there and
    ends with the same weights as an uninterrupted run on the same machine.
    """
    share = min(len(part) for part in vectors)
    if share * len(vectors) < recipe.batch_size:
        raise BadInput(
            f"{share} vectors of each model are fewer than one batch of {recipe.batch_size}: "
            "collect more, or lower --batch-size"
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
    path = state / "training.safetensors"
    trainer = Trainer(_plan(recipe, save_every), sae, path=path, identity=identity, on_step=on_step)
    trained = trainer.train_on(pool, batch_size=recipe.batch_size, seed=recipe.seed)
    with tempfile.TemporaryDirectory() as scratch:
        trained.save_inference_model(scratch)
        path = Path(scratch) / CONFIG
        metadata = {"hook_name": hook_point, "model_name": model_name}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"metadata": metadata}))
        return read_sae(Path(scratch), id=state.parent.name)


class Trainer(SAETrainer[Any, Any]):
    """SAELens' trainer, which keeps its state in a file and reports its steps to us instead of to a bar.

    `identity` says what is trained on what: the state of another identity is refused.
    """

    def __init__(
        self,
        plan: SAETrainerConfig,
        sae: BatchTopKTrainingSAE,
        *,
        path: Path,
        identity: str,
        on_step: Callable[[Progress], None],
    ) -> None:
        super().__init__(
            cfg=plan, sae=sae, data_provider=iter(()), save_checkpoint_fn=lambda checkpoint_path: self.keep()
        )
        self._path, self._identity, self._on_step = path, identity, on_step
        self._first, self._started = 0, time.monotonic()

    def _update_pbar(self, step_output: Any, pbar: Any, update_interval: int = 100) -> None:
        done, total = self.n_training_samples, self.cfg.total_training_samples
        eta = (time.monotonic() - self._started) / max(1, done - self._first) * (total - done)
        loss = float(step_output.loss.detach())
        self._on_step(Progress(samples=done, n_samples=total, loss=loss, eta=eta))

    def train_on(self, pool: Float[Tensor, "token d_model"], *, batch_size: int, seed: int) -> Any:
        """Train to the end of the plan, from where the kept state is; the trained SAE of SAELens."""
        self._first = self.restore()
        if not self._first:
            self._start_at_the_mean(pool)
        self.data_provider = shuffled(pool, batch_size=batch_size, seed=seed, skip=self.n_training_steps)
        with _quiet():
            return self.fit()

    def keep(self) -> None:
        """Write the state, in one step."""
        tensors = {f"weight/{name}": tensor for name, tensor in self.sae.state_dict().items()}
        for i, parameter in enumerate(self.sae.parameters()):
            tensors |= {f"{key}/{i}": self.optimizer.state[parameter][key] for key in OPTIMISER}
        tensors["act_freq_scores"] = self.act_freq_scores
        tensors["since_fired"] = self.n_forward_passes_since_fired
        facts = {
            "identity": self._identity,
            "steps": self.n_training_steps + 1,
            "samples": self.n_training_samples,
            "active": self.n_frac_active_samples,
            "scale": self.activation_scaler.scaling_factor,
        }
        copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        write_tensors(self._path, copies, facts)

    def restore(self) -> int:
        """Take up the kept state. Samples already shown; 0 when there is nothing to continue."""
        if not self._path.exists():
            return 0
        tensors, facts = read_tensors(self._path)
        if facts.get("identity") != self._identity:
            raise BadInput(
                f"{self._path} belongs to a run with another recipe or other vectors: "
                "use another --output-dir or delete it"
            )
        prefix = "weight/"
        weights = {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        self.sae.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in weights.items()})
        for i, parameter in enumerate(self.sae.parameters()):
            self.optimizer.state[parameter] = {key: tensors[f"{key}/{i}"].clone() for key in OPTIMISER}
        self.act_freq_scores = tensors["act_freq_scores"]
        self.n_forward_passes_since_fired = tensors["since_fired"]
        self.n_training_steps, self.n_training_samples = int(facts["steps"]), int(facts["samples"])
        self.n_frac_active_samples, self.activation_scaler.scaling_factor = facts["active"], facts["scale"]
        self.checkpoint_thresholds = [n for n in self.checkpoint_thresholds if n > self.n_training_samples]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the scheduler expects an optimiser step before each of its own
            for _ in range(self.n_training_steps):
                for scheduler in (self.lr_scheduler, *self.coefficient_schedulers.values()):
                    scheduler.step()
        return self.n_training_samples

    def _start_at_the_mean(self, pool: Float[Tensor, "token d_model"]) -> None:
        """Decoder bias at the data's mean and the stream at SAELens' scale, before the first step.

        A few dimensions of a stream carry a large constant. Latents that must learn it first die in great
        numbers.
        """
        scale = float(pool.shape[1] ** 0.5 / pool.float().norm(dim=-1).mean())
        self.activation_scaler.scaling_factor = scale
        self.sae.b_dec.data.copy_(pool.float().mean(0) * scale)


def shuffled(
    pool: Float[Tensor, "token d_model"], *, batch_size: int, seed: int, skip: int
) -> Iterator[Tensor]:
    """Endless batches; every pass has its own order, by seed. The first `skip` batches are passed over
    unbuilt.
    """
    n, step, epoch = len(pool) // batch_size, 0, 0
    while True:
        order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed * 1000 + epoch))
        for i in range(n):
            if step >= skip:
                yield pool[order[i * batch_size : (i + 1) * batch_size]].float()
            step += 1
        epoch += 1


@contextmanager
def _quiet() -> Iterator[None]:
    """Without SAELens' own progress bar and log lines."""
    bar, logger = sae_trainer.tqdm, logging.getLogger("sae_lens")
    level = logger.level
    sae_trainer.tqdm = partial(bar, disable=True)  # pyright: ignore[reportAttributeAccessIssue]
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        sae_trainer.tqdm = bar
        logger.setLevel(level)


def _plan(recipe: Recipe, save_every: int) -> SAETrainerConfig:
    steps = recipe.n_samples // recipe.batch_size
    return SAETrainerConfig(
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
