"""Hostile checkpoints: every form of file, with damage to its bytes, tensors, names, options or containers."""

import gzip
import io
import json
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from fuzzing import trial
from fuzzing.damage import damaged
from safetensors.torch import save as save_safetensors

OPTIONS = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_group": 1, "num_block": 1, "squeeze_factor": 4,
           "upscale": 2, "res_scale": 1, "img_range": 255.0, "rgb_mean": [0.4, 0.4, 0.4], "layer_attention": "LAM",
           "spatial_attention": "CSAM", "lam_form": "released", "fusion": "conv", "num_csam": 1}  # fmt: skip
_MOST_LETTERS = 2500  # in a message of one line


def hostile(rng: random.Random, folder: Path) -> Path:
    """Write a hostile checkpoint and return its path. A few inputs are sound, to see that they still load."""
    make = rng.choice((_bytes, _tensor, _tensor, _name, _option, _option, _container, _size, _archive, _safetensors))
    path = folder / f"net{rng.choice(('.pth', '.pt', '.ckpt', '.safetensors', '.PTH', ''))}"
    path.write_bytes(make(rng))
    return path


def check(path: Path, out: Path) -> str:
    """Give the checkpoint to one of the commands. It is loaded, or refused with one line of limited length."""
    ways: tuple[Callable[[], tuple[int, str]], ...] = (
        lambda: trial.run("zoo", "convert", path, f"{out}/"),
        lambda: trial.run("zoo", "convert", path, out / "net.pth", "--half", "--param_key", "params"),
        lambda: trial.run("zoo", "verify", path),
    )
    way = random.Random(path.read_bytes()).choice(ways)
    with trial.nothing_lost(path.parent, out, written=True):
        status, output = way()
    if status == 2 and (output.count("\n") > 1 or len(output) > _MOST_LETTERS):
        raise trial.Finding(f"an error of {output.count(chr(10))} lines, {len(output)} letters: {output[:2000]}")
    if status == 2 and any(out.glob("*.pth")):
        raise trial.Finding("a file was written after an error")
    return "loaded" if status == 0 else "refused"


@cache
def _weights() -> dict[str, torch.Tensor]:
    from han_arch import HAN

    torch.manual_seed(0)
    return HAN(**OPTIONS).state_dict()  # type: ignore[arg-type]


def _saved(content: Any, *, legacy: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def _content(**changed: Any) -> dict[str, Any]:
    return {"params": dict(_weights()), "network_g": {"type": "HAN", **OPTIONS}} | changed


def _header(network_g: Any = None, **metadata: str) -> dict[str, str]:
    return {"network_g": json.dumps({"type": "HAN", **OPTIONS} if network_g is None else network_g)} | metadata


def _bytes(rng: random.Random) -> bytes:
    """Damage single bytes of a sound file."""
    files = [_saved(_content()), _saved(_content(), legacy=True), save_safetensors(dict(_weights()), _header())]
    return damaged(rng, rng.choice(files))


def _tensor(rng: random.Random) -> bytes:
    """Replace one weight by a tensor of another kind, shape or value."""
    weights = dict(_weights())
    name = rng.choice(list(weights))
    value = weights[name].clone()
    flat = torch.rand(10**6)
    kinds: tuple[Callable[[], Any], ...] = (
        lambda: value.to_sparse(),
        lambda: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
        lambda: value.to("meta"),
        lambda: value.to(torch.complex64),
        lambda: value.to(torch.int64),
        lambda: value > 0,
        lambda: torch.tensor(1.0),
        lambda: torch.zeros(0),
        lambda: torch.zeros([0, *value.shape[1:]]),
        lambda: value * torch.nan,
        lambda: value - torch.inf,
        lambda: value.double() * 1e300,
        lambda: value.double(),
        lambda: value.half(),
        lambda: value.bfloat16(),
        lambda: value.to(torch.float8_e4m3fn),
        lambda: value * 1e38,
        lambda: torch.zeros(1).expand(10**12),
        lambda: torch.zeros(1).expand(value.shape),
        lambda: flat[: value.numel()].view_as(value),
        lambda: flat[:: 10**6 // value.numel()][: value.numel()].view_as(value),
        lambda: torch.nn.Parameter(value),
        lambda: torch.nested.nested_tensor([value, value]),
        lambda: [value],
        lambda: 1.0,
        lambda: None,
        lambda: {"weight": value},
        lambda: value.unsqueeze(0),
        lambda: value.flatten()[:1],
    )
    kind = rng.choice(kinds)
    for one in [name, *rng.sample(list(weights), rng.choice((0, 0, 3)))]:
        value = _weights()[one].clone()
        weights[one] = kind()
    return _saved(_content(params=weights), legacy=rng.random() < 0.2)


def _name(rng: random.Random) -> bytes:
    """Rename, add or remove weights."""
    weights: dict[Any, Any] = dict(_weights())
    names = (0, None, b"x", 1.5, (1, 2), "", "\n", "\x1b[31mred", "9" * 5000, "\ud800", "x" * 10**5, "٣", "a/../b",
             f"body.{'9' * 5000}.conv.weight", f"body.{10**8}.conv.weight", "body.-1.conv.weight", "body.٣.conv.weight",
             "body.00.conv.weight", "group_csam.", "group_csam.9.beta", "upsample.1.weight", "_orig_mod.", "module.",
             "module.conv_first.weight", "_orig_mod.conv_first.weight", "ema.conv_first.weight",
             "net.conv_first.weight", "conv_lam.weight", "lam.log_temperature")  # fmt: skip
    for _ in range(rng.choice((1, 1, 3))):
        old = rng.choice(list(weights))
        value = weights.pop(old) if rng.random() < 0.5 else weights[old]
        if rng.random() < 0.9:
            weights[rng.choice(names)] = value
    if rng.random() < 0.3:
        prefixes = [rng.choice(("module.", "_orig_mod.", "model.", "net.", "netG.", "x")) for _ in range(3)]
        weights = {"".join(prefixes) + str(key): value for key, value in weights.items()}
    return _saved(_content(params=weights) if rng.random() < 0.5 else weights)


def _laughs() -> list[Any]:
    """Return a list of ten lists, each ten times the same list, and so on: its text has 10**9 letters."""
    one: list[Any] = ["ha"]
    for _ in range(9):
        one = [one] * 10
    return one


def _option(rng: random.Random) -> bytes:
    """Give an option another value, or pass an unknown one."""
    laughs = _laughs()
    values = (torch.zeros(3), torch.tensor(2), torch.nan, -torch.inf, 0, -1, 1, 2, 3.0, 2.0, 9000, 10**9, 10**30,
              10**5000, -(10**9), True, None, "", "8", "x" * 10**5, "a\nb", [], [1.0], [0.4] * 10**5, ["a", "b", "c"],
              laughs, {}, {"a": 1}, b"x", (0.4, 0.4, 0.4), 1e300, {1, 2}, 1j)  # fmt: skip
    options: dict[Any, Any] = {"type": "HAN", **OPTIONS}
    for _ in range(rng.choice((1, 1, 2))):
        options[rng.choice((*options, *options, "typo", 1, None, "self"))] = rng.choice(values)
    if rng.random() < 0.1:
        options = rng.choice((*values, {}, {"type": "EDSR"}))
    weights = _weights()
    written = options.values() if isinstance(options, dict) else (options,)
    if rng.random() < 0.3 and not any(value is laughs for value in written):
        try:
            return save_safetensors(dict(weights), _header(options))
        except (TypeError, ValueError):
            pass
    return _saved(_content(network_g=options))


def _container(rng: random.Random) -> bytes:
    """Put the weights into nested, foreign or impossible containers."""
    inner: Any = rng.choice((dict(_weights()), {}, [], None, 1.0, _content(), {"optimizer": {0: dict(_weights())}}))
    keys = ("params", "params_ema", "state_dict", "model", "net", "g_ema", "ema", "module", "x", 0, None, "network_g")
    for _ in range(rng.choice((0, 1, 2, 3, 5, 200))):
        inner = rng.choice(({}, {}, {"epoch": 3, "optimizer": {"state": {0: torch.ones(2)}}})) | {
            rng.choice(keys): inner
        }
    if isinstance(inner, dict) and rng.random() < 0.3:
        for key in rng.sample(keys, 5):
            inner[key] = inner
    if rng.random() < 0.1:
        inner = [inner]
    return _saved(inner)


def _size(rng: random.Random) -> bytes:
    """Describe a network that is far larger than the file."""
    weights, options = dict(_weights()), dict(OPTIONS)
    way = rng.randrange(6)
    if way == 0:
        options[rng.choice(("num_feat", "num_group", "num_block", "num_in_ch", "num_csam"))] = rng.choice(
            (9000, 10**5, 10**8, 2**31, 2**40)
        )
    elif way == 1:
        wide = rng.choice((3000, 9000, 30000))
        weights["conv_first.weight"] = torch.zeros(wide, 3, 3, 3, dtype=torch.float8_e4m3fn)
        weights["upsample.0.weight"] = torch.zeros(1, dtype=torch.float8_e4m3fn).expand(4 * wide, wide, 3, 3)
        options["num_feat"] = wide
    elif way == 2:
        many = rng.choice((500, 3000))
        one = torch.zeros(1)
        weights |= {f"body.{number}.conv.bias": one for number in range(many)}
        weights |= {f"body.0.residual_group.{number}.rcab.0.bias": one for number in range(many)}
        options |= {"num_group": many, "num_block": many}
    elif way == 3:
        weights = {key: torch.zeros(1).expand(value.shape) for key, value in weights.items()}
    elif way == 4:
        one = torch.zeros(10**6)
        weights |= {f"more.{number}": one for number in range(10**4)}
    else:
        weights |= {f"upsample.{number}.weight": torch.zeros(32, 8, 3, 3) for number in range(0, 400, 2)}
    content = _content(params=weights, network_g={"type": "HAN", **options})
    return _saved(content if rng.random() < 0.7 else weights)


class _RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/hostile_checkpoint_ran",)


def _rezipped(data: bytes, *, deflated: bool = False, **changed: bytes | None) -> bytes:
    """Write a torch archive again. Members named in `changed`, with `__` for `/`, get new content or are left out."""
    stream = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w", kind) as new:
        for member in old.infolist():
            name = member.filename.partition("/")[2].replace("/", "__")
            content = changed.get(name, old.read(member))
            if content is not None:
                new.writestr(member.filename, content)
    return stream.getvalue()


def _filled(rng: random.Random) -> bytes:
    """Return a pickle that calls an allowed class with a size of many gigabytes."""
    name = rng.choice(("builtins\nbytearray", "torch\nFloatTensor", "torch\nHalfTensor", "torch\nFloatStorage"))
    weight = rng.choice(list(_weights())).encode()
    length = len(weight).to_bytes(4, "little")
    call = f"c{name}\n".encode() + b"\x8a\x05" + (3 * 10**10).to_bytes(5, "little") + b"\x85R"
    return b"\x80\x02}X" + length + weight + call + b"s."


def _archive(rng: random.Random) -> bytes:
    """Write an archive that is no checkpoint, a bomb, or another file by mistake."""
    sound = _saved(_content())
    bomb = _saved({"conv_first.weight": torch.zeros(2 * 10**7)})
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: _rezipped(bomb, deflated=True),
        lambda: _rezipped(sound, deflated=True),
        lambda: _rezipped(sound, data__0=b"short"),
        lambda: _rezipped(sound, data__1=None),
        lambda: _rezipped(sound, **{"data.pkl": damaged(rng, b"\x80\x02}q\x00.")}),
        lambda: _rezipped(sound, **{"data.pkl": None}),
        lambda: _rezipped(sound, byteorder=rng.choice((b"big", b"", b"x" * 99))),
        lambda: _rezipped(sound, version=b"9" * 50),
        lambda: _rezipped(sound) + bytes(100),
        lambda: bytes(100) + sound,
        lambda: gzip.compress(sound),
        lambda: pickle.dumps(dict.fromkeys("ab", 1)),
        lambda: pickle.dumps(_RunsCode(), protocol=rng.randrange(6)),
        lambda: _saved({"params": _RunsCode()}, legacy=rng.random() < 0.5),
        lambda: _rezipped(sound, **{"data.pkl": _filled(rng)}),
        lambda: _filled(rng),
        lambda: b"\x80\x02" + b"(" * 10**5 + b".",
        lambda: b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
        lambda: b"\x08\x08\x12\x07pytorch" + rng.randbytes(500),
        lambda: rng.choice((b"", b"\n", b"PK", b"PK\x05\x06" + bytes(18), b"{", b"\x80", bytes(1000))),
        lambda: b"<!DOCTYPE html><html><body>404</body></html>",
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        lambda: rng.randbytes(rng.choice((1, 10, 300, 10**5))),
        lambda: b"\x89PNG\r\n\x1a\n" + rng.randbytes(100),
    )
    return rng.choice(ways)()


def _safetensors(rng: random.Random) -> bytes:
    """Write a safetensors file with a header that lies, or with metadata that are hard to read."""
    deep = "[" * 10**5 + "]" * 10**5
    if rng.random() < 0.4:
        text = rng.choice((deep, "{", "[]", "NaN", "null", '{"type": NaN}', '{"a":1,"a":2}', "{}", "x" * 10**6, '"'))
        return save_safetensors(dict(_weights()), {"network_g": text, "provenance": rng.choice((text, "{}"))})
    data = save_safetensors(dict(_weights()), _header())
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    entry = header[rng.choice([key for key in header if key != "__metadata__"])]
    changes: tuple[Callable[[], Any], ...] = (
        lambda: entry.update(dtype=rng.choice(("F16", "BF16", "F8_E5M2", "I64", "BOOL", "X", 1, "F4", "C64"))),
        lambda: entry.update(shape=rng.choice(([10**12], [-1], [], "x", [2**63], [0], [8.5], None))),
        lambda: entry.update(data_offsets=rng.choice(([0, 4], [0, 10**12], [4, 0], [-4, 0], [0], "x", [0, 2**64]))),
        lambda: header.update(__metadata__=rng.choice((1, {"a": 1}, [], {"network_g": 1}, None))),
        lambda: header.clear(),
        lambda: header.update(more=entry),
    )
    rng.choice(changes)()
    text = json.dumps(header).encode()
    way = rng.randrange(5)
    if way == 0:
        text = text[:-1] + b"," + json.dumps({"conv_last.bias": entry}).encode()[1:]
    elif way == 1:
        text = rng.choice((deep.encode(), b"{" * 10**5, text[:-1], text + b"  ", b'{"a":' * 10**4))
    size = rng.choice((len(text), len(text), len(text), 2**63, 10**8, 0, len(text) + 9))
    return struct.pack("<Q", size) + text + body
