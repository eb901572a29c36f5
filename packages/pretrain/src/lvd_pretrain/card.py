"""The model card: what a model is, which data and which recipe it comes from, how its losses went."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from lvd_pretrain import __version__
from lvd_pretrain.config import PretrainConfig


def model_card(config: PretrainConfig, step: int, facts: dict[str, Any], picture: str | None) -> str:
    """README.md of a Model v1 folder.

    Args:
        config: the run's configuration.
        step: optimizer updates behind the weights.
        facts: `dataset` (fingerprint), `images`, `global_batch`.
        picture: file name of the loss curves, if there are any.
    """
    model = config.model
    width, depth, heads = model.dims
    curves = f"\n![Loss terms over the steps]({picture})\n" if picture else ""
    start = f"\n| started from | {_code(config.init_from)} |" if config.init_from else ""
    recipe = yaml.safe_dump(recipe_of(config), sort_keys=False).strip()
    fence = "`" * max(3, _longest_quote(recipe) + 1)
    return f"""---
library_name: transformers
pipeline_tag: image-feature-extraction
tags: [dinov2, self-supervised, lvd]
---

# {_text(Path(config.out).name)}

A vision transformer {_method(config)}, written by lvd-pretrain {__version__}. These are
the weights' moving average after {step:,} of {config.optim.steps:,} steps.

| | |
|---|---|
| shape | width {width}, depth {depth}, {heads} heads, patch {model.patch_size}, {model.registers} registers |
| trained at | {config.crops.global_size} px, global batch {facts["global_batch"]} |
| data | {_code(config.data.path)}, {facts["images"]} images, fingerprint `{facts["dataset"]}` |{start}

```python
from transformers import AutoImageProcessor, AutoModel

processor = AutoImageProcessor.from_pretrained(path)
model = AutoModel.from_pretrained(path)
features = model(**processor(image, return_tensors="pt")).last_hidden_state  # [1, 1 + registers + patches, {width}]
```
{curves}
## Recipe

What differs from the defaults of `lvd_pretrain/config.py`; `training.json` has every setting.

{fence}yaml
{recipe}
{fence}

`heads.safetensors` holds the projection heads: `init_from=` goes on with them, `distill.teacher=` learns from them.
"""


def _longest_quote(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _code(text: str) -> str:
    """A name as code in a Markdown table, whatever marks are in it."""
    marks = "`" * (_longest_quote(text) + 1)
    room = " " if "`" in text else ""
    return f"{marks}{room}{text}{room}{marks}".replace("|", "\\|")


def _text(text: str) -> str:
    """A name as a heading: no markup, no link, no picture."""
    return re.sub(r"([\\`*_\[\]<>!#])", r"\\\1", text)


def recipe_of(config: PretrainConfig) -> dict[str, Any]:
    """The settings that differ from the defaults, nested as in a recipe; without the run folder's name."""
    differing = _difference(config.to_dict(), PretrainConfig().to_dict())
    differing.pop("out", None)
    return differing


def _difference(tree: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    differing: dict[str, Any] = {}
    for key, value in tree.items():
        default = defaults.get(key)
        if isinstance(value, dict) and isinstance(default, dict):
            if inner := _difference(value, default):
                differing[key] = inner
        elif value != default:
            differing[key] = value
    return differing


def _method(config: PretrainConfig) -> str:
    if config.distill.teacher:
        return f"distilled without labels from the frozen teacher {_code(config.distill.teacher)}"
    terms = [name for name, weight in (("iBOT", config.loss.ibot), ("KoLeo", config.loss.koleo)) if weight]
    return f"trained without labels by self-distillation ({', '.join(['DINO', *terms])} against a momentum teacher)"
