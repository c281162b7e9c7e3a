"""dSFT and dDPO with their cost: the same trainings, and beside their metrics tokens read, CPU seconds and memory.

What a comparison of methods needs of the two that are trained elsewhere without a meter.
"""

from pathlib import Path

from zephyr_lab.data.splits import TRAIN, dialogue_rows, pair_rows
from zephyr_lab.methods.examples import dialogue_examples, pair_examples
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.process import metered
from zephyr_lab.methods.recipes.pairs import DDPORecipe
from zephyr_lab.methods.recipes.training import DSFTRecipe
from zephyr_lab.methods.stages import dpo, sft
from zephyr_lab.models import saved


def build_dsft(
    recipe: DSFTRecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """`stages.sft.build`, and the metrics tokens_trained, cpu_seconds, peak_mib."""
    with metered() as cost:
        metrics = sft.build(recipe, seed=seed, inputs=inputs, out=out, context=context)
    examples, _ = dialogue_examples(
        saved.load_tokenizer(out),
        dialogue_rows(inputs["dialogues"], TRAIN).rows,
        max_length=recipe.max_length,
        answers_only=recipe.answers_only,
        system_turn=recipe.system_turn,
    )
    read = recipe.epochs * sum(len(example.input_ids) for example in examples)
    return {**metrics, "tokens_trained": float(read), **cost.metrics()}


def build_ddpo(
    recipe: DDPORecipe, *, seed: int, inputs: dict[str, Path], out: Path, context: Context
) -> dict[str, float]:
    """`stages.dpo.build`, and the metrics tokens_trained, tokens_scored (the reference, once), cpu_seconds, peak_mib.

    A pair's prompt is read once where the recipe shares it, else with each answer.
    """
    with metered() as cost:
        metrics = dpo.build(recipe, seed=seed, inputs=inputs, out=out, context=context)
    examples, _ = pair_examples(
        saved.load_tokenizer(out),
        pair_rows(inputs["pairs"], TRAIN).rows,
        max_length=recipe.max_length,
        max_prompt_length=recipe.max_prompt_length,
        long_prompts=recipe.long_prompts,
        equal_answers=recipe.equal_answers,
        system_turn=recipe.system_turn,
    )
    prompts = 1 if recipe.shared_prompt else 2
    once = sum(prompts * len(one.prompt_ids) + len(one.chosen_ids) + len(one.rejected_ids) for one in examples)
    read = {"tokens_trained": float(recipe.epochs * once), "tokens_scored": float(once)}
    return {**metrics, **read, **cost.metrics()}
