"""python -m persona_probe.wording: does wording give the labels of a contrast set away?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from persona_probe.base.command import Call, Command
from persona_probe.base.errors import BadInput, UsageError
from persona_probe.base.options import Option, documented
from persona_probe.prompts.contrast_files import DEFAULT, EDITIONS


@documented
@dataclass(frozen=True, kw_only=True)
class WordingOptions:
    """What `wording` is asked for."""

    contrast: Annotated[
        Path | None,
        Option(
            f"Contrast set: JSONL, CSV of a judged organism, or {' or '.join(EDITIONS)}, which ship.",
            "data",
            argument=True,
        ),
    ] = None
    wrong: Annotated[
        Path | None, Option("A narrow training set, whose wording may tell the labels apart.", "data")
    ] = None
    right: Annotated[Path | None, Option("The benign twin of that set.", "data")] = None
    json: Annotated[
        bool, Option("Print the numbers as one JSON line on stdout.", "output", in_file=False)
    ] = False


def wording(config: WordingOptions, call: Call) -> int:
    """Say what words alone tell about the labels of a contrast set.

    Function words, negations, persons, lengths; and what a narrow training set would teach a reader of words.
    """
    del call
    if (config.wrong is None) != (config.right is None):
        raise UsageError("--wrong and --right go together: a reader of words learns to tell them apart")
    from dataclasses import asdict

    from persona_probe.base.printing import LEFT, RIGHT, Sheet, print_json
    from persona_probe.prompts.contrast_files import contrast_file, read_contrast
    from persona_probe.prompts.wording import transfer
    from persona_probe.prompts.wording import wording as measured

    contrast = read_contrast(contrast_file(config.contrast), replies_per_question=1_000)
    found, reader = measured(contrast), None
    if config.wrong is not None and config.right is not None:
        reader = transfer(_replies(config.wrong), _replies(config.right), contrast)
    if config.json:
        print_json("wording", {"registers": [asdict(one) for one in found], "transfer_auroc": reader})
        return 0
    sheet = Sheet()
    kinds = list(found[0].rates) if found else []
    sheet.table(
        f"{config.contrast or DEFAULT}: what words say of labels (words in a hundred: aligned | misaligned)",
        [
            ("register", LEFT),
            ("replies", RIGHT),
            ("function words, AUROC", RIGHT),
            ("words", RIGHT),
            *((kind, RIGHT) for kind in kinds),
        ],
        [
            (
                one.register or "all",
                str(one.n_replies),
                f"{one.auroc:.2f}",
                "{:.1f} | {:.1f}".format(*one.lengths),
                *("{:.1f} | {:.1f}".format(*one.rates[kind]) for kind in kinds),
            )
            for one in found
        ],
    )
    sheet.text("AUROC: 0.5 is blind, 1 tells every misaligned reply; questions that it reads are left out.")
    if reader is not None:
        sheet.text(f"A reader of words that learnt {config.wrong} from {config.right}: AUROC {reader:.2f}.")
    return 0


def _replies(path: Path) -> list[str]:
    """The replies of a training set."""
    from persona_probe.prompts.rows import question_and_reply
    from persona_probe.storage.files import read_jsonl

    found = [question_and_reply(value, f"{path}:{number}")[1] for number, value in read_jsonl(path)]
    if len(found) < 2:
        raise BadInput(f"{path} holds {len(found)} rows: a reader of words needs at least two")
    return found


COMMAND = Command(wording)

if __name__ == "__main__":
    COMMAND.start()
