"""The verdict of a latent record in one paragraph, computed from its numbers."""

from collections.abc import Iterator

from persona_probe.base.formatting import interval, number, percent, signed
from persona_probe.records.latents import LatentRecord, LatentSet
from persona_probe.records.parts import Estimate

MISFIT = 1.1  # a tuned FVU above this many base FVUs is worth a sentence


def summary(record: LatentRecord) -> str:
    """The shift, what the latents do, the best set beside its controls and beside the single direction,
    and the fit.
    """
    return " ".join([*_screen(record), *_sets(record), *_agreement(record), *_fit(record)])


def _screen(record: LatentRecord) -> Iterator[str]:
    effect = interval(record.effect, digits=3, sign=True)
    yield f"Tuning moved S by {effect} nats per token on the test questions."
    labels = [latent.label for latent in record.latents]
    active = sum(control.label != "inert" for control in record.controls)
    yield (
        f"Of {len(labels)} latents screened, {labels.count('carries')} carry the persona (both ways), "
        f"{labels.count('protective')} hold it down, {labels.count('one-way')} work one way only, "
        f"{labels.count('inert')} are inert and {labels.count('harmful')} do damage; "
        f"of {len(record.controls)} matched controls, {active} are not inert."
    )


def _sets(record: LatentRecord) -> Iterator[str]:
    best = next((item for item in record.sets if item.selected), None)
    if best is None:
        yield "No set of latents could be formed."
    elif best.restoration is None:
        yield "There is no shift to restore: its interval covers 0."
    else:
        yield _best_set(best, best.restoration)
    for item in record.direction:
        if item.restoration and (item.method, item.kind) == ("mean_diff", "steer"):
            yield (
                f"The single mean difference, steered at the same layer, takes back "
                f"{percent(item.restoration.estimate)} at {signed(item.delta_nll.estimate)}."
            )


def _best_set(best: LatentSet, restored: Estimate) -> str:
    what = "Steering against" if best.kind == "steer" else "Ablating"
    text = (
        f"{what} the {best.k} chosen latents takes back {percent(restored.estimate)} "
        f"[{percent(restored.low)}, {percent(restored.high)}] at {signed(best.delta_nll.estimate)} "
        "nats per token of damage"
    )
    control = best.control
    if control is None or control.restoration is None:
        return f"{text}."
    matched = f"{percent(control.restoration)} at {signed(control.delta_nll)}"
    return f"{text}; matched latents used alike take back {matched}."


def _agreement(record: LatentRecord) -> Iterator[str]:
    rebuilt = record.agreement.mean_diff
    for k, explained, random in zip(rebuilt.k, rebuilt.explained, rebuilt.random, strict=True):
        if k == 10:
            yield (
                f"Ten decoder rows rebuild {percent(explained)} of the squared length of the mean "
                f"difference, ten random ones {percent(random)}."
            )
    overlap = record.agreement.overlap.effect_correlation
    if overlap is not None:
        yield (
            "Question by question, the effects of the set and of the mean difference correlate at "
            f"{number(overlap, sign=True)}."
        )


def _fit(record: LatentRecord) -> Iterator[str]:
    base, tuned = record.quality["base"].fvu, record.quality["tuned"].fvu
    if tuned > MISFIT * base:
        yield (
            f"The SAE fits the tuned model worse than the base (unexplained variance {number(tuned)} against "
            f"{number(base)}): latents may miss part of the change."
        )
