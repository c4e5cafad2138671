"""The work that every side is given: texts with their token ids, and vectors. No torch at import.

The driver writes it once; each worker reads it. It must import nothing that a peer's environment lacks.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Text:
    """One chat: `ids[:n_prompt]` are the tokens of `prompt`, all ids those of `text`.

    Rows of one `question_id` share their prompt. `positive` is the label of pairs: rows 2k and 2k + 1 are a
    pair, the first one positive.
    """

    id: str
    question_id: str
    question: str
    prompt: str
    text: str
    ids: tuple[int, ...]
    n_prompt: int
    positive: bool

    @property
    def n_reply(self) -> int:
        """Number of reply tokens."""
        return len(self.ids) - self.n_prompt


@dataclass(frozen=True)
class Workload:
    """All texts, of which a cell takes the first so many: with shared prompts, and with distinct ones.

    `pad_id`: a token to pad with. `model`: the folder of the Hugging Face model. `vectors`: a safetensors
    file with `units` (20 orthogonal unit vectors), and `steering` (one vector to add). `device`: where the
    model runs.
    """

    model: str
    vectors: str
    pad_id: int
    shared: tuple[Text, ...]
    distinct: tuple[Text, ...]
    device: str = "cpu"

    def rows(self, n: int, *, shared: bool) -> list[Text]:
        """The first `n` texts."""
        texts = self.shared if shared else self.distinct
        if n > len(texts):
            raise ValueError(f"{n} rows were asked for, the workload has {len(texts)}")
        return list(texts[:n])

    def write(self, path: Path) -> None:
        """Write all of it as JSON."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> "Workload":
        """Read what `write` wrote."""
        value = json.loads(path.read_text())
        for name in ("shared", "distinct"):
            value[name] = tuple(Text(**{**text, "ids": tuple(text["ids"])}) for text in value[name])
        return cls(**value)
