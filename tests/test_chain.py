"""The three tools in a row, sharing nothing but files: what one writes, the next one opens."""

import json
import subprocess
import sys
from pathlib import Path

import datasets
import polars as pl
import pytest
import torch
from transformers import AutoImageProcessor, AutoModel

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "packages/pretrain/recipes/tiny.yaml"
SMALL = ["optim.steps=2", "optim.warmup=1", "optim.batch_size=8", "data.workers=0", "model.depth=2"]


def tool(name: str, *words: object) -> None:
    command = [str(Path(sys.executable).with_name(name)), *map(str, words)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_corpus_to_encoder_to_dataset_to_model_to_table(tmp_path):
    corpus, curated, results = tmp_path / "corpus", tmp_path / "curated", tmp_path / "results"
    tool("curate", "sample-corpus", corpus, "--images", 120, "--workers", 1)
    tool("pretrain", RECIPE, f"data.path={corpus / 'seeds'}", f"out={tmp_path / 'seeds'}", *SMALL)
    sets = ["--pool", corpus / "pool", "--seeds", f"objects={corpus / 'seeds'}", "--exclude", f"test={corpus / 'test'}"]
    tool("curate", "build-lvd", *sets, "--out", curated, f"embed.encoder={tmp_path / 'seeds'}", "execution.workers=1")
    tool("pretrain", RECIPE, f"data.path={curated}", f"out={tmp_path / 'vit'}", *SMALL)
    models = ["--ckpt", tmp_path / "vit", "--baseline", f"untrained:{tmp_path / 'vit'}", "--baseline", "pixels"]
    models += ["--baseline", "open_clip:ViT-B-16/no_such_tag"]
    tool("evaluate", "benchmark", *models, "--data", corpus, "--out", results, "linear.min_steps=20")

    dataset = datasets.load_dataset(str(curated), split="train")
    lineage = pl.read_parquet(curated / "lineage.parquet")
    inputs = sum(1 for part in ("pool", "seeds") for path in (corpus / part).rglob("*") if path.is_file())
    tested = datasets.load_dataset(str(corpus / "test"), split="test").num_rows
    assert len(lineage) == inputs + tested
    assert len(dataset) == lineage.filter(pl.col("status") == "kept").height > 0

    model = AutoModel.from_pretrained(tmp_path / "vit/model")
    processor = AutoImageProcessor.from_pretrained(tmp_path / "vit/model")
    with torch.no_grad():
        tokens = model(**processor(dataset[0]["image"].convert("RGB"), return_tensors="pt")).last_hidden_state
    assert tokens.shape == (1, 1 + 4 + 36, 128)
    training = json.loads((tmp_path / "vit/model/training.json").read_text())
    assert training["images"] == len(dataset)

    rows = [json.loads(line) for line in (results / "results.jsonl").read_text().splitlines()]
    assert {row["status"] for row in rows if "no_such_tag" in row["spec"]} == {"unavailable"}
    assert {row["probe"] for row in rows if row["status"] == "measured"} == {"knn", "linear"}
    assert len({row["model"] for row in rows if row["status"] == "measured"}) == 3
