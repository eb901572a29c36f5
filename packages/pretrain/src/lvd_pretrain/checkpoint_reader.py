"""Distributed checkpoints read without unpickling: PyTorch's own reader would run whatever code a folder carries.

Its `.metadata` is a pickle, and so is every value that is no tensor (a learning rate). Here the first may name nothing
but the classes that PyTorch writes into it, the second goes through `weights_only`, and files lie inside the folder.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import ReadItem

CLASSES = {  # what `.metadata` names, torch 2.11 to 2.15
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    *(
        ("torch.distributed.checkpoint.metadata", name)
        for name in (
            "BytesStorageMetadata",
            "ChunkStorageMetadata",
            "Metadata",
            "MetadataIndex",
            "StorageMeta",
            "TensorProperties",
            "TensorStorageMetadata",
            "_MEM_FORMAT_ENCODING",
        )
    ),
}
PATHS = {("pathlib", "PosixPath"), ("pathlib", "WindowsPath"), ("pathlib._local", "PosixPath")}  # where it was written


class MetadataUnpickler(pickle.Unpickler):
    """Builds the classes of a checkpoint's metadata and refuses to import anything else."""

    def find_class(self, module: str, name: str) -> Any:
        """The class of that name.

        Raises:
            UnpicklingError: no class that PyTorch writes into a checkpoint's metadata.
        """
        if (module, name) in CLASSES:
            return super().find_class(module, name)
        if (module, name) in PATHS:
            return lambda *parts: "/".join(parts)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        raise pickle.UnpicklingError(f".metadata asks for {module}.{name}, which no checkpoint needs")


class CheckpointReader(FileSystemReader):
    """Reads the folder of one checkpoint."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.folder = path

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """What the checkpoint holds and where.

        Raises:
            UnpicklingError: the metadata is no metadata, or would run code.
            ValueError: it is not there, or names a file that the folder does not hold.
        """
        path = Path(self._get_metadata_path(kwargs.get("rank")))
        if not path.is_file():  # a pipe of that name would be waited for
            raise ValueError(f"{path.name} is no file")
        with path.open("rb") as file:
            metadata = MetadataUnpickler(file).load()
        if not isinstance(metadata, Metadata) or not isinstance(metadata.storage_data, dict):
            raise pickle.UnpicklingError(f".metadata holds {type(metadata).__name__}, no description of a checkpoint")
        for name in {str(entry.relative_path) for entry in metadata.storage_data.values()}:
            if Path(name).name != name or not (self.folder / name).is_file():
                raise ValueError(f".metadata names {name}, which is no file of this checkpoint")
        metadata.storage_meta = replace(metadata.storage_meta or StorageMeta(), load_id=self.load_id)
        return metadata


class CheckpointPlanner(DefaultLoadPlanner):
    """Puts what is no tensor into its place."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Numbers, words and lists of them.

        Raises:
            UnpicklingError: anything that would have to run code.
        """
        try:
            content = torch.load(value, weights_only=True)
        except pickle.UnpicklingError:  # whose text advises to unpickle it all the same
            raise pickle.UnpicklingError(f"{read_item.dest_index.fqn} is no number, word or list of them") from None
        plain = io.BytesIO()  # once more as a file, since that is what the base class takes
        torch.save(content, plain)
        plain.seek(0)
        super().load_bytes(read_item, plain)
