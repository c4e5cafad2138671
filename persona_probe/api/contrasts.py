"""Questions with aligned and misaligned replies: the set that ships, or a file of one's own."""

from pathlib import Path

from persona_probe.prompts.contrast import Contrast, Question
from persona_probe.prompts.contrast_files import contrast_file, read_contrast


def contrast(
    path: str | Path | None = None, *, replies_per_question: int = 2, limit: int | None = None
) -> Contrast:
    """The contrast set in a file (JSONL, or the CSV of a judged organism), or an edition that ships, by name.

    At most `replies_per_question` replies of each label; `limit` bounds the number of questions.
    """
    return read_contrast(contrast_file(path), replies_per_question=replies_per_question, limit=limit)


def contrast_of(data: Contrast | str | Path | None) -> Contrast:
    """A contrast set, whether it is given as one or as a file."""
    return data if isinstance(data, Contrast) else contrast(data)


__all__ = ["Contrast", "Question", "contrast"]
