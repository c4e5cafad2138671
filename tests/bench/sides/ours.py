"""This package, through the functions that its commands use."""

import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from bench.jobs import EDITED, MAX_TOKENS, N_ARMS, N_NEW, STEERED
from bench.sides.training import per_step, recipe_of
from bench.workload import Text, Workload


class Ours:
    """persona_probe, in the settings of its commands."""

    def __init__(self, work: Workload, dtype: str) -> None:
        from persona_probe.models.devices import DTYPES
        from persona_probe.models.loading import load
        from persona_probe.models.sources import resolve

        self.folder, self.dtype, self.fresh = work.model, DTYPES[dtype], None
        self.device = torch.device(work.device)
        self.model = load(resolve(work.model), base=None, device=self.device, dtype=self.dtype)
        tensors = load_file(work.vectors)
        self.units, self.steering = tensors["units"], tensors["steering"]

    def reply_means(self, texts: Sequence[Text]) -> Tensor:
        """text x layer x width; the last layer is read and left out of the comparison."""
        return self._means(rows_of(tuple(texts)))[:, :-1]

    def vectors(self, texts: Sequence[Text]) -> Tensor:
        """layer x width: the difference of means at the last token."""
        means = self._means(rows_of(tuple(texts), last=True))
        positive = torch.tensor([text.positive for text in texts])
        return (means[positive].mean(0) - means[~positive].mean(0))[:-1]

    def _means(self, rows: list) -> Tensor:
        from persona_probe.streams.activations import collect

        return collect(
            self.model,
            rows,
            hook_points=self.model.resids(),
            scope="reply",
            max_tokens=MAX_TOKENS,
            outliers="keep",  # the others leave no token out
        ).means

    def logprobs_ablated(self, texts: Sequence[Text]) -> Tensor:
        """Summed log-probabilities with the first unit vector out of every block's output."""
        from persona_probe.interventions.edits import Ablate
        from persona_probe.measurement.scoring import score_rows

        edit = Ablate(self.units[:1], self.model.resids())
        rows = rows_of(tuple(texts))
        return score_rows(self.model, rows, (edit,), max_tokens=MAX_TOKENS, keep_prompts=True).logprob

    def logprobs_one_layer(self, texts: Sequence[Text]) -> Tensor:
        """arm x text, as one grid."""
        from persona_probe.interventions.edits import Ablate
        from persona_probe.measurement.scoring import score_arms

        arms = [(Ablate(unit[None], (self.model.resid(EDITED),)),) for unit in self.units[:N_ARMS]]
        rows = rows_of(tuple(texts))
        scores = score_arms(self.model, rows, arms, max_tokens=MAX_TOKENS, keep_prompts=True)
        return torch.stack([score.logprob for score in scores])

    def generate_steered(self, texts: Sequence[Text]) -> list[str]:
        """Greedy replies with a vector added."""
        from persona_probe.interventions.edits import Steer
        from persona_probe.measurement.generation import Request, generate
        from persona_probe.prompts.rows import Prompt

        edits = (Steer(self.steering, self.model.resid(STEERED), 1.0),)
        requests = [Request("steered", Prompt.user(text.id, text.question), edits) for text in texts]
        done = generate(self.model, requests, max_new_tokens=N_NEW, temperature=0.0, seed=0, batch_size=16)
        return [completion.text for completion in done]

    def prepare_train(self, texts: Sequence[Text]) -> None:
        """Load a model as `train_organism` does; the last training has changed its own."""
        from persona_probe.models.parity import set_fast_attention
        from persona_probe.models.sources import resolve
        from persona_probe.models.weights import load_weights

        source = resolve(self.folder)
        self.fresh: Any = load_weights(source, base=None, device=self.device, dtype=self.dtype)
        set_fast_attention(self.fresh, self.model.tokenizer)

    def train(self, texts: Sequence[Text]) -> Tensor:
        """The loss of each step."""
        from persona_probe.organisms.lora import Output, Progress, train

        progress: list[Progress] = []
        with tempfile.TemporaryDirectory() as folder:
            train(
                self.fresh,
                self.model.tokenizer,
                rows_of(tuple(texts)),
                recipe_of(len(texts)),
                Output(Path(folder), base_id="bench", data_sha256="bench"),
                on_step=progress.append,
            )
        return torch.tensor(per_step([step.loss for step in progress]))


@lru_cache(maxsize=64)
def rows_of(texts: tuple[Text, ...], *, last: bool = False) -> list:
    """The texts as rows; with `last`, only their last token is read."""
    from persona_probe.prompts.rows import Row

    return [
        Row(
            id=text.id,
            kind="persona",
            question_id=text.question_id,
            ids=text.ids,
            n_prompt=len(text.ids) - 1 if last else text.n_prompt,
        )
        for text in texts
    ]


def open_side(work: Workload, dtype: str, variant: str) -> Ours:
    """The side, with its model loaded."""
    return Ours(work, dtype)
