"""Overview document 1, its statements about scores, data and cost (S1-1 to S1-16 and others). One rule a claim."""

from datetime import date, timedelta
from math import ceil, sqrt
from statistics import mean

from zephyr_lab.reporting.statements_facts import (
    Decision,
    Facts,
    Number,
    Rule,
    all_must_hold,
    of_two_versions,
    share_that_holds,
    within,
)

HOUR = 3600


def mt_bench_of_both(facts: Facts) -> Decision:
    """S1-1: MT-Bench 7.34 against 6.86."""
    zephyr = facts.cell("zephyr", "tab1", "Zephyr", "mt_bench")
    llama = facts.cell("zephyr", "tab1", "Llama2-Chat", "mt_bench")
    parts = {"Zephyr": zephyr == facts.said("zephyr"), "Llama2-Chat": llama == facts.said("llama")}
    return all_must_hold(parts, f"Table 1: {zephyr:.2f} and {llama:.2f}")


def difference_is_significant(facts: Facts) -> Decision:
    """S1-2: the difference is significant. Without a printed error, spreads of another paper bound what it could be."""
    zephyr = facts.cell("zephyr", "tab1", "Zephyr", "mt_bench")
    gap = zephyr - facts.cell("zephyr", "tab1", "Llama2-Chat", "mt_bench")
    threshold, error = facts.said("threshold"), facts.fact("zephyr.mt_bench_error")
    if error is not None:
        z = gap / (sqrt(2) * error)
        return Decision("right" if z > threshold else "wrong", f"{gap:.2f} is {z:.1f} standard errors")
    spreads = facts.column("kd_dae", "tab2", "mt_bench_sd").values()
    least, most = gap / (sqrt(2) * max(spreads)), gap / (sqrt(2) * min(spreads))
    why = (
        f"no error printed; by five-run spreads of the KD paper {gap:.2f} is {least:.1f} to {most:.1f} standard errors"
    )
    if most < threshold:
        return Decision("wrong", why)
    return Decision("imprecise" if least > threshold else "unsupported", why)


def alpaca_eval_of_zephyr(facts: Facts) -> Decision:
    """S1-3: AlpacaEval 90.60 %, in the paper and on the leaderboard."""
    said = facts.said("zephyr")
    printed = facts.cell("zephyr", "tab1", "Zephyr", "alpaca_eval")
    listed = facts.cell("zephyr", "alpaca_eval_v1_repo", "zephyr-7b-beta", "win_rate")
    parts = {"Table 1": printed == said, "leaderboard": round(listed, 2) == said}
    return all_must_hold(parts, f"Table 1 {printed:.2f}, leaderboard {listed:.3f}")


def llama_on_alpaca_eval(facts: Facts) -> Decision:
    """S1-4: Llama 2 Chat 70B has 85 to 87 %, so Zephyr wins there too."""
    llama = facts.cell("zephyr", "tab1", "Llama2-Chat", "alpaca_eval")
    zephyr = facts.cell("zephyr", "tab1", "Zephyr", "alpaca_eval")
    parts = {"its win rate": within(llama, facts.said("llama")), "Zephyr wins": zephyr > llama}
    return share_that_holds(parts, f"Llama2-Chat-70B {llama:.2f}, Zephyr {zephyr:.2f}")


def alpha_beats(facts: Facts) -> Decision:
    """S1-5: alpha beat three models: on each benchmark where both have a score."""
    alpha_mt = facts.cell("zephyr", "card_beta_chat", "Zephyr-7b-alpha", "mt_bench")
    alpha_win = facts.cell("zephyr", "alpaca_eval_v1_repo", "zephyr-7b-alpha", "win_rate")
    mt_bench, wins = facts.column("zephyr", "tab1", "mt_bench"), facts.column("zephyr", "tab1", "alpaca_eval")
    pairs = {
        "GPT-3.5": [(alpha_mt, mt_bench["GPT-3.5-turbo"]), (alpha_win, wins["GPT-3.5-turbo"])],
        "Llama-2-13B-chat": [(alpha_win, facts.fact("alpaca_eval.llama_2_13b_chat"))],
        "Falcon-40B": [(alpha_mt, mt_bench["Falcon-Instruct"]), (alpha_win, wins["Falcon-Instruct"])],
    }
    parts = {name: all(ours > theirs for ours, theirs in pairs[name]) for name in facts.said("beaten")}
    shown = "; ".join(f"{name} {', '.join(f'{o:.2f} vs {t:.2f}' for o, t in pairs[name])}" for name in parts)
    return all_must_hold(parts, f"alpha against {shown}")


def epochs_of_dpo(facts: Facts) -> Decision:
    """S1-6: beta 3 epochs of DPO, alpha 1."""
    beta = facts.setting("zephyr", "card_beta_ddpo", "epochs")
    alpha = facts.setting("zephyr", "card_alpha_ddpo", "epochs")
    parts = {"beta": beta == facts.said("beta"), "alpha": alpha == facts.said("alpha")}
    return all_must_hold(parts, f"cards: beta {beta:g}, alpha {alpha:g}")


def data_of_alpha(facts: Facts) -> Decision:
    """S1-7: alpha's training sets. A set derived from one on the card may or may not be the one that was used."""
    listed, parents = facts.fact("alpha.data"), facts.fact("data.derived_from")
    said = facts.said("sets")
    why = f"alpha's card lists {', '.join(listed)}"
    if all(name in listed for name in said):
        return Decision("right", why)
    if all(name in listed or parents.get(name) in listed for name in said):
        return Decision("unsupported", f"{why}, from which the named sets derive; it does not name them")
    return Decision("wrong", why)


def hours_of_training(facts: Facts) -> Decision:
    """S1-8: 2 to 4 hours on 16 GPUs for everything, against the released model's DPO run alone."""
    (low, high), gpus = facts.said("hours"), facts.said("gpus")
    seconds = facts.summary("zephyr", "beta_log", "run", "train_runtime_s")
    hours = seconds * facts.summary("zephyr", "beta_log", "run", "gpus") / gpus / HOUR
    why = f"the DPO run of the released model alone took {hours:.1f} h on {gpus} GPUs; said: {low}-{high} h for all"
    if hours > high:
        return Decision("wrong", why)
    return Decision("right" if hours >= low else "imprecise", why)


def gpu_hours(facts: Facts) -> Decision:
    """S1-9: its own hours times GPUs."""
    said, gpus = facts.said("gpu_hours"), facts.summary("zephyr", "beta_log", "run", "gpus")
    product = [hours * gpus for hours in facts.said("hours")]
    why = f"{gpus} GPUs for the hours named is {product[0]:g}-{product[1]:g} GPU hours"
    if product == said:
        return Decision("right", why)
    return Decision(
        "wrong", f"contradicts itself, its own hours give another product: {why}, not {said[0]:g}-{said[1]:g}"
    )


def rating_criteria(facts: Facts) -> Decision:
    """S1-10: the four aspects of UltraFeedback, which the document lists twice."""
    aspects = set(facts.value("zephyr", "ultrafeedback", "aspects"))
    here, elsewhere = set(facts.said("here")), set(facts.said("elsewhere"))
    wrong = ", ".join(sorted((here | elsewhere) - aspects)) or "none"
    return of_two_versions(here == aspects, elsewhere == aspects, f"not a rating field: {wrong}")


def binarisation(facts: Facts) -> Decision:
    """S1-11: how chosen and rejected were picked, by the code first, then by the paper."""
    chosen, rejected = facts.fact("ultrafeedback.chosen"), facts.fact("ultrafeedback.rejected")
    said = (facts.said("chosen"), facts.said("rejected"))
    why = f"code: {chosen['code']}, {rejected['code']}; paper: {chosen['paper']}, {rejected['paper']}"
    if said == (chosen["code"], rejected["code"]):
        return Decision("right", why)
    return Decision("imprecise" if said == (chosen["paper"], rejected["paper"]) else "wrong", why)


def number_of_pairs(facts: Facts) -> Decision:
    """S1-12: 64K pairs, as training pairs or only together with the test pairs."""
    said = facts.said("pairs")
    releases = [facts.value("zephyr", "ultrafeedback", name) for name in ("first_release", "repaired_release")]
    trained = [release["train_prefs"] for release in releases]
    together = [release["train_prefs"] + release["test_prefs"] for release in releases]
    why = f"training pairs {trained[0]:,} and {trained[1]:,}; with test pairs {together[0]:,} and {together[1]:,}"
    if said in [round(count, -3) for count in trained]:
        return Decision("right", why)
    return Decision("imprecise" if said in [round(count, -3) for count in together] else "wrong", why)


def no_overfitting(facts: Facts) -> Decision:
    """S1-13: smooth and without overfitting, against epoch means of beta's log."""
    epochs = {step: max(1, ceil(epoch)) for step, epoch in facts.column("zephyr", "beta_log", "epoch").items()}
    train = _epoch_means(facts.column("zephyr", "beta_log", "train_loss"), epochs)
    held_out = _epoch_means(facts.column("zephyr", "beta_log", "eval_loss"), epochs)
    parts = {
        "training loss does not collapse": train[-1] >= facts.said("collapse") * train[0],
        "evaluation loss does not rise": held_out[-1] <= held_out[0],
    }
    shown = [" / ".join(f"{value:.3f}" for value in means) for means in (train, held_out)]
    return share_that_holds(parts, f"by epoch: training loss {shown[0]}, evaluation loss {shown[1]}")


def release_dates(facts: Facts) -> Decision:
    """S1-16: mid-October, and three weeks after early October: two datings of one release."""
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
    """S1-25: 1.4M dialogues cut to about 200K; raw at two digits by card or paper, kept at one digit."""
    raw, kept = facts.fact("ultrachat.raw"), facts.value("zephyr", "ultrachat", "train_sft")
    parts = {
        "raw": facts.said("raw") in [round(count, -5) for count in raw.values()],
        "kept": facts.said("kept") == round(kept, -5),
    }
    shown = ", ".join(f"{count:,} ({where})" for where, count in raw.items())
    return share_that_holds(parts, f"raw {shown}; {kept:,} training dialogues kept")


def shape_of_mistral(facts: Facts) -> Decision:
    """S1-27: window, layers, heads, and the span that they imply."""
    window, layers, heads = (facts.fact(f"mistral_7b.{name}") for name in ("window", "layers", "heads"))
    parts = {
        "window": window == facts.said("window"),
        "layers": layers == facts.said("layers"),
        "heads": heads == facts.said("heads"),
        "span": round(layers * window, -3) == facts.said("span"),
    }
    why = f"window {window}, {layers} layers, {heads} heads; {layers} x {window} = {layers * window:,} tokens"
    return all_must_hold(parts, why)


def dpo_from_the_base(facts: Facts) -> Decision:
    """S1-33: DPO directly on the base model. It would have to do as well there as after dSFT."""
    metrics = ("mt_bench", "alpaca_eval")
    base = [facts.cell("zephyr", "tab3", "dDPO - dSFT", metric) for metric in metrics]
    after = [facts.cell("zephyr", "tab3", "dDPO + dSFT", metric) for metric in metrics]
    parts = {metric: b >= a for metric, b, a in zip(metrics, base, after, strict=True)}
    why = (
        f"without dSFT {base[0]:.2f} / {base[1]:.2f}, after it {after[0]:.2f} / {after[1]:.2f} (MT-Bench / AlpacaEval)"
    )
    return share_that_holds(parts, why)


def _epoch_means(values: dict[str, Number], epochs: dict[str, int]) -> list[float]:
    """Mean of a log's column in each epoch, in order."""
    return [
        mean(value for step, value in values.items() if epochs[step] == one) for one in sorted(set(epochs.values()))
    ]


RULES: dict[str, Rule] = {
    "S1-1": mt_bench_of_both,
    "S1-2": difference_is_significant,
    "S1-3": alpaca_eval_of_zephyr,
    "S1-4": llama_on_alpaca_eval,
    "S1-5": alpha_beats,
    "S1-6": epochs_of_dpo,
    "S1-7": data_of_alpha,
    "S1-8": hours_of_training,
    "S1-9": gpu_hours,
    "S1-10": rating_criteria,
    "S1-11": binarisation,
    "S1-12": number_of_pairs,
    "S1-13": no_overfitting,
    "S1-16": release_dates,
    "S1-25": size_of_ultrachat,
    "S1-27": shape_of_mistral,
    "S1-33": dpo_from_the_base,
}
