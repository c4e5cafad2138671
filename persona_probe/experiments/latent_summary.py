"""The verdict of a latent record in one paragraph, computed from its numbers."""

from collections.abc import Iterator

from persona_probe.base.formatting import interval, number, percent, signed
from persona_probe.records.latent_sets import LatentSet
from persona_probe.records.latents import LatentRecord
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
    carriers = [str(latent.latent) for latent in record.latents if latent.label == "carries"]
    which = f" ({', '.join(carriers[:5])}{', …' * (len(carriers) > 5)})" if carriers else ""
    yield (
        f"Of {len(labels)} latents screened, {_counted(len(carriers), 'is a carrier', 'are carriers')}"
        f" of the shift{which}, {_counted(labels.count('dial'), 'a dial', 'dials')}, which can move S but"
        f" {'is' if labels.count('dial') == 1 else 'are'} not shown to carry it,"
        f" {labels.count('protective')} protective, {labels.count('inert')} inert and"
        f" {labels.count('harmful')} harmful; of {len(record.controls)} matched controls, {active} are not"
        " inert."
    )
    if record.select_effect is not None and record.select_effect.low <= 0:
        moved = interval(record.select_effect, digits=3, sign=True)
        yield f"On the select questions S moved by {moved}, which is no rise for sure: nothing to carry."


def _counted(n: int, one: str, more: str) -> str:
    return f"{n} {one if n == 1 else more}"


def _sets(record: LatentRecord) -> Iterator[str]:
    best = record.chosen
    if best is None:
        yield "No set of latents could be formed."
    elif best.restoration is None:
        yield "There is no shift to restore: its interval is not above 0."
    else:
        yield _best_set(best, best.restoration)
    if best is not None and best.judged is not None:
        yield f"Verdict: {best.judged.verdict}: {best.judged.because}."
    for item in record.direction:
        if item.restoration and (item.method, item.kind) == ("mean_diff", "steer"):
            yield (
                f"The single mean difference, steered at the same layer, takes back "
                f"{percent(item.restoration.estimate)} at {signed(item.delta_nll.estimate)}."
            )


def _best_set(best: LatentSet, restored: Estimate) -> str:
    what = "Steering against" if best.kind == "steer" else "Ablating"
    which = "the chosen latent" if best.k == 1 else f"the {best.k} chosen latents"
    closes = f" and closes {_share(best.closure)} of the gap between both models" if best.closure else ""
    text = (
        f"{what} {which} takes back {_share(restored)} of the shift{closes} at "
        f"{signed(best.delta_nll.estimate)} nats per token of damage"
    )
    control = best.control
    if control is None or control.restoration is None:
        return f"{text}."
    sets = "matched latents used alike" if control.n == 1 else f"{control.n} matched sets of latents"
    closed = "" if control.closure is None else f" and close {percent(control.closure)}"
    medians = " (medians)" if control.n > 1 else ""
    back = f"take back {percent(control.restoration)}{closed} at {signed(control.delta_nll)}{medians}"
    return f"{text}; {sets} {back}."


def _share(value: Estimate) -> str:
    return f"{percent(value.estimate)} [{percent(value.low)}, {percent(value.high)}]"


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
