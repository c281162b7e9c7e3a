"""Answers of KD and DAE models as if they had been trained and asked: each model's mean score is the level given."""

import pandas as pd

QUESTIONS = ((81, "writing"), (111, "math"), (171, "stem"))
ASPECTS = ("instruction_following", "factuality", "accuracy", "helpfulness")


def chat(levels, models, seeds, *, runs=("near-greedy", "hot"), apart=0.02):
    """A frame of chat answers of `models` on each of `seeds`: scores at their levels (5 unless said), the same little
    apart from seed to seed for all, so that paired differences are exact."""
    return pd.DataFrame([
        {
            "seed": seed, "model": name, "run": run, "question_id": question, "category": category, "turn": turn,
            "prompt": f"{category}?", "text": "It is so.", "finished": True, "tokens": 5,
            "score": levels.get(name, 5.0) + question % 3 / 10 + apart * seed,
            "core": 0.5, "explanation": 0.5, "style": 3, "cost": 0, "words": 8,
        }
        for seed in seeds
        for name in models
        for run in runs
        for question, category in QUESTIONS
        for turn in (1, 2)
    ])  # fmt: skip


def shop(levels, models, seeds, *, apart=0.02):
    """A frame of answers to domain questions, as `chat`; all aspects of an answer are its score."""
    return pd.DataFrame([
        {
            "seed": seed, "model": name, "run": "near-greedy", "question_id": question, "category": "shop", "turn": 1,
            "group": group, "domain": score, **dict.fromkeys(ASPECTS, score), "text": "It is so.", "finished": True,
        }
        for seed in seeds
        for name in models
        for question, group in ((1001, "attributes"), (1002, "total"))
        for score in [levels.get(name, 5.0) + apart * seed]
    ])  # fmt: skip


def verdicts(shown):
    """claim -> verdict of what `check.claims` shows."""
    return {line.split("  ")[0]: line.split("  ")[1].partition(":")[0] for line in repr(shown).splitlines()}
