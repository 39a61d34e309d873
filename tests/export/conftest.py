"""Fixtures: the checkpoint of a small network, and its exported files, each made once per test session."""

from pathlib import Path

import pytest
from exports import need, save_network

from han_arch import load_model
from han_arch.export.targets import TARGETS, openvino_from_onnx
from han_arch.export.write import describe, export


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    return save_network(tmp_path_factory.mktemp("model") / "small.pth")


@pytest.fixture(scope="session")
def exported(tmp_path_factory, checkpoint):
    """A function: `exported(target)` returns the path of the exported file, which the first call writes."""
    folder = tmp_path_factory.mktemp("exported")

    def file(target: str) -> Path:
        need(target)
        path = folder / f"small{TARGETS[target].suffix}"
        if target == "openvino" and not path.exists():  # convert the ONNX file, which saves a second tracing
            openvino_from_onnx(file("onnx"), path, describe(load_model(checkpoint), str(checkpoint)))
        elif not path.exists():
            export(load_model(checkpoint), str(checkpoint), target, path)
        return path

    return file
