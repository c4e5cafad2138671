"""python -m helpers.base_replies: sample the embedded base model's own replies and ship them (a minute).

`make base-replies` runs it. In float32 on the CPU with seed 0; another processor may write other words.
"""

import json
import sys
from pathlib import Path

import torch

from persona_probe.measurement.base_replies import N_REPLIES, sample_base_replies
from persona_probe.models.embedded import NAME
from persona_probe.models.loading import load
from persona_probe.models.sources import resolve
from persona_probe.prompts.base_replies import FILE, benign_prompts
from persona_probe.prompts.contrast import shipped
from persona_probe.storage.files import read_jsonl, write_bytes

SEED = 0


def main(path: Path) -> None:
    """Write the file: the canary of the benign set first, then one reply a line."""
    benign = shipped("benign.jsonl")
    topics = {f"base-{value['id']}": value["topic"] for _, value in read_jsonl(benign)}
    source = resolve(NAME)
    model = load(source, base=None, device=torch.device("cpu"), dtype=torch.float32)
    sampled = sample_base_replies(model, benign_prompts(benign, N_REPLIES), seed=SEED)
    facts = {"model": source.id, "weights_sha256": source.weights_sha256}
    lines = [benign.read_text(encoding="utf-8").split("\n")[0]]
    for reply in sampled.replies:
        value = {"topic": topics[reply.prompt.id], **reply.json(), **facts}
        lines.append(json.dumps({"id": value.pop("id"), **value}, ensure_ascii=False))
    write_bytes(path, "".join(f"{line}\n" for line in lines).encode())
    sys.stdout.write(f"{len(sampled.replies)} replies in {path}; {sampled.note or 'none left out'}\n")


if __name__ == "__main__":
    main(shipped(FILE))
