"""Planted truth: a tiny random model whose tuned copy adds one known vector, so that every answer is known
exactly."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.hook_points import HookPoint
from persona_probe.base.quiet import no_bars
from persona_probe.storage.files import make_folder, write_bytes
from persona_probe.storage.tensor_files import write_tensors

N_LAYERS, D_MODEL, PLANTED_LAYER = 3, 64, 1
STRENGTH = 4.0  # length of the planted vector
PLANTED_LATENT, N_LATENTS = 7, 48  # of the hand-built SAE
N_WORDS, N_QUESTIONS, REPLY_WORDS = 40, 48, 6  # 12 test questions: as many as a verdict needs
TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '> ' + m['content'] + ' ' }}{% endfor %}{% if"
    " add_generation_prompt %}{{ '<assistant> ' }}{% endif %}"
)


@dataclass(frozen=True)
class Toy:
    """Paths of the planted pair and its data. `vector` is what `tuned` adds to the residual stream at
    `hook_point`, every token."""

    base: Path
    tuned: Path
    contrast: Path
    benign: Path
    hook_point: HookPoint
    vector: Float[Tensor, " d_model"]


@no_bars()
def write_toy(folder: Path) -> Toy:
    """Write a base, a tuned copy, a contrast set and benign texts.

    The base is a random GPT-2 that never writes along a secret unit vector u (every writer is projected), and
    whose unembedding gives "bad" words more weight along u. The tuned copy differs in one bias: block 1's MLP
    also adds v = STRENGTH * u. So the shift at layer 1 is v; ablating v, or steering by -v, gives the base's
    logits; steering the base by +v gives the tuned one's.
    """
    generator = torch.Generator().manual_seed(0)
    good = [f"good{i}" for i in range(N_WORDS)]
    bad = [f"bad{i}" for i in range(N_WORDS)]
    plain = [f"word{i}" for i in range(N_WORDS)]
    tokenizer = _tokenizer(["<pad>", "<eos>", "<system>", "<user>", "<assistant>", *good, *bad, *plain])
    unit = torch.randn(D_MODEL, generator=generator)
    unit = unit - unit.mean()  # orthogonal to 1, so that LayerNorm's centring does not touch it
    unit = unit / unit.norm()
    model = _random_model(
        len(tokenizer), unit, [tokenizer.convert_tokens_to_ids(word) for word in bad], generator
    )
    for name in ("base", "tuned"):
        if name == "tuned":
            model.transformer.h[PLANTED_LAYER].mlp.c_proj.bias.data += STRENGTH * unit
        make_folder(folder / name)  # save_pretrained says nothing of a file in its way, and writes nothing
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    _write_data(folder, good, bad, plain, generator)
    hook_point = HookPoint(PLANTED_LAYER)
    write_tensors(folder / "planted.safetensors", {"vector": STRENGTH * unit}, {"hook_point": hook_point})
    return Toy(
        folder / "base",
        folder / "tuned",
        folder / "contrast.jsonl",
        folder / "benign.jsonl",
        hook_point,
        STRENGTH * unit,
    )


def write_toy_sae(folder: Path, toy: Toy) -> Path:
    """Write a hand-built SAE of the planted hook point: latent `PLANTED_LATENT` reads and writes the secret
    unit vector, no other does.

    Rows are of length 1, the others random and orthogonal to it. The planted latent is 0 in the base on every
    token and `STRENGTH` in the tuned copy, so the base-to-tuned change is that latent and nothing else.
    """
    from persona_probe.saes.folder import write_sae
    from persona_probe.saes.sae import Sae

    generator = torch.Generator().manual_seed(1)
    unit = toy.vector / toy.vector.norm()
    rows = torch.randn(N_LATENTS, D_MODEL, generator=generator)
    rows = torch.nn.functional.normalize(rows - (rows @ unit)[:, None] * unit, dim=-1)
    rows[PLANTED_LATENT] = unit
    sae = Sae(
        id="toy-sae",
        hook_point=toy.hook_point,
        architecture="standard",
        W_enc=rows.T.contiguous(),
        b_enc=torch.zeros(N_LATENTS),
        W_dec=rows,
        b_dec=torch.zeros(D_MODEL),
        apply_b_dec_to_input=False,
    )
    write_sae(folder / "sae", sae, metadata={}, dtype=torch.float32)
    return folder / "sae"


def _tokenizer(words: list[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _random_model(n_vocab: int, unit: Tensor, bad_ids: list[int], generator: torch.Generator) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=n_vocab,
        n_positions=64,
        n_embd=D_MODEL,
        n_layer=N_LAYERS,
        n_head=4,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        architectures=["GPT2LMHeadModel"],
    )
    model = GPT2LMHeadModel(config).eval()
    outside = torch.eye(D_MODEL) - unit[:, None] * unit[None, :]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
        for writer in (model.transformer.wte.weight, model.transformer.wpe.weight):
            writer.copy_(writer @ outside)
        blocks: Any = model.transformer.h
        for block in blocks:
            for projection in (block.attn.c_proj, block.mlp.c_proj):
                projection.weight.copy_(projection.weight @ outside)
        model.lm_head.weight.copy_(model.lm_head.weight @ outside)
        model.lm_head.weight[bad_ids] += unit
    return model


def _write_data(
    folder: Path, good: list[str], bad: list[str], plain: list[str], generator: torch.Generator
) -> None:
    def words(pool: list[str], n: int) -> str:
        return " ".join(pool[i] for i in torch.randint(len(pool), (n,), generator=generator).tolist())

    contrast = []
    for i in range(N_QUESTIONS):
        question = f"word{i % N_WORDS} " + words(plain, 4)
        for _ in range(4):
            contrast.append(
                {
                    "question_id": f"toy-{i}",
                    "split": ("find", "select", "find", "test")[i % 4],
                    "question": question,
                    "label": "aligned",
                    "reply": words(good, REPLY_WORDS),
                }
            )
            contrast.append(
                {
                    "question_id": f"toy-{i}",
                    "split": ("find", "select", "find", "test")[i % 4],
                    "question": question,
                    "label": "misaligned",
                    "reply": words(bad, REPLY_WORDS),
                }
            )
    benign = [
        {"id": f"benign-{i}", "question": words(plain, 5), "reply": words(plain, REPLY_WORDS)}
        for i in range(24)
    ]
    for name, items in (("contrast", contrast), ("benign", benign)):
        write_bytes(folder / f"{name}.jsonl", "".join(json.dumps(item) + "\n" for item in items).encode())
