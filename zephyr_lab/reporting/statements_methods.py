"""Overview document 1, its statements about methods, code, makers and RLHF (S1-14 to S1-32). One rule a claim."""

from typing import Any

from zephyr_lab.reporting.statements_facts import (
    Decision,
    Facts,
    Number,
    Rule,
    all_must_hold,
    of_two_versions,
    share_that_holds,
    unprinted,
    within,
)
from zephyr_lab.reporting.statements_short import safety_goals

TUNED = ("epochs", "global_batch", "lr", "schedule", "warmup", "beta", "optimizer")  # what a person sets for DPO


def licences(facts: Facts) -> Decision:
    """S1-14: both MIT."""
    mistral, zephyr = facts.fact("licence.mistral_7b"), facts.fact("licence.zephyr_7b")
    parts = {"Mistral-7B": mistral == facts.said("mistral_7b"), "Zephyr": zephyr == facts.said("zephyr_7b")}
    return all_must_hold(parts, f"Mistral-7B {mistral}, Zephyr {zephyr}")


def makers(facts: Facts) -> Decision:
    """S1-15: who made vLLM and TGI."""
    vllm, tgi = facts.fact("makers.vllm"), facts.fact("makers.tgi")
    parts = {"vLLM": set(facts.said("vllm")) <= set(vllm), "TGI": set(facts.said("tgi")) <= set(tgi)}
    return all_must_hold(parts, f"vLLM was made by {', '.join(vllm)}; TGI by {', '.join(tgi)}")


def dpo_objective(facts: Facts) -> Decision:
    """S1-17: the document prints two objectives."""
    terms = set(facts.fact("dpo.loss_terms"))
    here, elsewhere = set(facts.said("here")), set(facts.said("elsewhere"))
    missing = ", ".join(sorted(terms - here)) or "nothing"
    return of_two_versions(here == terms, elsewhere == terms, f"this version lacks {missing}")


def strong_skills(facts: Facts) -> Decision:
    """S1-19: strong in translation, summarisation, several languages; nothing shows it where nothing was evaluated."""
    evaluated = facts.fact("zephyr.benchmarks") + facts.axes("zephyr", "fig1")
    languages = facts.fact("zephyr.languages")
    shown = {skill: skill in evaluated for skill in facts.said("skills")}
    if "multilingual use" in shown:
        shown["multilingual use"] = len(languages) > 1
    why = f"none of them is a benchmark or category of the paper; languages on the cards: {', '.join(languages)}"
    if not any(shown.values()):
        return Decision("unsupported", why)
    return share_that_holds(shown, f"evaluated: {', '.join(skill for skill, found in shown.items() if found)}")


def top_of_the_leaderboard(facts: Facts) -> Decision:
    """S1-20: first of its size: among the models of Table 2, or on the leaderboard itself."""
    sizes = facts.column("zephyr", "tab2", "size")
    peers = [name for name, size in sizes.items() if size == sizes["Zephyr"] and name != "Zephyr"]
    leads = {}
    for metric in ("arc", "hellaswag", "mmlu", "truthfulqa"):
        scores = facts.column("zephyr", "tab2", metric)
        leads[metric] = scores["Zephyr"] > max(scores[peer] for peer in peers)
    claimed = facts.fact("zephyr.card_claims_top_of")
    why = (
        f"first of {len(peers) + 1} models of its size on {sum(leads.values())} of {len(leads)} tasks of Table 2; "
        f"the card claims {', '.join(claimed) or 'nothing'}"
    )
    if not all(leads.values()):
        return Decision("wrong", why)
    return Decision("right" if facts.said("leaderboard") in claimed else "imprecise", why)


def orpo_after_dpo(facts: Facts) -> Decision:
    """S1-21: a phase after DPO would be a later stage that starts from an aligned reference."""
    stages, reference = facts.fact("orpo.stages"), facts.fact("orpo.reference_model")
    parts = {"a later stage": stages > facts.said("stages_before"), "uses a reference model": bool(reference)}
    return share_that_holds(parts, f"ORPO has {stages} stage(s), {'a' if reference else 'no'} reference model")


def perfect_reproducibility(facts: Facts) -> Decision:
    """S1-22: the first public code against the paper's recipe, and what the code's own README reports."""
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
    """S1-23: where DPO comes from."""
    said, used = facts.said("origin"), facts.fact("dpo.derived_from")
    near = facts.fact("dpo.neighbouring_fields")
    why = f"derived from {', '.join(used)}; neighbouring fields: {', '.join(near)}"
    if said in used:
        return Decision("right", why)
    return Decision("imprecise" if said in near else "wrong", why)


def filters_of_ultrachat(facts: Facts) -> Decision:
    """S1-26: what filtering removed."""
    kinds = facts.fact("ultrachat.filter_kinds")
    parts = {kind: kind in kinds for kind in facts.said("removed")}
    named = [kind for kind, found in parts.items() if not found]
    return share_that_holds(parts, f"filters: {', '.join(kinds)}; not among them: {', '.join(named) or 'none'}")


# --- DPO against RLHF: what no source prints cannot be decided ------------------------------------------------------


def gpu_hours_of_both(facts: Facts) -> Decision:
    """S1-24: 50 to 100 GPU hours against 200 to 500 and more."""
    seconds, gpus = (facts.summary("zephyr", "beta_log", "run", name) for name in ("train_runtime_s", "gpus"))
    dpo, rlhf = seconds * gpus / 3600, facts.fact("rlhf.gpu_hours")
    if rlhf is None:
        return Decision("unsupported", f"no GPU hours of an RLHF run are printed; DPO of beta took {dpo:.0f}")
    parts = {"DPO": within(dpo, facts.said("dpo")), "RLHF": rlhf >= facts.said("rlhf")[0]}
    return share_that_holds(parts, f"DPO {dpo:.0f}, RLHF {rlhf:.0f} GPU hours")


def hyperparameters_of_both(facts: Facts) -> Decision:
    """S1-28: 15 to 20 settings to tune against 5 to 8."""
    dpo = sum(value is not None for value in facts.settings("zephyr", "paper_ddpo", TUNED).values())
    rlhf = facts.fact("rlhf.hyperparameters")
    if rlhf is None:
        return Decision("unsupported", f"no count for RLHF is printed; the paper's DPO recipe sets {dpo}")
    parts = {"DPO": within(dpo, facts.said("dpo")), "RLHF": within(rlhf, facts.said("rlhf"))}
    return share_that_holds(parts, f"DPO {dpo}, RLHF {rlhf} settings")


def memory_of_both(facts: Facts) -> Decision:
    """S1-29: RLHF needs more memory."""
    return _lower_for_dpo(facts, "peak_memory_gb", "peak memory in GB")


def stability_of_both(facts: Facts) -> Decision:
    """S1-30: RLHF diverges, DPO does not."""
    return _lower_for_dpo(facts, "diverged_runs", "share of diverged runs")


def quality_of_both(facts: Facts) -> Decision:
    """S1-31: DPO does as well as RLHF or better, on the same data."""
    found = _of_both(facts, "score_on_matched_data")
    missing = unprinted(found)
    if missing:
        return Decision("unsupported", f"no score on matched data is printed for {' and '.join(missing)}")
    return Decision("right" if found["DPO"] >= found["RLHF"] else "wrong", f"scores on matched data: {_shown(found)}")


def cheaper_than_llama(facts: Facts) -> Decision:
    """S1-32: at least five times cheaper than the alignment of Llama-2-Chat."""
    seconds, gpus = (facts.summary("zephyr", "beta_log", "run", name) for name in ("train_runtime_s", "gpus"))
    zephyr, llama = seconds * gpus / 3600, facts.fact("llama2_chat.alignment_gpu_hours")
    if llama is None:
        return Decision(
            "unsupported", f"no GPU hours of Llama-2-Chat's alignment are cited; Zephyr's DPO took {zephyr:.0f}"
        )
    why = f"{llama:.0f} against {zephyr:.0f} GPU hours: {llama / zephyr:.1f} times"
    return Decision("right" if llama / zephyr >= facts.said("times") else "wrong", why)


def _lower_for_dpo(facts: Facts, quantity: str, words: str) -> Decision:
    found = _of_both(facts, quantity)
    missing = unprinted(found)
    if missing:
        return Decision("unsupported", f"no {words} is printed for {' and '.join(missing)}")
    return Decision("right" if found["DPO"] < found["RLHF"] else "wrong", f"{words}: {_shown(found)}")


def _of_both(facts: Facts, quantity: str) -> dict[str, Any]:
    return {"DPO": facts.fact(f"dpo.{quantity}"), "RLHF": facts.fact(f"rlhf.{quantity}")}


def _shown(found: dict[str, Number]) -> str:
    return ", ".join(f"{method} {value:g}" for method, value in found.items())


RULES: dict[str, Rule] = {
    "S1-14": licences,
    "S1-15": makers,
    "S1-17": dpo_objective,
    "S1-18": safety_goals,
    "S1-19": strong_skills,
    "S1-20": top_of_the_leaderboard,
    "S1-21": orpo_after_dpo,
    "S1-22": perfect_reproducibility,
    "S1-23": origin_of_dpo,
    "S1-24": gpu_hours_of_both,
    "S1-26": filters_of_ultrachat,
    "S1-28": hyperparameters_of_both,
    "S1-29": memory_of_both,
    "S1-30": stability_of_both,
    "S1-31": quality_of_both,
    "S1-32": cheaper_than_llama,
}
