"""Frozen encoders under one contract: images in, one unit vector per image out, preprocessing as the model asks.

SPEC is a Model v1 folder or a run folder (its `model/`), `transformers:ID_OR_DIR`, `open_clip:NAME/TAG_OR_FILE`,
`timm:NAME[/FILE]`, `torchscript:FILE` or `onnx:FILE`.
"""

import functools
import hashlib
import json
import multiprocessing
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from lvd_curate.errors import InputError
from lvd_curate.inputs.hub import prefer_cache_if_unreachable

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

TORCHSCRIPT_SIDE = 320  # a file of operators brings no preprocessing; SSCD's authors squash to 320x320
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
UNUSED = ("pooler.", "classifier.", "embeddings.mask_token")  # not in a class token; without one the pooler counts
UNTOLD = ("_name_or_path", "transformers_version", "id2label", "label2id")  # of a config: changes no feature
WAYS = (
    "a Model v1 folder or a run folder with model/, transformers:ID_OR_DIR, open_clip:NAME/TAG_OR_FILE, "
    "timm:NAME[/FILE], torchscript:FILE or onnx:FILE"
)


@dataclass(frozen=True)
class Encoder:
    """A frozen model with its own preprocessing."""

    model: nn.Module
    preprocess: Callable[[Sequence[Image.Image]], torch.Tensor]  # RGB images -> pixels [B, 3, H, W]
    extract: Callable[[torch.Tensor], torch.Tensor]  # pixels [B, 3, H, W] -> features [B, D]
    description: str  # of shape and preprocessing, for the fingerprint
    device: torch.device

    @torch.inference_mode()
    def embed(self, images: Sequence[Image.Image], precision: str) -> np.ndarray:
        """Return unit vectors float16 [B, D]; a row is NaN where the model gave no finite direction."""
        pixels = self.preprocess(images).to(self.device)  # [B, 3, H, W]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16"):
            features = self.extract(pixels).float()  # [B, D]
        unit = features / features.norm(dim=1, keepdim=True)
        return unit.cpu().numpy().astype(np.float16)

    def fingerprint(self) -> str:
        """Hash weights, shape and preprocessing: equal fingerprints give equal embeddings on one kind of machine."""
        digest = hashlib.sha256(self.description.encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


@functools.lru_cache(maxsize=2)
def load_encoder(spec: str, device: str = "auto") -> Encoder:
    """Load the encoder that SPEC names; kept for the next shard of the same process.

    Raises InputError naming the ways to give one when it cannot be found, downloaded or read.
    """
    kind, _, rest = spec.partition(":")
    loaders = {
        "transformers": load_transformers,
        "open_clip": load_open_clip,
        "timm": load_timm,
        "torchscript": load_torchscript,
        "onnx": load_onnx,
    }
    if kind not in loaders or not rest:
        kind, rest = "transformers", str(find_model_folder(spec))
    try:
        return loaders[kind](rest, choose_device(device))
    except InputError:
        raise
    except ImportError as error:
        raise InputError(f"encoder {spec!r} needs the extra lvd-curate[encoders]: {error}") from error
    except Exception as error:  # five libraries, each with its own errors for a missing or foreign checkpoint
        if any(isinstance(origin, UnpicklingError) for origin in trace_back(error)):
            raise InputError(
                f"encoder {spec!r}: its weights are a pickle of more than tensors, which may run any code; give "
                "safetensors"
            ) from error
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"encoder {spec!r} cannot be read ({first}); give {WAYS}") from error


def trace_back(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those behind it: transformers 4 hides torch's words behind its own."""
    while error:
        yield error
        error = error.__cause__ or error.__context__


def choose_device(device: str) -> torch.device:
    """Return where an encoder runs; worker processes share out the GPUs there are, by the number in their name."""
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    number = re.search(r"\d+$", multiprocessing.current_process().name)
    return torch.device("cuda", int(number[0]) % max(1, torch.cuda.device_count()) if number else 0)


def find_model_folder(spec: str) -> Path:
    """Return the folder of a Model v1, given it or the run folder around it."""
    for folder in (Path(spec), Path(spec) / "model"):
        if (folder / "config.json").is_file():
            return folder
    what = "holds no config.json" if Path(spec).is_dir() else "is no folder"
    raise InputError(f"encoder {spec!r} {what}; give {WAYS}")


def load_transformers(name: str, device: torch.device) -> Encoder:
    """Open a folder or hub id with AutoModel and AutoImageProcessor."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if not Path(name).is_dir():
        prefer_cache_if_unreachable()
    careful: dict[str, Any] = {"trust_remote_code": False, "local_files_only": Path(name).is_dir()}  # and never ask
    processor = transformers.AutoImageProcessor.from_pretrained(name, **careful)
    model, found = transformers.AutoModel.from_pretrained(
        name, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **careful
    )
    has_cls = any(parameter.endswith("cls_token") for parameter, _ in model.named_parameters())
    settle_missing(name, model, found, UNUSED if has_cls else UNUSED[1:])
    model = model.eval().to(device)

    def preprocess(images: Sequence[Image.Image]) -> torch.Tensor:
        return processor(images=list(images), return_tensors="pt")["pixel_values"]

    def extract(pixels: torch.Tensor) -> torch.Tensor:
        if hasattr(model, "get_image_features"):  # CLIP and its kin
            output = model.get_image_features(pixel_values=pixels)
            return output if isinstance(output, torch.Tensor) else output.pooler_output
        output = model(pixel_values=pixels)
        return output.last_hidden_state[:, 0] if has_cls else output.pooler_output.flatten(1)

    shape = {key: value for key, value in model.config.to_dict().items() if key not in UNTOLD}
    description = f"{json.dumps(shape, sort_keys=True, default=str)} {processor.to_json_string()}"
    return Encoder(model, preprocess, extract, description, device)


def settle_missing(name: str, model: nn.Module, found: Mapping[str, Any], unused: tuple[str, ...]) -> None:
    """Refuse a checkpoint without all the weights the feature needs: transformers would draw them at random.

    Weights of heads the feature does not use become zero where they are missing: fingerprints must not be random.
    """
    mismatched = [key if isinstance(key, str) else key[0] for key in found["mismatched_keys"]]
    missing = sorted({*found["missing_keys"], *mismatched})
    needed = [key for key in missing if not key.startswith(unused)]
    if needed:
        more = f" and {len(needed) - 3} more" if len(needed) > 3 else ""
        raise InputError(
            f"encoder {name}: its weights lack {', '.join(needed[:3])}{more}, or hold them in another shape; "
            "give a checkpoint that fits its config.json"
        )
    weights = model.state_dict()
    for key in missing:
        weights[key].zero_()


def load_open_clip(name: str, device: torch.device) -> Encoder:
    """Open NAME/TAG (downloaded or cached) or NAME/FILE; the feature is CLIP's projected image embedding."""
    import open_clip

    architecture, _, weights = name.partition("/")
    if not weights:
        raise InputError(f"encoder 'open_clip:{name}' names no weights; write open_clip:NAME/TAG_OR_FILE")
    if not Path(weights).exists():
        prefer_cache_if_unreachable()
    model, _, transform = open_clip.create_model_and_transforms(architecture, pretrained=weights)
    model = model.eval().to(device)
    return Encoder(model, stack_with(transform), model.encode_image, f"{architecture} {transform}", device)


def load_timm(name: str, device: torch.device) -> Encoder:
    """Open a timm model with its published weights (downloaded or cached), or with those of FILE."""
    import timm
    from timm.data import create_transform, resolve_model_data_config  # type: ignore[attr-defined]

    architecture, _, file = name.partition("/")
    if not file:
        prefer_cache_if_unreachable()
    model = timm.create_model(architecture, pretrained=not file, checkpoint_path=file, num_classes=0)
    model = model.eval().to(device)
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    return Encoder(model, stack_with(transform), model, f"{architecture} {transform}", device)


def load_torchscript(file: str, device: torch.device) -> Encoder:
    """Open a TorchScript file such as SSCD's; images are squashed to 320x320 and normalised as for ImageNet."""
    from torchvision.transforms import v2

    data = Path(file).read_bytes()
    model = torch.jit.load(file, map_location=device).eval()
    transform = v2.Compose(
        [
            v2.Resize((TORCHSCRIPT_SIDE, TORCHSCRIPT_SIDE), antialias=True),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    description = f"{transform} {hashlib.sha256(data).hexdigest()}"
    return Encoder(model, stack_with(transform), lambda pixels: model(pixels).flatten(1), description, device)


class OnnxModel(nn.Module):
    """An ONNX session as a module: pixels [B, ...] in, features [B, D] out."""

    def __init__(self, session: "InferenceSession") -> None:
        super().__init__()
        self.session = session
        self.input, self.output = session.get_inputs()[0], session.get_outputs()[0].name

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Run the model; one image at a time where it was exported for a batch of 1."""
        batches = pixels.split(1) if self.input.shape[0] == 1 else [pixels]
        found = [self.session.run([self.output], {self.input.name: batch.numpy()})[0] for batch in batches]
        return torch.from_numpy(np.concatenate(found)).flatten(1)  # [B, D]


def load_onnx(file: str, device: torch.device) -> Encoder:
    """Open an ONNX file with one input of RGB images and, as its first output, a vector of each.

    Size, type and layout are the model's: images are squashed to its height and width (320 where they are free), as
    bytes where it takes bytes, else normalised as for ImageNet; channels stand where its shape has the 3.
    """
    from torchvision.transforms import v2

    from lvd_curate.models.onnx_models import open_session

    data = Path(file).read_bytes()
    session = open_session(f"encoder 'onnx:{file}'", data, device.type)
    inputs, features = session.get_inputs(), session.get_outputs()[0].shape
    kind, shape = inputs[0].type, list(inputs[0].shape)
    kinds = {"tensor(uint8)": torch.uint8, "tensor(float)": torch.float32, "tensor(float16)": torch.float16}
    if len(inputs) != 1 or len(shape) != 4 or 3 not in (shape[1], shape[3]) or kind not in kinds:
        asks = ", ".join(f"{entry.name} {entry.type} {entry.shape}" for entry in inputs)
        raise InputError(f"encoder 'onnx:{file}' takes {asks}; it must take one batch of RGB images, NCHW or NHWC")
    if len(features) == 3:
        raise InputError(f"encoder 'onnx:{file}' gives tokens {features}; export it with one vector per image")
    last = shape[1] != 3  # the channels
    side = [size if isinstance(size, int) else TORCHSCRIPT_SIDE for size in (shape[1:3] if last else shape[2:])]
    steps: list[nn.Module] = [v2.Resize(side, antialias=True), v2.ToImage()]
    if kinds[kind] is not torch.uint8:
        steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
        steps.append(v2.ToDtype(kinds[kind]))
    stack = stack_with(v2.Compose(steps))

    def preprocess(images: Sequence[Image.Image]) -> torch.Tensor:
        pixels = stack(images)  # [B, 3, H, W]
        return pixels.permute(0, 2, 3, 1).contiguous() if last else pixels

    model = OnnxModel(session)
    description = f"{steps} {last} {hashlib.sha256(data).hexdigest()}"
    return Encoder(model, preprocess, model, description, torch.device("cpu"))  # the session moves pixels itself


def stack_with(transform: Callable[[Image.Image], Any]) -> Callable[[Sequence[Image.Image]], torch.Tensor]:
    """Turn a transform of one image into one of a batch."""
    return lambda images: torch.stack([transform(image) for image in images])  # [B, 3, H, W]
