"""Overview document 0, a short summary of Zephyr: ten statements (S0-*), and Zephyr's own Z6. One rule a claim."""

from zephyr_lab.reporting.statements_facts import (
    Decision,
    Facts,
    Number,
    Rule,
    claimed_figure,
    share_that_holds,
)


def best_open_7b_chat_model(facts: Facts) -> Decision:
    """Z6: first of the 7B models of Table 1 on both chat benchmarks, and above Llama2-Chat-70B on MT-Bench."""
    sizes = facts.column("zephyr", "tab1", "size")
    mt_bench = facts.column("zephyr", "tab1", "mt_bench")
    alpaca = facts.column("zephyr", "tab1", "alpaca_eval")
    parts = {
        "first of 7B on MT-Bench": _leads("Zephyr", mt_bench, sizes),
        "first of 7B on AlpacaEval": _leads("Zephyr", alpaca, sizes),
        "above Llama2-Chat-70B on MT-Bench": mt_bench["Zephyr"] > mt_bench["Llama2-Chat"],
    }
    why = (
        f"MT-Bench {mt_bench['Zephyr']:.2f} against {mt_bench['Llama2-Chat']:.2f} of Llama2-Chat-70B and at most "
        f"{_best_other('Zephyr', mt_bench, sizes):.2f} of the other 7B models printed; AlpacaEval "
        f"{alpaca['Zephyr']:.2f} against {alpaca['Llama2-Chat']:.2f}"
    )
    return share_that_holds(parts, why)


def alignment_accuracy(facts: Facts) -> Decision:
    """S0-1: 87 % alignment accuracy."""
    percent = facts.said("percent")
    printed = {
        name: [facts.cell("zephyr", table, "Zephyr", name)]
        for table, names in {"tab1": ["alpaca_eval"], "tab2": ["arc", "hellaswag", "mmlu", "truthfulqa"]}.items()
        for name in names
    }
    return claimed_figure(facts.said("metric"), percent, percent, facts.fact("zephyr.metrics"), printed)


def error_rate_reduction(facts: Facts) -> Decision:
    """S0-2: error rate 20 % lower than fine-tuning. The nearest published error: answers that lose to the baseline."""
    percent = facts.said("percent")
    lost = 100 - facts.cell("zephyr", "tab3", "dSFT-1", "alpaca_eval")
    after = {
        "drop of losing answers after one epoch": 100 - facts.cell("zephyr", "tab3", "dDPO + dSFT", "alpaca_eval"),
        "drop of losing answers, released model": 100 - facts.cell("zephyr", "tab1", "Zephyr", "alpaca_eval"),
    }
    drops = {name: [100 * (1 - left / lost)] for name, left in after.items()}
    return claimed_figure(facts.said("metric"), percent, percent, facts.fact("zephyr.metrics"), drops)


def accuracy_gain(facts: Facts) -> Decision:
    """S0-3: alignment accuracy 15 % better than the baseline, on any chat benchmark."""
    percent = facts.said("percent")
    each = {f"{name} on {metric}": [gain] for name, gains in _gains(facts).items() for metric, gain in gains.items()}
    return claimed_figure(facts.said("metric"), percent, percent, facts.fact("zephyr.metrics"), each)


def accuracy_gain_range(facts: Facts) -> Decision:
    """S0-6: 10 to 18 % better accuracy on alignment benchmarks, so on all of them."""
    low, high = facts.said("percent")
    both = {name: list(gains.values()) for name, gains in _gains(facts).items()}
    return claimed_figure(facts.said("metric"), low, high, facts.fact("zephyr.metrics"), both)


def training_time_saving(facts: Facts) -> Decision:
    """S0-4: training time 30 % lower."""
    theirs = facts.fact("zephyr.training_time_of_a_compared_method")
    if theirs is None:
        return Decision("unsupported", "no training time of a compared method is printed, so no saving follows")
    hours = facts.summary("zephyr", "beta_log", "run", "train_runtime_s") / 3600
    return _saving(hours, theirs, facts.said("percent"), "hours")


def compute_saving(facts: Facts) -> Decision:
    """S0-5: computational cost 25 % lower."""
    theirs = facts.fact("zephyr.compute_of_a_compared_method")
    if theirs is None:
        return Decision("unsupported", "no cost of a compared method is printed, so no saving follows")
    run = [facts.summary("zephyr", "beta_log", "run", name) for name in ("train_runtime_s", "gpus")]
    return _saving(run[0] * run[1] / 3600, theirs, facts.said("percent"), "GPU hours")


def evaluated_tasks(facts: Facts) -> Decision:
    """S0-7: evaluated on sentiment analysis and content moderation."""
    evaluated = facts.fact("zephyr.benchmarks") + facts.axes("zephyr", "fig1")
    parts = {task: task in evaluated for task in facts.said("tasks")}
    missing = [task for task, found in parts.items() if not found]
    why = f"not evaluated: {', '.join(missing) or 'none'}; evaluated: {', '.join(evaluated)}"
    return share_that_holds(parts, why)


def safety_goals(facts: Facts) -> Decision:
    """S0-8 and S1-18: goals that the work pursues, leaves out by its own words, or does not mention."""
    said, goals, left_out = facts.said("goals"), facts.fact("zephyr.goals"), facts.fact("zephyr.out_of_scope")
    why = f"pursued: {', '.join(goals) or 'none'}; out of scope by its own words: {', '.join(left_out) or 'none'}"
    if all(goal in goals for goal in said):
        return Decision("right", why)
    return Decision("wrong" if set(said) & set(left_out) else "unsupported", why)


def parts_of_the_method(facts: Facts) -> Decision:
    """S0-9: teacher, distillation engine, student; a corpus of aligned text."""
    known = facts.fact("zephyr.parts")
    parts = {part: part in known for part in facts.said("parts")}
    absent = [part for part, found in parts.items() if not found]
    return share_that_holds(parts, f"not parts of it: {', '.join(absent) or 'none'}; parts: {', '.join(known)}")


def authors(facts: Facts) -> Decision:
    """S0-10: three authors."""
    known = facts.authors("zephyr")
    parts = {name: name in known for name in facts.said("authors")}
    first = ", ".join(known[:2]) + (f" and {len(known) - 2} more" if len(known) > 2 else "")
    return share_that_holds(parts, f"{sum(parts.values())} of {len(parts)} names are authors; authors: {first}")


def _gains(facts: Facts) -> dict[str, dict[str, Number]]:
    """Relative gains over dSFT-1 in percent on both chat benchmarks: after one epoch of DPO, and as released."""
    start = {metric: facts.cell("zephyr", "tab3", "dSFT-1", metric) for metric in ("mt_bench", "alpaca_eval")}
    ends = {"gain after one epoch": ("tab3", "dDPO + dSFT"), "gain of the released model": ("tab1", "Zephyr")}
    return {
        name: {metric: 100 * (facts.cell("zephyr", table, row, metric) / old - 1) for metric, old in start.items()}
        for name, (table, row) in ends.items()
    }


def _saving(ours: Number, theirs: Number, percent: Number, unit: str) -> Decision:
    saved = 100 * (1 - ours / theirs)
    why = f"{ours:.1f} against {theirs:.1f} {unit}: {saved:.0f} % less"
    return Decision("right" if abs(saved - percent) <= 0.5 else "wrong", why)


def _leads(model: str, scores: dict[str, Number], sizes: dict[str, str]) -> bool:
    return scores[model] > _best_other(model, scores, sizes)


def _best_other(model: str, scores: dict[str, Number], sizes: dict[str, str]) -> Number:
    return max(score for name, score in scores.items() if name != model and sizes.get(name) == sizes.get(model))


RULES: dict[str, Rule] = {
    "Z6": best_open_7b_chat_model,
    "S0-1": alignment_accuracy,
    "S0-2": error_rate_reduction,
    "S0-3": accuracy_gain,
    "S0-4": training_time_saving,
    "S0-5": compute_saving,
    "S0-6": accuracy_gain_range,
    "S0-7": evaluated_tasks,
    "S0-8": safety_goals,
    "S0-9": parts_of_the_method,
    "S0-10": authors,
}
