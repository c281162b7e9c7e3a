"""Overview document 3, a note on the EDA paper: six statements (S3-*). One rule a claim."""

from zephyr_lab.reporting.statements_facts import Decision, Facts, Rule, share_that_holds


def aligned_with_values(facts: Facts) -> Decision:
    """S3-1: aligns models with human values."""
    aligned, changes = facts.fact("eda.aligned_to"), facts.fact("eda.output_of_the_target_changes")
    why = f"a draft is aligned to a {aligned}; the target's output {'changes' if changes else 'does not change'}"
    if aligned == facts.said("aligned_to"):
        return Decision("right", why)
    return Decision("unsupported" if changes else "wrong", why)


def measured_by(facts: Facts) -> Decision:
    """S3-2: the benchmarks show better alignment accuracy."""
    metrics = facts.fact("eda.metrics")
    found = facts.said("metric") in metrics
    return Decision("right" if found else "wrong", f"the benchmarks measure {', '.join(metrics)}")


def uses_lora(facts: Facts) -> Decision:
    """S3-3: uses techniques like LoRA: as its own, or as a baseline."""
    said, own = facts.said("technique"), facts.fact("eda.own_technique")
    rows = list(facts.column("eda", "math_t0", "avg_tau"))
    why = f"own: {', '.join(own)}; rows of its tables: {', '.join(rows)}"
    if said in own:
        return Decision("right", why)
    return Decision("imprecise" if said in rows else "wrong", why)


def small_drafts(facts: Facts) -> Decision:
    """S3-4: small models propose tokens, the main model verifies."""
    draft = facts.value("eda", "draft", "parameters")["two_full_experts_without_embedding"]
    target, verifier = facts.fact("eda.target_parameters"), facts.fact("eda.draft_tokens_verified_by")
    parts = {"smaller": draft < target, "verified": verifier == facts.said("verified_by")}
    size = f"{draft / 1e6:.0f}M against {target / 1e9:.0f}B parameters"
    why = f"draft {size}, here a head on the target's features; verified by {verifier}"
    return share_that_holds(parts, why)


def cheaper_at_equal_performance(facts: Facts) -> Decision:
    """S3-5: less compute and data at equal performance."""
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
    """S3-6: users get safer assistants; impossible where the output is the same."""
    changes = facts.fact("eda.output_of_the_target_changes")
    why = f"the target verifies every token: its output {'changes' if changes else 'does not change'}"
    return Decision("unsupported" if changes else "wrong", why)


RULES: dict[str, Rule] = {
    "S3-1": aligned_with_values,
    "S3-2": measured_by,
    "S3-3": uses_lora,
    "S3-4": small_drafts,
    "S3-5": cheaper_at_equal_performance,
    "S3-6": safer_assistants,
}
