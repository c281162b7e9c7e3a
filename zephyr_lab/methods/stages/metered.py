"""dSFT, also of a LoRA adapter, and dDPO with their cost: tokens read, CPU seconds and memory beside their metrics.

What a comparison of methods needs of those that are trained elsewhere without a meter.
"""

from pathlib import Path

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.data.splits import TEST, TRAIN, dialogue_rows, pair_rows
from zephyr_lab.methods import adapters, process
from zephyr_lab.methods.calling import log_rows
from zephyr_lab.methods.examples import counts, dialogue_examples, pair_examples, read_dialogues
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.process import metered
from zephyr_lab.methods.recipes.pairs import DDPORecipe
from zephyr_lab.methods.recipes.training import DSFTRecipe, LoRASFT
from zephyr_lab.methods.sft import held_out_loss, train_sft
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


def build_lora(recipe: LoRASFT, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Fine-tune an adapter of `inputs["base"]` and write the merged model; files as `stages.sft.build`.

    Metrics: steps; trained, the numbers that the adapter has; held_out_loss, of the merged model; cpu_seconds,
    peak_mib.
    """
    process.prepare()
    start = inputs["base"] / recipe.start
    with process.metered() as cost:
        tokenizer = saved.load_chat_tokenizer(start)
        base = saved.load_model(start).to(process.pick_device(recipe.device))
        model = adapters.lora(base, recipe.lora, seed=derive(seed, "lora"))
        dialogues = {split: dialogue_rows(inputs["dialogues"], split) for split in (TRAIN, TEST)}
        log = train_sft(
            model,
            tokenizer,
            dialogues[TRAIN],
            recipe=recipe,
            held_out=dialogues[TEST],
            seed=seed,
            checkpoints=context.checkpoints,
            progress=context.progress,
        )
        whole = adapters.merged(model)
        saved.save(whole, tokenizer, out)
    files.write_json(out / "log.json", log_rows(log))
    files.write_json(out / "rows.json", log.attrs["rows"])
    held_out, _ = read_dialogues(recipe, tokenizer, dialogues[TEST])
    return {
        "steps": float(log.attrs["steps"]),
        **counts(log.attrs["rows"][TRAIN]),
        "trained": float(adapters.parameters(model).trained),
        "held_out_loss": held_out_loss(whole, held_out, rows_at_once=recipe.micro_batch),
        **cost.metrics(),
    }


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
