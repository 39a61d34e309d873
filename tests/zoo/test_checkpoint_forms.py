"""The content of a file decides whether a checkpoint loads. What cannot load is named truly, before it takes memory."""

import gzip
import io
import json
import random
import resource
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzzing import checkpoints
from safetensors.torch import save_file

from han_arch import HAN, cli, load_model
from han_arch.errors import UserError
from han_arch.files import hash_file
from han_arch.zoo.read import read_raw
from han_arch.zoo.recognise import read_checkpoint

OPTIONS: dict[str, Any] = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_group": 1, "num_block": 1,
                           "squeeze_factor": 4, "upscale": 2}  # fmt: skip
LIMIT = 400 * 2**20  # bytes of memory that a refusal may take


@pytest.fixture(scope="module")
def net() -> HAN:
    torch.manual_seed(0)
    return HAN(**OPTIONS).eval()


@pytest.fixture
def state(net: HAN) -> dict[str, torch.Tensor]:
    return dict(net.state_dict())


def save(content: object, path: Path, **how: bool) -> Path:
    torch.save(content, path, **how)
    return path


def assert_loads(path: Path, net: HAN) -> None:
    loaded = load_model(path).state_dict()
    for name, value in net.state_dict().items():
        torch.testing.assert_close(loaded[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("form", ["zip", "old", "safetensors"])
def test_a_hash_that_the_file_must_have(form: str, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    if form == "safetensors":
        save_file(state, path, {"network_g": json.dumps(OPTIONS)})
    else:
        save(state, path, _use_new_zipfile_serialization=form == "zip")
    plain, checked = read_raw(path), read_raw(path, sha256=hash_file(path))
    assert checked.network_g == plain.network_g
    torch.testing.assert_close(checked.tensors, plain.tensors, rtol=0, atol=0)
    with pytest.raises(UserError, match=r"net\.pth changed while it was read"):
        read_raw(path, sha256="0" * 64)


def test_numbers_of_a_rare_type_in_a_file_of_known_hash(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    header = json.dumps({"a": {"dtype": "F8_E8M0", "shape": [8], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(UserError, match=r"net\.safetensors is damaged or"):
        read_raw(path, sha256=hash_file(path))


def refusal(path: Path) -> str:
    """Return the message of load_model, which must be one line of limited length."""
    with pytest.raises(UserError) as caught:
        load_model(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert len(message) < 1500
    return message


def refused_by_every_command(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Give a checkpoint to the commands that load one; return their error lines. Nothing may be written."""
    (tmp_path / "photo").mkdir()
    (tmp_path / "photo" / "a.ppm").write_bytes(b"P6 8 8 255\n" + bytes(192))
    commands = (
        ("upscale", tmp_path / "photo" / "a.ppm", "-o", tmp_path / "sr.png", "--model", path),
        ("inspect", tmp_path / "photo" / "a.ppm", "--model", path, "-o", tmp_path / "figure.png"),
        ("export", path, "--to", "onnx", "-o", tmp_path / "net.onnx"),
        ("zoo", "convert", path, tmp_path / "out.pth"),
    )
    before = set(tmp_path.rglob("*"))
    lines = []
    for words in commands:
        assert cli.main([str(word) for word in words]) in (1, 2)
        lines.append(capsys.readouterr().err)
        assert "Traceback" not in lines[-1]
    assert cli.main(["zoo", "verify", str(path)]) == 1
    lines.append(capsys.readouterr().out)
    assert set(tmp_path.rglob("*")) == before
    return lines


@pytest.mark.parametrize(
    "prefix",
    ["_orig_mod.module.", "module.module.", "module._orig_mod.", "_orig_mod._orig_mod.", "model.", "net.", "generator.",
     "netG.", "model._orig_mod.module.", "module.model.net.", "_fsdp_wrapped_module.", "sr_network."],
)  # fmt: skip
def test_prefixes_in_any_order(prefix: str, net: HAN, state: dict, tmp_path: Path) -> None:
    assert_loads(save({prefix + key: value for key, value in state.items()}, tmp_path / "net.pth"), net)


def test_wrappers_inside_a_name(net: HAN, state: dict, tmp_path: Path) -> None:
    """torch.compile of single blocks adds its prefix in the middle of a name."""
    inner = {key.replace("body.0.", "body.0._orig_mod."): value for key, value in state.items()}
    assert_loads(save(inner, tmp_path / "net.pth"), net)
    averaged = {"n_averaged": torch.tensor(3)} | {f"module.{key}": value for key, value in state.items()}
    assert_loads(save(averaged, tmp_path / "averaged.pth"), net)


@pytest.mark.parametrize(
    "keys",
    [["model"], ["state_dict"], ["params_ema"], ["g_ema"], ["model_state_dict"], ["net"], ["ema"], ["module"],
     ["model", "state_dict"], ["checkpoint", "model", "params"]],
)  # fmt: skip
def test_containers(keys: list[str], net: HAN, state: dict, tmp_path: Path) -> None:
    content: dict = {"network_g": {"type": "HAN", **OPTIONS, "res_scale": 0.5}, keys[-1]: state}
    for key in reversed(keys[:-1]):
        content = {key: content}
    content |= {"optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}, "epoch": 3}
    path = save(content, tmp_path / "net.ckpt")
    assert_loads(path, net)
    assert read_raw(path).weight_key == ".".join(keys)
    assert read_checkpoint(path).arguments["res_scale"] == 0.5


def test_averaged_weights_come_first(net: HAN, state: dict, tmp_path: Path) -> None:
    other = {key: torch.zeros_like(value) for key, value in state.items()}
    path = save({"state_dict": other, "ema_state_dict": state, "ema": {"decay": 0.9}}, tmp_path / "net.pth")
    assert_loads(path, net)
    assert read_raw(path).keys == ("ema_state_dict", "state_dict")
    settings = {"ema": {"num_updates": torch.tensor(3), "decay": torch.tensor(0.9)}, "state_dict": state}
    assert_loads(save(settings, tmp_path / "settings.ckpt"), net)
    content = {f"{owner}{key}": value for owner, weights in (("net_g.", other), ("net_g_ema.", state))
               for key, value in weights.items()}  # fmt: skip
    assert_loads(save(content | {"discriminator.conv0.weight": torch.zeros(3)}, tmp_path / "gan.ckpt"), net)
    content = {f"{owner}{key}": value for owner in ("a.", "b.") for key, value in state.items()}
    assert "ema_state_dict are used" in read_checkpoint(path).notes[0]
    assert "several networks (a., b.)" in refusal(save(content, tmp_path / "two.pth"))


def test_formats_are_told_by_content(net: HAN, state: dict, tmp_path: Path) -> None:
    header = {"network_g": json.dumps({"type": "HAN", **OPTIONS})}
    for name in ("net.SAFETENSORS", "net.pth", "net"):
        save_file(state, tmp_path / name, header)
        assert_loads(tmp_path / name, net)
        assert cli.main(["zoo", "verify", str(tmp_path / name)]) in (0, 1)
        assert cli.main(["zoo", "convert", str(tmp_path / name), f"{tmp_path}/out/"]) == 0
    for name, legacy in (
        ("a.safetensors", False),
        ("b.PTH", False),
        ("legacy.pth", True),
        ("legacy.safetensors", True),
    ):
        assert_loads(save(state, tmp_path / name, _use_new_zipfile_serialization=not legacy), net)
        assert cli.main(["zoo", "convert", str(tmp_path / name), str(tmp_path / f"{name}.OUT.PTH")]) == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_other_precisions_become_float32(dtype: torch.dtype, state: dict, tmp_path: Path) -> None:
    path = save({key: value.to(dtype) for key, value in state.items()}, tmp_path / "net.pth")
    for name, value in load_model(path).state_dict().items():
        assert torch.equal(value, state[name].to(dtype).float())


def test_views_of_one_storage_load_and_convert(net: HAN, state: dict, tmp_path: Path) -> None:
    flat = torch.cat([torch.zeros(10**5), *(value.flatten() for value in state.values())])
    sizes = [10**5, *(value.numel() for value in state.values())]
    views = [part.view(value.shape) for part, value in zip(flat.split(sizes)[1:], state.values(), strict=True)]
    content = dict(zip(state, views, strict=True))
    content["body.0.conv.bias"] = content["conv_after_body.bias"]  # shared, as tied weights are
    path = save(content, tmp_path / "net.pth")
    assert all(value.untyped_storage().nbytes() == 4 * value.numel() for value in read_raw(path).tensors.values())
    assert cli.main(["zoo", "convert", str(path), str(tmp_path / "out.safetensors")]) == 0
    assert torch.equal(load_model(tmp_path / "out.safetensors").conv_last.weight, net.conv_last.weight)


def zipped(names: list[str]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return stream.getvalue()


def tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return stream.getvalue()


def numpied() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(9))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html>\n<html>", "web page"),
        (b"\n <HTML>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (gzip.compress(b"x" * 99, mtime=0), "gunzip"),
        (tarred(), "tar archive"),
        (zipped(["a/constants.pkl", "a/data.pkl", "a/code/x.py"]), "TorchScript … state_dict()"),
        (zipped(["a/archive_format", "a/models/model.json"]), "torch.export"),
        (zipped(["readme.txt", "net.pth"]), "zip archive … readme.txt"),
        (zipped(["../\nx", "a", "a/b", "."]), "zip archive"),
        (b"\x08\x08\x12\x07pytorch\x1a\x032.4" + bytes(300), "ONNX"),
        (b"\x89PNG\r\n\x1a\n" + bytes(300), "an image"),
        (b"\xff\xd8\xff\xe0" + bytes(300), "an image"),
        (numpied(), "NumPy"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(300), "TensorFlow Lite"),
        (b"\x89HDF\r\n\x1a\n" + bytes(300), "HDF5"),
        (b"PK\x03\x04" + bytes(300), "damaged"),
        (b'{"metadata": {"total_size": 9}, "weight_map": {}}', "text file"),
        (bytes(8) + b"{}", "safetensors"),
        ((2**63).to_bytes(8, "little") + b"{", "safetensors"),
        (bytes(5000), "damaged"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_files_are_named(data: bytes, named: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(data)
    message = refusal(path)
    assert all(part in message for part in named.split(" … ")), message


def test_folders_and_training_states_are_named(tmp_path: Path) -> None:
    state = {"epoch": 1, "iter": 5, "optimizers": [{"state": {}}], "schedulers": [], "options": {"path": {}}}
    assert "training state" in refusal(save(state, tmp_path / "5.state"))
    with pytest.raises(UserError, match="is a folder"):
        load_model(tmp_path)


KINDS: list[tuple[str, Callable[[torch.Tensor], Any], str]] = [
    ("nan", lambda value: value * torch.nan, "nan or inf (8 of 8"),
    ("inf", lambda value: torch.where(value == value.max(), torch.inf, value), "nan or inf (1 of 8"),
    ("too large for float32", lambda value: value.double() * 1e300, "nan or inf"),
    ("sparse", lambda value: value.to_sparse(), "sparse"),
    ("compressed sparse", lambda value: value[None].to_sparse_csr(), "sparse"),
    ("quantised", lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8), "quantised"),
    ("nested", lambda value: torch.nested.nested_tensor([value, value[:3]]), "nested"),
    ("meta", lambda value: value.to("meta"), "without values"),
    ("complex", lambda value: value.to(torch.complex64), "complex"),
    ("integer", lambda value: value.to(torch.int32), "floating-point"),
    ("0-dim", lambda value: torch.tensor(1.0), "another shape"),
    ("no values", lambda value: torch.zeros(0), "another shape"),
    ("10**12 values", lambda value: torch.zeros(1).expand(10**12), "4,000,000,"),
    ("no tensor", lambda value: 1.0, "conv_after_body.bias"),
    ("list", lambda value: [value], "conv_after_body.bias"),
]


@pytest.mark.parametrize(("make", "named"), [kind[1:] for kind in KINDS], ids=[kind[0] for kind in KINDS])
@pytest.mark.filterwarnings("ignore")
def test_unusual_tensors_are_named(make: Callable, named: str, state: dict, tmp_path: Path) -> None:
    state["conv_after_body.bias"] = make(state["conv_after_body.bias"])
    message = refusal(save(state, tmp_path / "net.pth"))
    assert named in message
    assert "conv_after_body.bias" in message or "4,000,000," in message


@pytest.mark.parametrize("name", [0, None, b"x", ("a", "b"), "a\nb", "\x1b[31m", "x" * 10**5, f"body.{'9' * 5000}.x",
                                  "body.٣.conv.weight", "\ud800"])  # fmt: skip
def test_odd_names_get_one_line(name: Any, state: dict, tmp_path: Path) -> None:
    message = refusal(save({**state, name: torch.zeros(1)}, tmp_path / "net.pth"))
    assert message.isprintable()


@pytest.mark.parametrize(
    ("option", "value"),
    [("num_feat", 8.0), ("num_feat", True), ("upscale", 2.0), ("upscale", [2]), ("res_scale", "1"), ("img_range", 0),
     ("img_range", torch.nan), ("img_range", torch.tensor(255.0)), ("rgb_mean", torch.zeros(3)), ("rgb_mean", "abc"),
     ("rgb_mean", [0.4, torch.inf, 0.4]), ("rgb_mean", [[0.4], 0.4, 0.4]), ("lam_form", {}), ("layer_attention", 3),
     ("layer_attention", "x" * 10**6), ("num_csam", 1.0), ("num_block", -1), (1, 1), ("typo", 1), ("self", 1)],
)  # fmt: skip
def test_wrong_options_are_named(option: Any, value: object, state: dict, tmp_path: Path) -> None:
    path = save({"params": state, "network_g": {"type": "HAN", **OPTIONS, option: value}}, tmp_path / "net.pth")
    assert "options of" in (message := refusal(path))
    assert str(option) in message or option == 1


def test_a_text_of_a_billion_letters_is_never_built(state: dict, tmp_path: Path) -> None:
    laughs: list = ["ha"]
    for _ in range(9):
        laughs = [laughs] * 10
    for options in ({"type": laughs}, {"type": "HAN", **OPTIONS, "lam_form": laughs}, {**OPTIONS, "rgb_mean": laughs}):
        refusal(save({"params": state, "network_g": options}, tmp_path / "net.pth"))
    content: dict = {"epoch": 1}
    content |= {"params": content, "model": content, "net": content, "ema": content}
    assert "weights" in refusal(save(content, tmp_path / "self.pth"))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10**5 + "]" * 10**5,
        '{"a": ' + "[" * 900 + "]" * 900 + "}",
        "[]",
        "{",
        "3",
        '"x"',
        '{"type": "HAN", "img_range": NaN}',
    ],
)
def test_metadata_of_safetensors(text: str, state: dict, tmp_path: Path) -> None:
    save_file(state, tmp_path / "net.safetensors", {"network_g": text})
    assert "options" in (message := refusal(tmp_path / "net.safetensors")) or "network_g" in message
    save_file(state, tmp_path / "net.safetensors", {"provenance": text})
    assert cli.main(["zoo", "convert", str(tmp_path / "net.safetensors"), str(tmp_path / "out.pth")]) == (
        0 if text.startswith('{"type') else 2
    )


def bomb() -> bytes:
    """Return a checkpoint of 1 MB that expands to 0.5 GB, without building it in memory."""
    plain = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, plain)
    packed = io.BytesIO()
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
        for name in old.namelist():
            with new.open(name, "w") as member:
                for _ in range(500 if name.endswith("data/0") else 0):
                    member.write(bytes(2**20))
                member.write(old.read(name))
    return packed.getvalue()


def huge(what: str, state: dict) -> object:
    """Return the content of a small checkpoint that describes a huge network."""
    options = {"type": "HAN", **OPTIONS}
    wide = torch.zeros(9000, 3, 3, 3, dtype=torch.float8_e4m3fn)
    if what == "num_group and num_block in names":
        for number in range(3000):
            state[f"body.{number}.conv.bias"] = state[f"body.0.residual_group.{number}.rcab.0.bias"] = torch.zeros(1)
        return state
    if what == "conv_first in shapes":
        return {**state, "conv_first.weight": wide, "upsample.0.weight": torch.zeros(36000, 1, 1, 1)}
    if what == "repeated numbers":
        one = torch.zeros(1)
        return {key: one.expand(9000, 9000, 3, 3) if value.dim() == 4 else value for key, value in state.items()}
    option, value = what.split()
    return {"params": state, "network_g": options | {option: int(value)}}


HUGE = ("num_feat 9000", "num_feat 999999999", "num_feat 1099511627776", "num_block 999999999", "num_group 999999999",
        "num_csam 999999999", "num_in_ch 100000", "num_group and num_block in names", "conv_first in shapes",
        "repeated numbers")  # fmt: skip


def allocating(name: str) -> bytes:
    """Return a checkpoint that calls an allowed class with a size of 2 GB."""
    plain, changed = io.BytesIO(), io.BytesIO()
    torch.save({"conv_first.weight": torch.zeros(1)}, plain)
    key = b"conv_first.weight"
    call = f"c{name}\n".encode() + b"\x8a\x04" + (2**29).to_bytes(4, "little") + b"\x85R"
    program = b"\x80\x02}X" + len(key).to_bytes(4, "little") + key + call + b"s."
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(changed, "w") as new:
        for member in old.namelist():
            new.writestr(member, program if member.endswith("data.pkl") else old.read(member))
    return changed.getvalue()


@pytest.mark.parametrize("name", ["torch\nFloatTensor", "torch\nHalfTensor", "builtins\nbytearray"])
def test_allocations_without_data_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(allocating(name))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = refusal(path)
    assert "bytes are stored" in message or "bytearray" in message
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < LIMIT


@pytest.mark.parametrize("what", [*HUGE, "bomb"])
def test_huge_networks_are_refused_before_memory_is_taken(what: str, state: dict, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    if what == "bomb":
        path.write_bytes(bomb())
    else:
        save(huge(what, state), path)
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = refusal(path)
    assert time.perf_counter() - start < 5
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < LIMIT
    assert "fit" in message or "bytes" in message or "built" in message or "missing" in message


@pytest.mark.parametrize("fault", ["nan", "num_feat 9000"])
def test_every_command_refuses_alike(
    fault: str, state: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = {**state, "conv_last.bias": torch.full((3,), torch.nan)}
    path = save(bad if fault == "nan" else huge(fault, state), tmp_path / "net.pth")
    for line in refused_by_every_command(path, tmp_path, capsys):
        assert ("conv_last.bias" if fault == "nan" else "9000 features") in line


def test_param_key_is_never_replaced(state: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save({"params": state, "ema": state, "optimizer": {}}, tmp_path / "net.pth")
    for number, key in enumerate(("params_ema", "optimizer", "typo")):
        out = tmp_path / f"{number}.pth"
        assert cli.main(["zoo", "convert", str(path), str(out), "--param_key", key]) == 2
        error = capsys.readouterr().err
        assert key in error
        assert "ema, params" in error
        assert not out.exists()
    assert cli.main(["zoo", "convert", str(path), str(tmp_path / "good.pth"), "--param_key", "params"]) == 0
    mine = save({"mine": {"inner": state}}, tmp_path / "mine.pth")
    assert "mine" in refusal(save({"mine": state}, tmp_path / "unknown.pth"))
    assert cli.main(["zoo", "convert", str(tmp_path / "unknown.pth"), f"{tmp_path}/out/", "--param_key", "mine"]) == 0
    assert cli.main(["zoo", "convert", str(mine), f"{tmp_path}/out/", "--param_key", "mine"]) == 2
    bare = save(state, tmp_path / "bare.pth")
    assert cli.main(["zoo", "convert", str(bare), str(tmp_path / "b.pth"), "--param_key", "params_ema"]) == 2
    assert "needs no key" in capsys.readouterr().err


def test_half_refuses_values_that_float16_cannot_hold(
    state: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save({**state, "conv_last.bias": torch.tensor([1e5, 0, 0])}, tmp_path / "net.pth")
    assert cli.main(["zoo", "convert", str(path), str(tmp_path / "half.pth"), "--half"]) == 2
    assert "conv_last.bias" in capsys.readouterr().err
    assert not (tmp_path / "half.pth").exists()


@pytest.mark.parametrize("index", range(60))
def test_hostile_checkpoints(index: int, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    path = checkpoints.hostile(random.Random(f"hostile {index}"), tmp_path / "in")
    assert checkpoints.check(path, tmp_path / "out") in ("loaded", "refused")
