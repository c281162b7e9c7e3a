import math
import random

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit
from torch.nn.functional import kl_div

from zephyr_lab.data import splits
from zephyr_lab.lab.own import judges, measures, samples
from zephyr_lab.losses.log_probs import PairLogProbs
from zephyr_lab.methods.examples import IGNORED, DialogueExample, PairExample
from zephyr_lab.models.example import example_model
from zephyr_lab.world import catalogue, facts


def log_probs(chosen, rejected):
    return PairLogProbs(*torch.tensor([chosen, rejected], dtype=torch.float64))


def pairs(lengths):
    return [PairExample([number], [1] * good, [2] * bad) for number, (good, bad) in enumerate(lengths)]


def test_accuracy_margin_and_loss_by_hand():
    # log-ratios 2 - 0, 1 - 1, 0 - 3; at beta 0.5 the margins are 1, 0 and -1.5
    policy, start = log_probs([2.0, 1.0, 0.0], [0.0, 1.0, 3.0]), log_probs([0.0] * 3, [0.0] * 3)
    of = measures.of_pairs(policy, start, pairs([(1, 2), (2, 1), (1, 1)]), beta=0.5)
    assert of[measures.ACCURACY].value == pytest.approx(0.5)  # won, tied, lost
    assert of[measures.MARGIN].value == pytest.approx((1 + 0 - 1.5) / 3)
    by_hand = [math.log(1 + math.exp(-margin)) for margin in (1, 0, -1.5)]
    assert of[measures.DPO_LOSS].value == pytest.approx(sum(by_hand) / 3)
    assert of[measures.LONGER].value == pytest.approx(0.5)
    assert all(one.interval for name, one in of.items() if name != measures.AT_EQUAL_LENGTHS)


def test_a_model_equal_to_its_start_is_at_chance():
    of = measures.of_pairs(
        log_probs([-3.0] * 4, [-5.0] * 4), log_probs([-3.0] * 4, [-5.0] * 4), pairs([(1, 2)] * 4), beta=0.1
    )
    assert (of[measures.ACCURACY].value, of[measures.MARGIN].value) == (0.5, 0.0)
    assert of[measures.DPO_LOSS].value == pytest.approx(math.log(2))
    assert of[measures.AT_EQUAL_LENGTHS].value is None


def noisy_pairs(rows=400):
    draws = np.random.default_rng(0)
    longer = draws.normal(size=rows)
    margins = 0.8 * longer + draws.normal(size=rows)
    first_is_chosen = draws.random(rows) < expit(1.5 * longer + 0.0 * margins)  # length alone decides
    sign = np.where(first_is_chosen, 1, -1)
    return sign * margins, sign * longer


def test_length_controlled_preference_is_the_penalised_fit_found_without_gradients():
    margins, longer = noisy_pairs()
    x = np.column_stack([margins / np.sqrt((margins**2).mean()), longer / np.sqrt((longer**2).mean())])

    def loss(at):
        return -sum(math.log(1 / (1 + math.exp(-(row @ at)))) for row in x) + at @ at / (2 * 25)

    at = minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}).x
    found = measures.preference_at_equal_lengths(margins, longer, range(len(margins)))
    assert found.value == pytest.approx(expit(at[0]), abs=1e-5)


def test_a_margin_that_only_follows_length_is_near_a_half_where_its_accuracy_is_not():
    margins, longer = noisy_pairs()
    found = measures.preference_at_equal_lengths(margins, longer, range(len(margins)))
    assert (margins > 0).mean() > 0.6
    assert found.interval.low < 0.5 < found.interval.high


def test_pairs_that_all_are_decided_have_no_interval():
    found = measures.preference_at_equal_lengths([1.0, 2.0, 3.0], [1.0, -1.0, 2.0], "abc")
    assert found.interval is None and "prior" in found.method and 0.5 < found.value < 1


def rows_of_tokens(count=3):
    draws = random.Random(0)
    ids = [[draws.randrange(10, 300) for _ in range(5 + number)] for number in range(count)]
    return [DialogueExample(one, [IGNORED, IGNORED, *one[2:]]) for one in ids]


def test_loss_and_kl_are_means_over_all_tokens():
    (student, _), (teacher, _) = example_model(), example_model(seed=1)
    rows = rows_of_tokens()
    losses, divergences = [], []
    for row in rows:
        ids = torch.tensor([row.input_ids])
        with torch.no_grad():
            ours, theirs = (model(ids).logits[0, :-1].double().log_softmax(-1) for model in (student, teacher))
        for place in range(1, len(row.input_ids) - 1):
            losses.append(-ours[place, row.input_ids[place + 1]].item())
            divergences.append(kl_div(ours[place], theirs[place], reduction="sum", log_target=True).item())
    of = measures.of_distillation(student, teacher, rows)
    assert of[measures.LOSS].value == pytest.approx(np.mean(losses), rel=1e-5)
    assert of[measures.KL].value == pytest.approx(np.mean(divergences), rel=1e-4)
    assert of[measures.LOSS].n == len(losses) == 3 + 4 + 5
    assert measures.of_distillation(student, student, rows)[measures.KL].value == pytest.approx(0, abs=1e-9)


def test_a_judge_that_likes_the_first_place_gives_a_half():
    of = measures.win_rate(lambda question, a, b: 1, ["q1", "q2"], ["x", "y"], ["u", "v"])
    assert (of[measures.WIN_RATE].value, of[measures.FIRST_SHOWN].value) == (0.5, 1.0)


def test_win_rate_counts_both_orders():
    of = measures.win_rate(lambda question, a, b: float(len(a) < len(b)), ["q1", "q2"], ["x", "yyy"], ["uu", "v"])
    assert (of[measures.WIN_RATE].value, of[measures.FIRST_SHOWN].value) == (0.5, 0.5)
    with pytest.raises(ValueError, match=r"got 2.*question 'q1'"):
        measures.win_rate(lambda question, a, b: 2, ["q1"], ["x"], ["y"])


def test_held_out_prompts_are_never_trained_on():
    rows = [{"prompt": f"q{n % 10}", "chosen": f"a{n}", "rejected": "b"} for n in range(30)]
    train, held = measures.hold_out(splits.pairs(rows), 0.2, seed=1)
    assert len(held.rows) == 6 and len(train.rows) == 24
    assert not {row.prompt for row in held.rows} & {row.prompt for row in train.rows}
    assert sorted(train.numbers + held.numbers) == list(range(1, 31))
    with pytest.raises(ValueError, match="1 different prompts in 3 rows are too few"):
        measures.hold_out(splits.pairs([{"prompt": "q", "chosen": f"a{n}", "rejected": "b"} for n in range(3)]), 0.2)


def test_the_worlds_judge_prefers_the_ideal_answer():
    turn = catalogue.draw_general(random.Random(0), facts.build()).turns[0]
    judge = judges.of_world([turn])
    assert judge(turn.prompt, turn.ideal, turn.wrong_core) == 1
    assert judge(turn.prompt, turn.wrong_core, turn.ideal) == 0
    assert judge(turn.prompt, turn.ideal, turn.ideal) == 0.5


def test_a_judge_of_ones_own_is_named_by_file_and_function(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "def brief(question, a, b):\n    return float(len(a) < len(b))\n\n\ndef one(question):\n    return 1\n"
    )
    assert judges.load(f"{path}:brief")("q", "a", "bb") == 1
    with pytest.raises(ValueError, match=r"no function 'briefly'; known: brief, one"):
        judges.load(f"{path}:briefly")
    with pytest.raises(ValueError, match=r"must take \(question, answer_a, answer_b\)"):
        judges.load(f"{path}:one")
    with pytest.raises(ValueError, match=r"FILE.py:FUNCTION, got 'brief'"):
        judges.load("brief")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.py"):
        judges.load("nowhere.py:brief")


def test_rated_pairs_are_those_that_the_judge_tells_apart():
    talk = [{"role": "user", "content": "q"}]
    rows = samples.rated_pairs(
        lambda question, a, b: 0.5 if len(a) == len(b) else float(len(a) < len(b)),
        ["p1", talk, "p3", "p4"], ["aa", "a", "cc", "d"], ["b", "bb", "dd", ""],
    )  # fmt: skip
    assert rows[0] == {"prompt": "p1", "chosen": "b", "rejected": "aa"}
    assert rows[1]["chosen"] == [{"role": "assistant", "content": "a"}]
    assert len(rows) == 2


def test_samples_of_equal_seeds_are_equal_and_greedy_ones_need_none():
    model, tokenizer = example_model()
    ask = {"max_new_tokens": 6, "temperature": 1.0}
    one = samples.answers(model, tokenizer, ["2 + 2?", "A fruit"], seed=3, **ask)
    assert one == samples.answers(model, tokenizer, ["2 + 2?", "A fruit"], seed=3, **ask)
    shown = samples.beside(["2 + 2?", "A fruit"], {"temperature 1": {"start": one, "after": one}}, shown=1)
    assert list(shown["model"]) == ["start", "after"] and set(shown["question"]) == {"2 + 2?"}
