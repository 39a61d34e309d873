"""Test the interface and the errors of `load_runtime`."""

import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from han_arch import load_model
from han_arch.errors import UserError
from han_arch.export.runtime import load_runtime


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_interface(exported, runtime: str) -> None:
    run = load_runtime(str(exported(runtime)), runtime, threads=1)
    assert (run.scale, run.num_in_ch) == (2, 3)
    out = run(torch.rand(2, 3, 6, 9))
    assert (out.shape, out.dtype) == ((2, 3, 12, 18), torch.float32)
    with pytest.raises(ValueError, match=r"lq must have .*\(b, 3, h, w\); got \(2, 1, 6, 9\)"):
        run(torch.rand(2, 1, 6, 9))


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_threads_do_not_mix_results(exported, runtime: str) -> None:
    run = load_runtime(exported(runtime), runtime, threads=1)
    images = [torch.full((1, 3, 8 + number, 8), number / 8) for number in range(8)]
    expected = [run(image).clone() for image in images]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for got, wanted in zip(pool.map(run, images), expected, strict=True):
                torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)


def test_results_are_not_overwritten_by_the_next_call(exported) -> None:
    run = load_runtime(exported("openvino"), "openvino")
    first = run(torch.zeros(1, 3, 6, 6))
    kept = first.clone()
    run(torch.ones(1, 3, 6, 6))
    assert first.equal(kept)


@pytest.mark.skipif(not hasattr(signal, "SIGCHLD"), reason="needs the signal SIGCHLD")
def test_signals_arrive_after_openvino_files_were_closed(exported) -> None:
    """OpenVINO sets a stack for signal handlers and frees it too early if two of its cores overlap in time."""
    code = f"""
import gc, signal, subprocess
from han_arch.export.runtime import load_runtime
first = load_runtime({str(exported("openvino"))!r}, "openvino")
second = load_runtime({str(exported("openvino"))!r}, "openvino")
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGCHLD, lambda *_: print("child ended", flush=True))
subprocess.run(["true"], check=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "child ended")


def test_openvino_is_float32_by_default(exported, checkpoint) -> None:
    """OpenVINO's own default is bfloat16 on processors that support it. bfloat16 has more than 45 dB PSNR here."""
    lq = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = load_model(checkpoint)(lq)
    path = exported("openvino")
    exact = load_runtime(path, "openvino")(lq)
    assert (exact - expected).abs().max() < 1e-5
    coarse = load_runtime(path, "openvino", dtype="bfloat16")(lq)
    psnr = -10 * torch.log10((coarse - expected).square().mean())
    assert psnr > 45
    assert coarse.isfinite().all()


@pytest.mark.parametrize(
    ("runtime", "options", "parts"),
    [
        ("tensorrt", {}, ["runtime", "onnx, openvino", "'tensorrt'"]),
        ("torch", {}, ["runtime", "onnx, openvino", "'torch'"]),
        ("openvino", {"dtype": "float16"}, ["dtype", "float32 or bfloat16", "'float16'"]),
        ("onnx", {"dtype": "bfloat16"}, ["ONNX Runtime", "float32", "'bfloat16'"]),
        ("onnx", {"device": "tpu"}, ["device", "cpu or cuda", "'tpu'"]),
        ("openvino", {"device": "cuda"}, ["device", "cpu or gpu", "'cuda'"]),
        ("onnx", {"threads": 0}, ["threads", "at least 1", "0"]),
    ],
)
def test_mistakes(exported, runtime: str, options: dict, parts: list[str]) -> None:
    path = exported("openvino" if runtime == "openvino" else "onnx")
    with pytest.raises(UserError) as caught:
        load_runtime(path, runtime, **options)
    assert all(part in str(caught.value) for part in parts)
    assert "\n" not in str(caught.value)


def test_bad_files(exported, tmp_path) -> None:
    onnx_file, xml_file = exported("onnx"), exported("openvino")
    with pytest.raises(FileNotFoundError, match=r"none\.onnx"):
        load_runtime(tmp_path / "none.onnx", "onnx")
    with pytest.raises(UserError, match=r"openvino.*\.xml"):
        load_runtime(onnx_file, "openvino")
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(onnx_file.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"cut\.onnx is damaged"):
        load_runtime(cut, "onnx")
    alone = tmp_path / "alone.xml"
    shutil.copy(xml_file, alone)
    with pytest.raises(FileNotFoundError, match=r"alone\.bin"):
        load_runtime(alone, "openvino")
    shutil.copy(xml_file.with_suffix(".bin"), alone.with_suffix(".bin"))
    alone.write_text("<?xml version='1.0'?><net>")
    with pytest.raises(UserError, match=r"alone\.xml is damaged") as caught:
        load_runtime(alone, "openvino")
    assert "\n" not in str(caught.value)


def test_foreign_files_are_refused(exported, tmp_path) -> None:
    path = exported("onnx")
    import onnx

    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(UserError, match=r"scale or num_in_ch.*basicsr export"):
        load_runtime(tmp_path / "bare.onnx", "onnx")
    model.metadata_props.add(key="scale", value="2000000")
    model.metadata_props.add(key="num_in_ch", value="3")
    onnx.save(model, tmp_path / "wild.onnx")
    with pytest.raises(UserError, match=r"scale or num_in_ch.*basicsr export"):
        load_runtime(tmp_path / "wild.onnx", "onnx")


@pytest.mark.parametrize(("runtime", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_error_for_a_missing_package_names_the_command(exported, monkeypatch, runtime: str, package: str) -> None:
    path = exported(runtime)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"{package} .*pip install"):
        load_runtime(path, runtime)
