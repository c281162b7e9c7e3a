"""Statements that published facts decide: the overview documents' (S0-*, S1-*, S3-*) and some of the papers' own.

Each claim has one rule that reads named facts and computes right, wrong, imprecise or unsupported. "unsupported" is
computed too: the quantity is nowhere printed. A document that contradicts itself is imprecise where one of its versions
is right, wrong where none is.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from math import ceil, sqrt
from statistics import mean
from typing import Any

from zephyr_lab.reporting import claims
from zephyr_lab.reporting.statements_facts import (
    Decision,
    Facts,
    Number,
    Rule,
    all_must_hold,
    claimed_figure,
    first_that_holds,
    of_two_versions,
    share_that_holds,
    within,
)
from zephyr_lab.reporting.statements_papers import (
    BENCHMARKS,
    TASKS,
    beats_larger_open_models,
    benchmark_among_the_prompts,
    best_academic_scores,
    best_open_7b_chat_model,
    gpu_hours_of_dpo,
    leads_of_table_2,
    no_sampling_and_a_few_hours,
    scope_of_the_work,
)

TUNED = ("epochs", "global_batch", "lr", "schedule", "warmup", "beta", "optimizer")  # what a person sets for DPO


@dataclass(frozen=True)
class Statement:
    """A decided statement: the verdict, one line that gives the figures, and the facts it rests on."""

    id: str
    verdict: str
    why: str
    facts: tuple[str, ...]


def decide(id: str, changed: Mapping[str, Any] | None = None) -> Statement:
    """The verdict on one statement; `changed` overrides facts by their address (to see what the verdict rests on).

    Raises ValueError for a claim that published facts do not decide.
    """
    known = claims.everything()
    if id not in RULES or id not in known:
        raise ValueError(f"published facts do not decide {id!r}; they decide {', '.join(decidable())}")
    facts = Facts(known[id], changed)
    decision = RULES[id](facts)
    return Statement(id, decision.verdict, decision.why, tuple(facts.used))


def decidable() -> list[str]:
    """Ids of the claims that published facts decide, in the order of the ledger."""
    return [id for id, claim in claims.everything().items() if claim.decided_by == claims.PUBLISHED_FACTS]


def decide_all(ids: Iterable[str] | None = None) -> list[Statement]:
    """The verdicts on `ids`, or on every statement that published facts decide."""
    return [decide(id) for id in (decidable() if ids is None else ids)]


# --- document 0, a short summary of Zephyr --------------------------------------------------------------------------


def alignment_accuracy(facts: Facts) -> Decision:
    """87 % alignment accuracy."""
    percent = facts.said("percent")
    printed = {
        name: [facts.cell("zephyr", table, "Zephyr", name)]
        for table, names in {"tab1": ["alpaca_eval"], "tab2": TASKS}.items()
        for name in names
    }
    return claimed_figure(facts.said("metric"), percent, percent, facts.fact("zephyr.metrics"), printed)


def error_rate_reduction(facts: Facts) -> Decision:
    """Error rate 20 % lower than fine-tuning. The nearest published error: answers that lose to the baseline."""
    percent = facts.said("percent")
    lost = 100 - facts.cell("zephyr", "tab3", "dSFT-1", "alpaca_eval")
    after = {
        "drop of losing answers after one epoch": 100 - facts.cell("zephyr", "tab3", "dDPO + dSFT", "alpaca_eval"),
        "drop of losing answers, released model": 100 - facts.cell("zephyr", "tab1", "Zephyr", "alpaca_eval"),
    }
    drops = {name: [100 * (1 - left / lost)] for name, left in after.items()}
    return claimed_figure(facts.said("metric"), percent, percent, facts.fact("zephyr.metrics"), drops)


def accuracy_gain(facts: Facts) -> Decision:
    """Alignment accuracy 15 % better than the baseline, on any chat benchmark."""
    percent = facts.said("percent")
    each = {f"{name} on {metric}": [gain] for name, gains in _gains(facts).items() for metric, gain in gains.items()}
    return claimed_figure(facts.said("metric"), percent, percent, facts.fact("zephyr.metrics"), each)


def accuracy_gain_range(facts: Facts) -> Decision:
    """10 to 18 % better accuracy on alignment benchmarks, so on all of them."""
    low, high = facts.said("percent")
    both = {name: list(gains.values()) for name, gains in _gains(facts).items()}
    return claimed_figure(facts.said("metric"), low, high, facts.fact("zephyr.metrics"), both)


def training_time_saving(facts: Facts) -> Decision:
    """Training time 30 % lower."""
    theirs = facts.fact("zephyr.training_time_of_a_compared_method")
    if theirs is None:
        return Decision("unsupported", "no training time of a compared method is printed, so no saving follows")
    return _saving(facts.summary("zephyr", "beta_log", "run", "train_runtime_s") / 3600, theirs, facts, "hours")


def compute_saving(facts: Facts) -> Decision:
    """Computational cost 25 % lower."""
    theirs = facts.fact("zephyr.compute_of_a_compared_method")
    if theirs is None:
        return Decision("unsupported", "no cost of a compared method is printed, so no saving follows")
    return _saving(gpu_hours_of_dpo(facts), theirs, facts, "GPU hours")


def evaluated_tasks(facts: Facts) -> Decision:
    """Evaluated on sentiment analysis and content moderation."""
    evaluated = facts.fact("zephyr.benchmarks") + facts.axes("zephyr", "fig1")
    parts = {task: task in evaluated for task in facts.said("tasks")}
    return share_that_holds(parts, f"not evaluated: {_lacking(parts)}; evaluated: {', '.join(evaluated)}")


def safety_goals(facts: Facts) -> Decision:
    """Goals that the work pursues, leaves out by its own words, or does not mention."""
    said, goals, left_out = facts.said("goals"), facts.fact("zephyr.goals"), facts.fact("zephyr.out_of_scope")
    why = f"pursued: {', '.join(goals) or 'none'}; out of scope by its own words: {', '.join(left_out) or 'none'}"
    pursued, excluded = all(goal in goals for goal in said), bool(set(said) & set(left_out))
    return first_that_holds({"right": pursued, "wrong": excluded, "unsupported": True}, why)


def possible_goals(facts: Facts) -> Decision:
    """What a document holds possible: right where it is pursued. A narrower scope is no evidence against it."""
    said, goals = facts.said("goals"), facts.fact("zephyr.goals")
    why = f"pursued: {', '.join(goals) or 'none'}; nothing in the paper bears on a potential for {' or '.join(said)}"
    return Decision("right" if all(goal in goals for goal in said) else "unsupported", why)


def parts_of_the_method(facts: Facts) -> Decision:
    """Teacher, distillation engine, student; a corpus of aligned text."""
    known = facts.fact("zephyr.parts")
    parts = {part: part in known for part in facts.said("parts")}
    return share_that_holds(parts, f"not parts of it: {_lacking(parts)}; parts: {', '.join(known)}")


def authors(facts: Facts) -> Decision:
    """Three authors."""
    known = facts.authors("zephyr")
    parts = {name: name in known for name in facts.said("authors")}
    first = ", ".join(known[:2]) + (f" and {len(known) - 2} more" if len(known) > 2 else "")
    return share_that_holds(parts, f"{sum(parts.values())} of {len(parts)} names are authors; authors: {first}")


# --- document 1: scores, data, cost ---------------------------------------------------------------------------------


def mt_bench_of_both(facts: Facts) -> Decision:
    """MT-Bench 7.34 against 6.86."""
    zephyr, llama = (facts.cell("zephyr", "tab1", row, "mt_bench") for row in ("Zephyr", "Llama2-Chat"))
    parts = {"Zephyr": zephyr == facts.said("zephyr"), "Llama2-Chat": llama == facts.said("llama")}
    return all_must_hold(parts, f"Table 1: {zephyr:.2f} and {llama:.2f}")


def difference_is_significant(facts: Facts) -> Decision:
    """The difference is significant and stable. Without a printed error, released judgements and spreads bound it.

    Over questions: standard errors of the difference between Llama2-Chat-70B and each other model with released
    judgements, paired by question. Over runs: spreads of five runs in another paper.
    """
    zephyr, llama = (facts.cell("zephyr", "tab1", row, "mt_bench") for row in ("Zephyr", "Llama2-Chat"))
    gap, threshold, error = zephyr - llama, facts.said("threshold"), facts.fact("zephyr.mt_bench_error")
    if error is not None:
        z = gap / (sqrt(2) * error)
        return Decision("right" if z > threshold else "wrong", f"{gap:.2f} is {z:.1f} standard errors")
    paired = facts.fact("mt_bench.paired_errors_to_llama2_chat").values()
    runs = [sqrt(2) * spread for spread in facts.column("kd_dae", "tab2", "mt_bench_sd").values()]
    (least, most), (unstable, stable) = ((gap / max(errors), gap / min(errors)) for errors in (paired, runs))
    why = (
        f"no error printed; {gap:.2f} is {least:.1f} to {most:.1f} standard errors over questions (released judgements "
        f"of other models) and {unstable:.1f} to {stable:.1f} over runs (spreads of the KD paper)"
    )
    ends = {
        "wrong": most < threshold or stable < threshold,
        "right": least > threshold and unstable > threshold,
        "imprecise": least > threshold or unstable > threshold,
        "unsupported": True,
    }
    return first_that_holds(ends, why)


def alpaca_eval_of_zephyr(facts: Facts) -> Decision:
    """AlpacaEval 90.60 %, in the paper and on the leaderboard."""
    said = facts.said("zephyr")
    printed = facts.cell("zephyr", "tab1", "Zephyr", "alpaca_eval")
    listed = facts.cell("zephyr", "alpaca_eval_v1_repo", "zephyr-7b-beta", "win_rate")
    parts = {"Table 1": printed == said, "leaderboard": round(listed, 2) == said}
    return all_must_hold(parts, f"Table 1 {printed:.2f}, leaderboard {listed:.3f}")


def llama_on_alpaca_eval(facts: Facts) -> Decision:
    """Llama 2 Chat 70B has 85 to 87 %, so Zephyr wins there too."""
    llama, zephyr = (facts.cell("zephyr", "tab1", row, "alpaca_eval") for row in ("Llama2-Chat", "Zephyr"))
    parts = {"its win rate": within(llama, facts.said("llama")), "Zephyr wins": zephyr > llama}
    return share_that_holds(parts, f"Llama2-Chat-70B {llama:.2f}, Zephyr {zephyr:.2f}")


def alpha_beats(facts: Facts) -> Decision:
    """Alpha beat three models: on each benchmark where both have a score."""
    alpha_mt = facts.cell("zephyr", "card_beta_chat", "Zephyr-7b-alpha", "mt_bench")
    alpha_win = facts.cell("zephyr", "alpaca_eval_v1_repo", "zephyr-7b-alpha", "win_rate")
    mt_bench, wins = (facts.column("zephyr", "tab1", name) for name in BENCHMARKS)
    pairs = {
        "GPT-3.5": [(alpha_mt, mt_bench["GPT-3.5-turbo"]), (alpha_win, wins["GPT-3.5-turbo"])],
        "Llama-2-13B-chat": [(alpha_win, facts.fact("alpaca_eval.llama_2_13b_chat"))],
        "Falcon-40B": [(alpha_mt, mt_bench["Falcon-Instruct"]), (alpha_win, wins["Falcon-Instruct"])],
    }
    parts = {name: all(ours > theirs for ours, theirs in pairs[name]) for name in facts.said("beaten")}
    shown = "; ".join(f"{name} {', '.join(f'{o:.2f} vs {t:.2f}' for o, t in pairs[name])}" for name in parts)
    return all_must_hold(parts, f"alpha against {shown}")


def epochs_of_dpo(facts: Facts) -> Decision:
    """Beta 3 epochs of DPO, alpha 1."""
    beta, alpha = (facts.setting("zephyr", f"card_{name}_ddpo", "epochs") for name in ("beta", "alpha"))
    parts = {"beta": beta == facts.said("beta"), "alpha": alpha == facts.said("alpha")}
    return all_must_hold(parts, f"cards: beta {beta:g}, alpha {alpha:g}")


def data_of_alpha(facts: Facts) -> Decision:
    """Alpha's training sets. A set derived from one on the card may or may not be the one that was used."""
    listed, parents, said = facts.fact("alpha.data"), facts.fact("data.derived_from"), facts.said("sets")
    why = f"alpha's card lists {', '.join(listed)}"
    if all(name in listed for name in said):
        return Decision("right", why)
    if all(name in listed or parents.get(name) in listed for name in said):
        return Decision("unsupported", f"{why}, from which the named sets derive; it does not name them")
    return Decision("wrong", why)


def hours_of_training(facts: Facts) -> Decision:
    """2 to 4 hours on 16 GPUs for everything, against the released model's DPO run alone."""
    (low, high), gpus = facts.said("hours"), facts.said("gpus")
    hours = gpu_hours_of_dpo(facts) / gpus
    why = f"the DPO run of the released model alone took {hours:.1f} h on {gpus} GPUs; said: {low}-{high} h for all"
    return first_that_holds({"wrong": hours > high, "right": hours >= low, "imprecise": True}, why)


def gpu_hours(facts: Facts) -> Decision:
    """Its own hours times GPUs."""
    said, gpus = facts.said("gpu_hours"), facts.summary("zephyr", "beta_log", "run", "gpus")
    product = [hours * gpus for hours in facts.said("hours")]
    why = f"{gpus} GPUs for the hours named is {product[0]:g}-{product[1]:g} GPU hours"
    if product == said:
        return Decision("right", why)
    return Decision(
        "wrong", f"contradicts itself, its own hours give another product: {why}, not {said[0]:g}-{said[1]:g}"
    )


def rating_criteria(facts: Facts) -> Decision:
    """The four aspects of UltraFeedback, which the document lists twice."""
    aspects = set(facts.value("zephyr", "ultrafeedback", "aspects"))
    here, elsewhere = set(facts.said("here")), set(facts.said("elsewhere"))
    wrong = ", ".join(sorted((here | elsewhere) - aspects)) or "none"
    return of_two_versions(here == aspects, elsewhere == aspects, f"not a rating field: {wrong}")


def binarisation(facts: Facts) -> Decision:
    """How chosen and rejected were picked, by the code first, then by the paper."""
    chosen, rejected = facts.fact("ultrafeedback.chosen"), facts.fact("ultrafeedback.rejected")
    said = (facts.said("chosen"), facts.said("rejected"))
    why = f"code: {chosen['code']}, {rejected['code']}; paper: {chosen['paper']}, {rejected['paper']}"
    code, paper = (said == (chosen[where], rejected[where]) for where in ("code", "paper"))
    return first_that_holds({"right": code, "imprecise": paper, "wrong": True}, why)


def number_of_pairs(facts: Facts) -> Decision:
    """64K pairs, as training pairs or only together with the test pairs."""
    said = facts.said("pairs")
    releases = [facts.value("zephyr", "ultrafeedback", name) for name in ("first_release", "repaired_release")]
    trained = [release["train_prefs"] for release in releases]
    together = [release["train_prefs"] + release["test_prefs"] for release in releases]
    why = f"training pairs {trained[0]:,} and {trained[1]:,}; with test pairs {together[0]:,} and {together[1]:,}"
    alone, both = (said in [round(count, -3) for count in counts] for counts in (trained, together))
    return first_that_holds({"right": alone, "imprecise": both, "wrong": True}, why)


def no_overfitting(facts: Facts) -> Decision:
    """Smooth and without overfitting, against epoch means of beta's log."""
    epochs = {step: max(1, ceil(epoch)) for step, epoch in facts.column("zephyr", "beta_log", "epoch").items()}
    train, held_out = (
        _epoch_means(facts.column("zephyr", "beta_log", name), epochs) for name in ("train_loss", "eval_loss")
    )
    parts = {
        "training loss does not collapse": train[-1] >= facts.said("collapse") * train[0],
        "evaluation loss does not rise": held_out[-1] <= held_out[0],
    }
    shown = [" / ".join(f"{value:.3f}" for value in means) for means in (train, held_out)]
    return share_that_holds(parts, f"by epoch: training loss {shown[0]}, evaluation loss {shown[1]}")


def release_dates(facts: Facts) -> Decision:
    """Mid-October, and three weeks after early October: two datings of one release."""
    released = date.fromisoformat(facts.fact("zephyr.first_release"))
    middle = [date.fromisoformat(day) for day in facts.said("middle")]
    lag = timedelta(weeks=facts.said("weeks"))
    later = [date.fromisoformat(day) + lag for day in facts.said("early")]
    why = (
        f"released {released}; mid-October is {middle[0]} to {middle[1]}, "
        f"early October plus {lag.days} days {later[0]} to {later[1]}"
    )
    return of_two_versions(middle[0] <= released <= middle[1], later[0] <= released <= later[1], why)


def size_of_ultrachat(facts: Facts) -> Decision:
    """1.4M dialogues cut to about 200K; raw at two digits by card or paper, kept at one digit."""
    raw, kept = facts.fact("ultrachat.raw"), facts.value("zephyr", "ultrachat", "train_sft")
    parts = {
        "raw": facts.said("raw") in [round(count, -5) for count in raw.values()],
        "kept": facts.said("kept") == round(kept, -5),
    }
    shown = ", ".join(f"{count:,} ({where})" for where, count in raw.items())
    return share_that_holds(parts, f"raw {shown}; {kept:,} training dialogues kept")


def shape_of_mistral(facts: Facts) -> Decision:
    """Window, layers, heads, and the span that they imply."""
    shape = {name: facts.fact(f"mistral_7b.{name}") for name in ("window", "layers", "heads")}
    window, layers, heads = shape.values()
    parts = {name: value == facts.said(name) for name, value in shape.items()}
    parts["span"] = round(layers * window, -3) == facts.said("span")
    why = f"window {window}, {layers} layers, {heads} heads; {layers} x {window} = {layers * window:,} tokens"
    return all_must_hold(parts, why)


def dpo_from_the_base(facts: Facts) -> Decision:
    """DPO directly on the base model, which would have to do as well there; elsewhere the document has two stages."""
    base, after = (
        [facts.cell("zephyr", "tab3", row, metric) for metric in BENCHMARKS] for row in ("dDPO - dSFT", "dDPO + dSFT")
    )
    why = (
        f"without dSFT {base[0]:.2f} / {base[1]:.2f}, after it {after[0]:.2f} / {after[1]:.2f} (MT-Bench / AlpacaEval)"
    )
    pairs = list(zip(base, after, strict=True))
    return of_two_versions(all(b >= a for b, a in pairs), all(b < a for b, a in pairs), why)


# --- document 1: methods, code, makers ------------------------------------------------------------------------------


def licences(facts: Facts) -> Decision:
    """Both MIT."""
    mistral, zephyr = facts.fact("licence.mistral_7b"), facts.fact("licence.zephyr_7b")
    parts = {"Mistral-7B": mistral == facts.said("mistral_7b"), "Zephyr": zephyr == facts.said("zephyr_7b")}
    return all_must_hold(parts, f"Mistral-7B {mistral}, Zephyr {zephyr}")


def makers(facts: Facts) -> Decision:
    """Who made vLLM and TGI."""
    vllm, tgi = facts.fact("makers.vllm"), facts.fact("makers.tgi")
    parts = {"vLLM": set(facts.said("vllm")) <= set(vllm), "TGI": set(facts.said("tgi")) <= set(tgi)}
    return all_must_hold(parts, f"vLLM was made by {', '.join(vllm)}; TGI by {', '.join(tgi)}")


def dpo_objective(facts: Facts) -> Decision:
    """The document prints two objectives."""
    terms = set(facts.fact("dpo.loss_terms"))
    here, elsewhere = set(facts.said("here")), set(facts.said("elsewhere"))
    missing = ", ".join(sorted(terms - here)) or "nothing"
    return of_two_versions(here == terms, elsewhere == terms, f"this version lacks {missing}")


def strong_skills(facts: Facts) -> Decision:
    """Strong in translation, summarisation, several languages; nothing shows it where nothing was evaluated."""
    evaluated = facts.fact("zephyr.benchmarks") + facts.axes("zephyr", "fig1")
    languages = facts.fact("zephyr.languages")
    shown = {skill: skill in evaluated for skill in facts.said("skills")}
    if "multilingual use" in shown:
        shown["multilingual use"] = len(languages) > 1
    if not any(shown.values()):
        why = f"none of them is a benchmark or category of the paper; languages on the cards: {', '.join(languages)}"
        return Decision("unsupported", why)
    return share_that_holds(shown, f"evaluated: {', '.join(skill for skill, found in shown.items() if found)}")


def top_of_the_leaderboard(facts: Facts) -> Decision:
    """First of its size: among the models of Table 2, or on the leaderboard itself."""
    leads, models = leads_of_table_2(facts)
    claimed = facts.fact("zephyr.card_claims_top_of")
    why = (
        f"first of {models} models of its size on {sum(leads.values())} of {len(leads)} tasks of Table 2; "
        f"the card claims {', '.join(claimed) or 'nothing'}"
    )
    if not all(leads.values()):
        return Decision("wrong", why)
    return Decision("right" if facts.said("leaderboard") in claimed else "imprecise", why)


def orpo_after_dpo(facts: Facts) -> Decision:
    """A phase after DPO would be a later stage that starts from an aligned reference; elsewhere it is one stage."""
    stages, reference = facts.fact("orpo.stages"), bool(facts.fact("orpo.reference_model"))
    here = stages > facts.said("stages_before") and reference
    elsewhere = stages == facts.said("stages_elsewhere") and not reference
    why = f"ORPO has {stages} stage(s), {'a' if reference else 'no'} reference model"
    return of_two_versions(here, elsewhere, why)


def perfect_reproducibility(facts: Facts) -> Decision:
    """The first public code against the paper's recipe, and what the code's own README reports."""
    names = facts.said("settings")
    paper, code = (facts.settings("zephyr", recipe, names) for recipe in ("paper_ddpo", "handbook_2023_dpo_full"))
    differing = {name: (paper[name], code[name]) for name in names if paper[name] != code[name]}
    problems = facts.fact("handbook.reported_problems")
    parts = {"same settings": not differing, "no reported problem": not problems}
    shown = ", ".join(f"{name} {theirs} / {run}" for name, (theirs, run) in differing.items()) or "none"
    return share_that_holds(
        parts, f"settings that differ, paper / code: {shown}; reported: {', '.join(problems) or 'none'}"
    )


def origin_of_dpo(facts: Facts) -> Decision:
    """Where DPO comes from."""
    said, used = facts.said("origin"), facts.fact("dpo.derived_from")
    near = facts.fact("dpo.neighbouring_fields")
    why = f"derived from {', '.join(used)}; neighbouring fields: {', '.join(near)}"
    return first_that_holds({"right": said in used, "imprecise": said in near, "wrong": True}, why)


def filters_of_ultrachat(facts: Facts) -> Decision:
    """What filtering removed."""
    kinds = facts.fact("ultrachat.filter_kinds")
    parts = {kind: kind in kinds for kind in facts.said("removed")}
    return share_that_holds(parts, f"filters: {', '.join(kinds)}; not among them: {_lacking(parts)}")


# --- document 1: DPO against RLHF; what no source prints cannot be decided ------------------------------------------


def gpu_hours_of_both(facts: Facts) -> Decision:
    """50 to 100 GPU hours against 200 to 500 and more."""
    dpo, rlhf = gpu_hours_of_dpo(facts), facts.fact("rlhf.gpu_hours")
    if rlhf is None:
        return Decision("unsupported", f"no GPU hours of an RLHF run are printed; DPO of beta took {dpo:.0f}")
    parts = {"DPO": within(dpo, facts.said("dpo")), "RLHF": rlhf >= facts.said("rlhf")[0]}
    return share_that_holds(parts, f"DPO {dpo:.0f}, RLHF {rlhf:.0f} GPU hours")


def hyperparameters_of_both(facts: Facts) -> Decision:
    """15 to 20 settings to tune against 5 to 8."""
    dpo = sum(value is not None for value in facts.settings("zephyr", "paper_ddpo", TUNED).values())
    rlhf = facts.fact("rlhf.hyperparameters")
    if rlhf is None:
        return Decision("unsupported", f"no count for RLHF is printed; the paper's DPO recipe sets {dpo}")
    parts = {"DPO": within(dpo, facts.said("dpo")), "RLHF": within(rlhf, facts.said("rlhf"))}
    return share_that_holds(parts, f"DPO {dpo}, RLHF {rlhf} settings")


def memory_of_both(facts: Facts) -> Decision:
    """RLHF needs more memory."""
    return _compared(facts, "peak_memory_gb", "peak memory in GB", lambda dpo, rlhf: dpo < rlhf)


def stability_of_both(facts: Facts) -> Decision:
    """RLHF diverges, DPO does not."""
    return _compared(facts, "diverged_runs", "share of diverged runs", lambda dpo, rlhf: dpo < rlhf)


def quality_of_both(facts: Facts) -> Decision:
    """DPO does as well as RLHF or better, on the same data."""
    return _compared(facts, "score_on_matched_data", "score on matched data", lambda dpo, rlhf: dpo >= rlhf)


def cheaper_than_llama(facts: Facts) -> Decision:
    """At least five times cheaper than the alignment of Llama-2-Chat."""
    zephyr, llama = gpu_hours_of_dpo(facts), facts.fact("llama2_chat.alignment_gpu_hours")
    if llama is None:
        why = f"no GPU hours of Llama-2-Chat's alignment are cited; Zephyr's DPO took {zephyr:.0f}"
        return Decision("unsupported", why)
    why = f"{llama:.0f} against {zephyr:.0f} GPU hours: {llama / zephyr:.1f} times"
    return Decision("right" if llama / zephyr >= facts.said("times") else "wrong", why)


# --- document 3, a note on the EDA paper ----------------------------------------------------------------------------


def aligned_with_values(facts: Facts) -> Decision:
    """Aligns models with human values."""
    aligned, changes = facts.fact("eda.aligned_to"), facts.fact("eda.output_of_the_target_changes")
    why = f"a draft is aligned to a {aligned}; the target's output {'changes' if changes else 'does not change'}"
    as_said = aligned == facts.said("aligned_to")
    return first_that_holds({"right": as_said, "unsupported": changes, "wrong": True}, why)


def measured_by(facts: Facts) -> Decision:
    """The benchmarks show better alignment accuracy."""
    metrics = facts.fact("eda.metrics")
    reported = facts.said("metric") in metrics
    return Decision("right" if reported else "wrong", f"the benchmarks measure {', '.join(metrics)}")


def uses_lora(facts: Facts) -> Decision:
    """Uses techniques like LoRA: as its own, or as a baseline."""
    said, own = facts.said("technique"), facts.fact("eda.own_technique")
    rows = list(facts.column("eda", "math_t0", "avg_tau"))
    why = f"own: {', '.join(own)}; rows of its tables: {', '.join(rows)}"
    return first_that_holds({"right": said in own, "imprecise": said in rows, "wrong": True}, why)


def small_drafts(facts: Facts) -> Decision:
    """Small models propose tokens, the main model verifies."""
    draft = facts.value("eda", "draft", "parameters")["two_full_experts_without_embedding"]
    target, verifier = facts.fact("eda.target_parameters"), facts.fact("eda.draft_tokens_verified_by")
    parts = {"smaller": draft < target, "verified": verifier == facts.said("verified_by")}
    size = f"{draft / 1e6:.0f}M against {target / 1e9:.0f}B parameters"
    return share_that_holds(parts, f"draft {size}, here a head on the target's features; verified by {verifier}")


def cheaper_at_equal_performance(facts: Facts) -> Decision:
    """Less compute and data at equal performance."""
    hours, size = facts.column("eda", "cost", "hours"), facts.column("eda", "cost", "trained_size")
    taus = [facts.column("eda", table, "avg_tau") for table in ("math_t0", "code_t0")]
    saves_data = facts.fact("eda.saves_data")
    parts = {
        "compute": hours["EDA"] < hours["Full-FT"] and size["EDA"] < size["Full-FT"],
        "data": bool(saves_data),
        "performance": all(tau["EDA (Ours)"] >= tau["Full-FT"] for tau in taus),
    }
    lengths = ", ".join(f"{tau['EDA (Ours)']:.2f} vs {tau['Full-FT']:.2f}" for tau in taus)
    why = (
        f"{hours['EDA']:.1f} against {hours['Full-FT']:.1f} h, {size['EDA']} against {size['Full-FT']} million trained "
        f"(quoted); acceptance length {lengths}; data: {'asserted, no share read' if saves_data else 'not asserted'}"
    )
    return share_that_holds(parts, why)


def safer_assistants(facts: Facts) -> Decision:
    """Users get safer assistants; impossible where the output is the same."""
    changes = facts.fact("eda.output_of_the_target_changes")
    why = f"the target verifies every token: its output {'changes' if changes else 'does not change'}"
    return Decision("unsupported" if changes else "wrong", why)


# --- what several rules compute -------------------------------------------------------------------------------------


def _lacking(parts: Mapping[str, bool]) -> str:
    return ", ".join(name for name, holds in parts.items() if not holds) or "none"


def _compared(facts: Facts, quantity: str, words: str, holds: Callable[[Number, Number], bool]) -> Decision:
    """Whether what is printed of DPO and of RLHF compares as `holds` says."""
    values = {"DPO": facts.fact(f"dpo.{quantity}"), "RLHF": facts.fact(f"rlhf.{quantity}")}
    unprinted = [method for method, value in values.items() if value is None]
    if unprinted:
        return Decision("unsupported", f"no {words} is printed for {' and '.join(unprinted)}")
    shown = ", ".join(f"{method} {value:g}" for method, value in values.items())
    return Decision("right" if holds(values["DPO"], values["RLHF"]) else "wrong", f"{words}: {shown}")


def _gains(facts: Facts) -> dict[str, dict[str, Number]]:
    """Relative gains over dSFT-1 in percent on both chat benchmarks: after one epoch of DPO, and as released."""
    start = {metric: facts.cell("zephyr", "tab3", "dSFT-1", metric) for metric in BENCHMARKS}
    ends = {"gain after one epoch": ("tab3", "dDPO + dSFT"), "gain of the released model": ("tab1", "Zephyr")}
    return {
        name: {metric: 100 * (facts.cell("zephyr", table, row, metric) / old - 1) for metric, old in start.items()}
        for name, (table, row) in ends.items()
    }


def _saving(ours: Number, theirs: Number, facts: Facts, unit: str) -> Decision:
    saved = 100 * (1 - ours / theirs)
    why = f"{ours:.1f} against {theirs:.1f} {unit}: {saved:.0f} % less"
    return Decision("right" if abs(saved - facts.said("percent")) <= 0.5 else "wrong", why)


def _epoch_means(values: dict[str, Number], epochs: dict[str, int]) -> list[float]:
    """Mean of a log's column in each epoch, in order."""
    return [
        mean(value for step, value in values.items() if epochs[step] == one) for one in sorted(set(epochs.values()))
    ]


RULES: dict[str, Rule] = {
    "Z6": best_open_7b_chat_model, "Z7": best_academic_scores, "Z8": no_sampling_and_a_few_hours,
    "Z12": scope_of_the_work, "Z17": benchmark_among_the_prompts, "K11": beats_larger_open_models,
    "S0-1": alignment_accuracy, "S0-2": error_rate_reduction, "S0-3": accuracy_gain, "S0-4": training_time_saving,
    "S0-5": compute_saving, "S0-6": accuracy_gain_range, "S0-7": evaluated_tasks, "S0-8": possible_goals,
    "S0-9": parts_of_the_method, "S0-10": authors,
    "S1-1": mt_bench_of_both, "S1-2": difference_is_significant, "S1-3": alpaca_eval_of_zephyr,
    "S1-4": llama_on_alpaca_eval, "S1-5": alpha_beats, "S1-6": epochs_of_dpo, "S1-7": data_of_alpha,
    "S1-8": hours_of_training, "S1-9": gpu_hours, "S1-10": rating_criteria, "S1-11": binarisation,
    "S1-12": number_of_pairs, "S1-13": no_overfitting, "S1-14": licences, "S1-15": makers, "S1-16": release_dates,
    "S1-17": dpo_objective, "S1-18": safety_goals, "S1-19": strong_skills, "S1-20": top_of_the_leaderboard,
    "S1-21": orpo_after_dpo, "S1-22": perfect_reproducibility, "S1-23": origin_of_dpo, "S1-24": gpu_hours_of_both,
    "S1-25": size_of_ultrachat, "S1-26": filters_of_ultrachat, "S1-27": shape_of_mistral,
    "S1-28": hyperparameters_of_both, "S1-29": memory_of_both, "S1-30": stability_of_both, "S1-31": quality_of_both,
    "S1-32": cheaper_than_llama, "S1-33": dpo_from_the_base,
    "S3-1": aligned_with_values, "S3-2": measured_by, "S3-3": uses_lora, "S3-4": small_drafts,
    "S3-5": cheaper_at_equal_performance, "S3-6": safer_assistants,
}  # fmt: skip
