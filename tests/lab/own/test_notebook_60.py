"""Notebook 60 as a newcomer runs it: an installed package, an empty folder, a model and a file of rows."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from zephyr_lab.models import saved
from zephyr_lab.models.example import example_model

ROOT = Path(__file__).parents[3]
JUDGE = "def brief(question, a, b):\n    return 0.5 if len(a) == len(b) else float(len(a) < len(b))\n"


def own_pair(number):
    return {
        "prompt": [{"role": "user", "content": f"Where do I keep item {number}?"}],
        "chosen": [{"role": "assistant", "content": f"On shelf {number}."}],
        "rejected": [{"role": "assistant", "content": f"Somewhere, perhaps, or not, {number}."}],
    }


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
def test_an_empty_folder_gets_a_model_with_its_card(tmp_path, rank):
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    shutil.copytree(ROOT / "zephyr_lab", site / "zephyr_lab", ignore=shutil.ignore_patterns("__pycache__"))
    notebook = shutil.copy(ROOT / "notebooks" / "60_your_own_data.ipynb", tmp_path)
    saved.save(*example_model(), tmp_path / "start")
    saved.save(*example_model(seed=1), tmp_path / "expert")
    rows = [json.dumps(own_pair(number)) for number in range(20)] + ['{"prompt": null, "chosen": "a", "rejected": "b"}']
    (empty / "rows.jsonl").write_text("\n".join(rows))
    (empty / "mine.py").write_text(JUDGE)
    given = {
        "model": tmp_path / "start", "data": "rows.jsonl", "judge": "mine.py:brief", "lora_rank": rank,
        "epochs": 1, "max_new_tokens": 8, "max_length": 128,
    }  # fmt: skip
    if rank:
        given |= {"teacher": tmp_path / "expert", "expert": tmp_path / "expert"}
    knobs = [part for name, value in given.items() for part in ("-p", name, str(value))]
    environment = {name: value for name, value in os.environ.items() if name != "ZEPHYR_LAB_ROOT"}
    ran = subprocess.run(
        [sys.executable, "-m", "papermill", str(notebook), "out.ipynb", *knobs],
        env=environment | {"PYTHONPATH": str(site)}, cwd=empty, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert sorted(path.name for path in empty.iterdir()) == ["aligned", "mine.py", "out.ipynb", "rows.jsonl"]
    model, tokenizer = saved.load_model(empty / "aligned" / "model"), saved.load_tokenizer(empty / "aligned" / "model")
    assert model.num_parameters() == example_model()[0].num_parameters() and tokenizer.chat_template
    card = (empty / "aligned" / "model" / "README.md").read_text()
    assert "Rows left out: 1" in card and "row 21" in card and "one model was trained" in card
    results = pd.read_csv(empty / "aligned" / "results.csv")
    assert {"start", "SFT", "DPO", "KD", "DAE"} <= set(results["model"])
    assert results["value"].notna().all() and not (empty / "aligned" / "checkpoints").exists()
