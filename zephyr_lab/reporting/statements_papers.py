"""Claims of the papers themselves that their own tables, logs and words decide: Z6, Z7, Z8, Z12, Z17 and K11.

As in `statements`, each rule reads named facts and computes a verdict; some of them decide a document's statement too.
"""

from zephyr_lab.reporting.statements_facts import Decision, Facts, Number, all_must_hold, share_that_holds

BENCHMARKS = ("mt_bench", "alpaca_eval")
TASKS = ("arc", "hellaswag", "mmlu", "truthfulqa")  # of Table 2


def best_open_7b_chat_model(facts: Facts) -> Decision:
    """First of the 7B models of Table 1 on both chat benchmarks, and above Llama2-Chat-70B on MT-Bench."""
    sizes, mt_bench, alpaca = (facts.column("zephyr", "tab1", name) for name in ("size", *BENCHMARKS))
    parts = {
        "first of 7B on MT-Bench": mt_bench["Zephyr"] > _best_other("Zephyr", mt_bench, sizes),
        "first of 7B on AlpacaEval": alpaca["Zephyr"] > _best_other("Zephyr", alpaca, sizes),
        "above Llama2-Chat-70B on MT-Bench": mt_bench["Zephyr"] > mt_bench["Llama2-Chat"],
    }
    why = (
        f"MT-Bench {mt_bench['Zephyr']:.2f} against {mt_bench['Llama2-Chat']:.2f} of Llama2-Chat-70B and at most "
        f"{_best_other('Zephyr', mt_bench, sizes):.2f} of the other 7B models printed; AlpacaEval "
        f"{alpaca['Zephyr']:.2f} against {alpaca['Llama2-Chat']:.2f}"
    )
    return share_that_holds(parts, why)


def beats_larger_open_models(facts: Facts) -> Decision:
    """Above each open model of more than 13B in Table 1, on every benchmark that has both."""
    flip, larger = "Flip-2x7B-Instruct-beta", facts.fact("kd_dae.open_models_above_13b")
    columns = [facts.column("kd_dae", "tab1", name) for name in BENCHMARKS]
    parts = {name: all(of[flip] > of[name] for of in columns if name in of) for name in larger}
    shown = "; ".join(
        f"{name} {' / '.join(f'{of[name]:.2f}' for of in columns)}" for name, won in parts.items() if not won
    )
    why = (
        f"{' / '.join(f'{of[flip]:.2f}' for of in columns)} (MT-Bench / AlpacaEval), above {sum(parts.values())} of "
        f"{len(parts)} open models of more than 13B; not above: {shown or 'none'}"
    )
    return share_that_holds(parts, why)


def best_academic_scores(facts: Facts) -> Decision:
    """First of the models of its size on each task of Table 2."""
    leads, models = leads_of_table_2(facts)
    return share_that_holds(
        leads, f"first of {models} models of its size on {sum(leads.values())} of {len(leads)} tasks"
    )


def no_sampling_and_a_few_hours(facts: Facts) -> Decision:
    """DPO samples nothing, people label nothing, and a run takes hours that the released model's own log confirms."""
    (low, high), gpus = facts.said("hours"), facts.said("gpus")
    hours, by_people = gpu_hours_of_dpo(facts) / gpus, facts.fact("ultrafeedback.labelled_by_people")
    parts = {
        "no sampling": not facts.fact("dpo.samples_from_the_policy"),
        "no human labels": not by_people,
        f"a few hours on {gpus} GPUs": hours <= high,
    }
    return all_must_hold(parts, f"the DPO run of the released model took {hours:.1f} h, said: {low}-{high} h")


def scope_of_the_work(facts: Facts) -> Decision:
    """Helpfulness alone, and safety put out of scope."""
    goals, left_out = facts.fact("zephyr.goals"), facts.fact("zephyr.out_of_scope")
    parts = {"goals": goals == facts.said("goals"), "left out": facts.said("left_out") in left_out}
    why = f"pursued: {', '.join(goals) or 'none'}; out of scope by its own words: {', '.join(left_out) or 'none'}"
    return share_that_holds(parts, why)


def benchmark_among_the_prompts(facts: Facts) -> Decision:
    """A benchmark of the paper among the sets that UltraFeedback's prompts were drawn from."""
    sources = facts.fact("ultrafeedback.sources")
    benchmarks = [name.lower() for name in facts.fact("zephyr.benchmarks")]
    tested = [name for name in sources if name.replace("_", "") in benchmarks]
    why = f"prompts are from {', '.join(sources)}; evaluated as well: {', '.join(tested) or 'none'}"
    return share_that_holds({"a benchmark": bool(tested)}, why)


def leads_of_table_2(facts: Facts) -> tuple[dict[str, bool], int]:
    """On which tasks of Table 2 Zephyr is the first of its size, and of how many models."""
    sizes = facts.column("zephyr", "tab2", "size")
    peers = [name for name, size in sizes.items() if size == sizes["Zephyr"] and name != "Zephyr"]
    scores = {task: facts.column("zephyr", "tab2", task) for task in TASKS}
    return {task: of["Zephyr"] > max(of[peer] for peer in peers) for task, of in scores.items()}, len(peers) + 1


def gpu_hours_of_dpo(facts: Facts) -> float:
    """Of the released model's DPO run."""
    seconds, gpus = (facts.summary("zephyr", "beta_log", "run", name) for name in ("train_runtime_s", "gpus"))
    return seconds * gpus / 3600


def _best_other(model: str, scores: dict[str, Number], sizes: dict[str, str]) -> Number:
    """The highest score of another model of the same size."""
    return max(score for name, score in scores.items() if name != model and sizes.get(name) == sizes.get(model))
