"""What a model does on held-out rows of one's own: numbers with intervals, from rows that no step was taken on.

Intervals are over the held-out prompts, with one model: they say how far other prompts of the kind may move a number,
and nothing of another seed of the training.
"""

import math
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit, ndtri
from torch import Tensor
from transformers import PreTrainedModel

from zephyr_lab.core.shapes import at_least_float32
from zephyr_lab.data.splits import Answered, PlainText, Preference, Prompt, Split, Talk
from zephyr_lab.losses.dpo import dpo_loss, implicit_rewards
from zephyr_lab.losses.kd import forward_kl
from zephyr_lab.losses.log_probs import PairLogProbs
from zephyr_lab.methods.examples import IGNORED, DialogueExample, PairExample
from zephyr_lab.models.causal import evaluating
from zephyr_lab.scoring.intervals import CONFIDENCE, Estimate, Interval, mean_estimate, share_estimate
from zephyr_lab.scoring.length_control import SLOPE_PRIOR

Judge = Callable[[str, str, str], float]  # (question, answer_a, answer_b): 1 where a is better, 0 where b is, 0.5
FEWEST_PROMPTS = 4
ACCURACY, MARGIN, DPO_LOSS = "accuracy of the implicit reward", "mean reward margin", "DPO loss, nats a pair"
AT_EQUAL_LENGTHS, LONGER = "preference at equal lengths", "chosen answer is the longer one, share"
LOSS, KL = "next-token loss, nats", "KL from the teacher, nats a token"
WIN_RATE, FIRST_SHOWN = "win rate against the start", "the judge prefers the answer shown first, share"


def hold_out(rows: Split[Any], share: float, *, seed: int = 0) -> tuple[Split[Any], Split[Any]]:
    """The rows to train on and those held out: `share` of the prompts, drawn by `seed`, at least two.

    All rows of a prompt stay on one side, so no held-out question was trained on. Raises ValueError for a share that
    is not between 0 and 1, and for fewer than four prompts.
    """
    if not 0 < share < 1:
        raise ValueError(f"the held-out share must be between 0 and 1, got {share}")
    names = [_prompt_name(row) for row in rows.rows]
    prompts = sorted(set(names))
    if len(prompts) < FEWEST_PROMPTS:
        raise ValueError(
            f"{len(prompts)} different prompts in {len(names)} rows are too few to hold some out: it takes "
            f"{FEWEST_PROMPTS} or more"
        )
    count = min(max(2, round(share * len(prompts))), len(prompts) - 2)
    chosen = set(random.Random(f"held out {seed}").sample(prompts, count))

    def side(held: bool) -> Split[Any]:
        places = [place for place, name in enumerate(names) if (name in chosen) == held]
        return Split([rows.rows[place] for place in places], [rows.numbers[place] for place in places], [])

    return side(False), side(True)


def chosen(pairs: Split[Preference]) -> Split[Talk]:
    """The pairs' chosen answers, each the one that is learned, after its prompt."""
    rows = [
        PlainText(one.prompt, one.chosen) if isinstance(one.prompt, str) else Answered(one.prompt, one.chosen)
        for one in pairs.rows
    ]
    return Split(rows, pairs.numbers, pairs.bad)


def prompt_of(row: Preference | Talk) -> Prompt:
    """What comes before the row's (last) answer; a text without a prompt has its first words, up to eight."""
    if isinstance(row, PlainText):
        return " ".join(row.completion.split()[:8]) if row.prompt is None else row.prompt
    if isinstance(row, Preference | Answered):
        return row.prompt
    return row[: max((place for place, turn in enumerate(row) if turn["role"] == "assistant"), default=len(row))]


def _prompt_name(row: Preference | Talk) -> str:
    return repr(prompt_of(row))


def of_pairs(
    policy: PairLogProbs, start: PairLogProbs, pairs: Sequence[PairExample], *, beta: float, seed: int = 0
) -> dict[str, Estimate]:
    """Accuracy of the implicit reward (ties half), its margin in units of beta nats, DPO's loss, length-controlled.

    policy, start: log-probabilities of the same pairs (`held_out_pairs.pair_log_probs`) after the training and before.
    """
    rewards = implicit_rewards(policy, start, beta=beta)
    margins = (rewards.chosen - rewards.rejected).tolist()
    longer = [len(pair.chosen_ids) - len(pair.rejected_ids) for pair in pairs]
    prompts = [tuple(pair.prompt_ids) for pair in pairs]
    return {
        ACCURACY: share_estimate([(np.sign(margin) + 1) / 2 for margin in margins], prompts, seed=seed),
        MARGIN: mean_estimate(margins, prompts, seed=seed),
        DPO_LOSS: mean_estimate(dpo_loss(policy, start, beta=beta).tolist(), prompts, seed=seed),
        AT_EQUAL_LENGTHS: preference_at_equal_lengths(margins, longer, prompts),
        LONGER: share_estimate([(np.sign(one) + 1) / 2 for one in longer], prompts, seed=seed),
    }


def preference_at_equal_lengths(margins: ArrayLike, longer: ArrayLike, prompts: Sequence[Hashable]) -> Estimate:
    """How likely the answer that the model favours is the chosen one, of two of equal length a typical margin apart.

    Logistic regression of "the first answer is the chosen one" on the difference of log-ratios and on that of lengths,
    each in units of its root mean square: logit p = a margin + b longer, without an intercept, for no answer comes
    first. The value is sigmoid(a), 0.5 where the margin says nothing beyond length; the interval is the sandwich
    estimator's over `prompts`.

    It tells a preference apart from a liking for length where lengths vary on both sides. It cannot tell which answer
    is better, knows no other shortcut than length, and where margins and lengths rise together, or a few pairs decide
    all, the normal prior on a and b (standard deviation 5) decides; there is no interval then, and the method says so.
    """
    x = np.column_stack([np.asarray(margins, dtype=float), np.asarray(longer, dtype=float)])
    if not np.isfinite(x).all():
        raise ValueError("margins and lengths must be finite; a margin of NaN or infinity has no preference")
    size = np.sqrt((x**2).mean(axis=0)) if len(x) else np.zeros(2)
    if len(x) < 2 or not size[0]:
        return Estimate(None, None, len(x), "fewer than two pairs, or no margin at all")
    x = x / np.where(size > 0, size, 1.0)
    prior = SLOPE_PRIOR**-2

    def height(at: np.ndarray) -> tuple[float, np.ndarray]:
        z = x @ at
        return float(np.logaddexp(0, -z).sum() + 0.5 * prior * at @ at), -x.T @ expit(-z) + prior * at

    at = minimize(height, np.zeros(2), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    value = float(expit(at[0]))
    if (x @ at > 0).all() or (x @ at < 0).all():
        return Estimate(value, None, len(x), "margin and length decide every pair: the prior alone bounds it")
    p = expit(x @ at)
    bread = np.linalg.inv((x * (p * (1 - p))[:, None]).T @ x + prior * np.eye(2))
    names = {name: place for place, name in enumerate(dict.fromkeys(prompts))}
    if len(names) < 2:
        return Estimate(value, None, len(x), "one prompt, no interval")
    gradients = np.zeros((len(names), 2))
    np.add.at(gradients, [names[name] for name in prompts], x * (1 - p)[:, None])
    error = math.sqrt(len(names) / (len(names) - 1) * (bread @ (gradients.T @ gradients) @ bread)[0, 0])
    half = ndtri((1 + CONFIDENCE) / 2) * error
    return Estimate(value, Interval(float(expit(at[0] - half)), float(expit(at[0] + half))), len(x), "sandwich 95 %")


def of_dialogues(model: PreTrainedModel, rows: Sequence[DialogueExample], *, seed: int = 0) -> dict[str, Estimate]:
    """The mean next-token loss over all learned tokens of `rows`, in nats; whole rows are drawn again."""
    by_row = [_scored(model, row)[1].double().tolist() for row in rows]
    names = [number for number, losses in enumerate(by_row) for _ in losses]
    return {LOSS: mean_estimate([loss for losses in by_row for loss in losses], names, seed=seed)}


def of_distillation(
    student: PreTrainedModel, teacher: PreTrainedModel, rows: Sequence[DialogueExample], *, seed: int = 0
) -> dict[str, Estimate]:
    """KL(teacher || student) at the positions that predict a learned token, over the ids that both models have, and the
    student's `of_dialogues`."""

    divergences, losses, names = [], [], []
    for number, row in enumerate(rows):
        ours, of_tokens = _scored(student, row)
        theirs, _ = _scored(teacher, row)
        shared = min(ours.shape[-1], theirs.shape[-1])
        divergence = forward_kl(ours[None, :, :shared], theirs[None, :, :shared], temperature=1.0)
        divergences += divergence.double().flatten().tolist()
        losses += of_tokens.double().tolist()
        names += [number] * len(of_tokens)
    return {KL: mean_estimate(divergences, names, seed=seed), LOSS: mean_estimate(losses, names, seed=seed)}


def _scored(model: PreTrainedModel, row: DialogueExample) -> tuple[Tensor, Tensor]:
    """The logits at positions that predict a learned token, (token, entry), and that token's loss, (token,)."""
    ids, labels = torch.tensor([row.input_ids], device=model.device), torch.tensor(row.labels[1:])
    counted = (labels != IGNORED).to(model.device)
    with torch.inference_mode(), evaluating(model):
        logits = at_least_float32(model(input_ids=ids, use_cache=False).logits[0, :-1][counted])
    return logits, torch.nn.functional.cross_entropy(logits, ids[0, 1:][counted], reduction="none")


def win_rate(
    judge: Judge, questions: Sequence[str], answers: Sequence[str], others: Sequence[str], *, seed: int = 0
) -> dict[str, Estimate]:
    """How often `judge` finds the answer better than the other one, and how often the answer that it is shown first.

    Each two answers are judged both ways round and count as the mean, so a liking for a place cancels out; 0.5 in the
    second line is a judge without one. Raises ValueError for a verdict that is not 0, 0.5 or 1.
    """
    verdicts = [both_ways(judge, *one) for one in zip(questions, answers, others, strict=True)]
    return {
        WIN_RATE: share_estimate([wins for wins, _ in verdicts], questions, seed=seed),
        FIRST_SHOWN: share_estimate([first for _, first in verdicts], questions, seed=seed),
    }


def both_ways(judge: Judge, question: str, answer: str, other: str) -> tuple[float, float]:
    """How much better `answer` is, 0 to 1, the mean of both orders; and how often the first answer shown was better."""
    forth, back = _verdict(judge, question, answer, other), _verdict(judge, question, other, answer)
    return (forth + 1 - back) / 2, (forth + back) / 2


def _verdict(judge: Judge, question: str, first: str, second: str) -> float:
    verdict = judge(question, first, second)
    if verdict not in (0, 0.5, 1):
        raise ValueError(
            f"a judge says 1 (the first answer is better), 0 (the second) or 0.5 (neither), got {verdict!r:.60} for "
            f"the question {question!r:.60}"
        )
    return float(verdict)


def frame(measured: Mapping[str, Mapping[str, Estimate]]) -> pd.DataFrame:
    """A row a measure of each model: model, measure, value, low, high, n, interval."""
    return pd.DataFrame(
        [
            {
                "model": model,
                "measure": measure,
                "value": number.value,
                "low": number.interval and number.interval.low,
                "high": number.interval and number.interval.high,
                "n": number.n,
                "interval": number.basis,
            }
            for model, numbers in measured.items()
            for measure, number in numbers.items()
        ],
        columns=["model", "measure", "value", "low", "high", "n", "interval"],
    )
