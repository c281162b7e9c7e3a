"""Best-of-n: many answers of the start to each held-out question, each with its true and its learned reward.

No training. From one pool of N answers a question, the expected score of best-of-n follows exactly for every n up to N
(`scoring.best_of_n`).
"""

from pathlib import Path

from zephyr_lab.core import files
from zephyr_lab.core.seeds import derive
from zephyr_lab.methods import process
from zephyr_lab.methods.loop import Context
from zephyr_lab.methods.meter import metered
from zephyr_lab.methods.recipes.rlhf import BestOfN
from zephyr_lab.methods.rollouts import answer, learned_reward, repeated
from zephyr_lab.methods.stages.frontier import REWARD, graded
from zephyr_lab.methods.stages.held_out_questions import held_out_prompts
from zephyr_lab.methods.stages.world_questions import WorldQuestions
from zephyr_lab.models import reward as reward_models
from zephyr_lab.models import saved

COLUMNS = ("quality", "learned", "words")


def build(recipe: BestOfN, *, seed: int, inputs: dict[str, Path], out: Path, context: Context) -> dict[str, float]:
    """Draw and grade the answers of `inputs["policy"]`, by the judge and by the reward model `inputs["reward"]`.

    Writes pool.json: for each of quality, learned and words a list of questions, each a list of `samples` numbers.
    Metrics: tokens generated, CPU seconds and memory.
    """
    process.prepare()
    device = process.pick_device(recipe.device)
    start = inputs["policy"] / recipe.start
    tokenizer = saved.load_chat_tokenizer(start)
    questions = WorldQuestions.of(tokenizer, held_out_prompts(recipe))
    places = repeated(range(len(questions.prompts)), recipe.samples)
    with metered() as cost:
        policy = saved.load_model(start).to(device)
        learned = learned_reward(reward_models.load(inputs[REWARD]).to(device))
        answered = answer(
            policy, questions.ids, places, max_new_tokens=recipe.max_new_tokens, seed=derive(seed, "best of n")
        )
        found = graded(questions, tokenizer, answered) | {"learned": learned.function(answered)}
    context.progress(1, 1)
    pool = {
        name: [found[name][first : first + recipe.samples] for first in range(0, len(places), recipe.samples)]
        for name in COLUMNS
    }
    files.write_json(out / "pool.json", pool)
    return {
        "answers": float(len(answered)),
        "tokens_generated": float(answered.tokens),
        "tokens_prompted": float(answered.read_tokens - answered.tokens),
        "tokens_scored": float(answered.read_tokens),
        **cost.metrics(),
    }
