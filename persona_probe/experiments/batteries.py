"""Which rows and benign texts are scored at which stage of a run."""

from collections.abc import Mapping
from dataclasses import dataclass

from persona_probe.experiments.direction_config import Config
from persona_probe.measurement.arms import Battery
from persona_probe.models.pairs import Pair
from persona_probe.prompts.contrast import shipped
from persona_probe.prompts.contrast_files import read_benign
from persona_probe.prompts.rows import Row, Split

SCREEN_REPLIES, SCREEN_BENIGN = 1, 8  # replies of each label per select question, texts: of all candidates
SELECT_REPLIES = 2  # replies of each label per select question that the choice is made on


@dataclass(frozen=True)
class Batteries:
    """What is scored: `screen`, a part of `select`, for dozens of candidates, `select` for the choice among
    those that lead, and `test` for what is reported: other questions and other benign texts."""

    screen: Battery
    select: Battery
    test: Battery


def batteries(config: Config, pair: Pair, rows: Mapping[Split, tuple[Row, ...]]) -> Batteries:
    """The rows and texts of a run."""
    n_select = max(2, config.n_benign // 3)
    limit = config.limit * 2 if config.limit else config.n_benign + n_select
    benign = read_benign(config.benign or shipped("benign.jsonl"), pair.tokenizer, limit=limit)
    cut = min(n_select, len(benign) // 3)

    def select(n_replies: int, n_texts: int) -> Battery:
        persona = (row for row in rows["select"] if row.reply_index < n_replies)
        return Battery(persona=tuple(persona), benign=tuple(benign[:n_texts]))

    return Batteries(
        screen=select(SCREEN_REPLIES, min(cut, SCREEN_BENIGN)),
        select=select(SELECT_REPLIES, cut),
        test=Battery(persona=rows["test"], benign=tuple(benign[cut:])),
    )
