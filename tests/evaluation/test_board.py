"""The check of a leaderboard reports every fault in one line, before anything is measured."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from han_arch import HAN
from han_arch.archs import components
from han_arch.errors import UserError
from han_arch.evaluation import board, sets


def faults(options: dict[str, Any]) -> list[str]:
    with pytest.raises(UserError) as caught:
        board.load(options)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def write_lq(hr: Path, folder: Path, suffix: str = "", scale: int = 2) -> None:
    folder.mkdir()
    for path in hr.iterdir():
        image = sets.load_rgb_or_grey(path)
        height, width = (side - side % 2 for side in image.shape[:2])
        small = cv2.resize(image, (width // scale, height // scale))
        cv2.imwrite(str(folder / f"{path.stem}{suffix}.png"), small)


def test_good_options_make_a_board(board_options: dict[str, Any]) -> None:
    checked = board.load(board_options)
    assert [contestant.name for contestant, _ in checked.runs] == ["Bicubic", "HAN", "HAN", "EDSR", "EDSR"]
    assert [image.name for image in checked.sets[0].images] == ["a", "b", "c"]
    assert [image.grey for image in checked.sets[0].images] == [False, False, True]
    assert checked.protocol.lr_border == "symmetric"


@pytest.mark.parametrize("suffix", ["", "x2"])
def test_given_lr_is_named_in_the_protocol(
    suffix: str, board_options: dict[str, Any], hr_folder: Path, tmp_path: Path
) -> None:
    write_lq(hr_folder, tmp_path / "LR", suffix)
    board_options["datasets"]["Set14"]["dataroot_lq"] = str(tmp_path / "LR")
    checked = board.load(board_options)
    assert checked.sets[0].protocol.lr_border == "as given"
    lq, gt = checked.sets[0].images[0].load(checked.sets[0].protocol)
    assert (lq.shape, gt.shape) == ((16, 20, 3), (32, 40, 3))


def test_lr_of_another_scale(board_options: dict[str, Any], hr_folder: Path, tmp_path: Path) -> None:
    write_lq(hr_folder, tmp_path / "LR", scale=4)
    board_options["datasets"]["Set14"]["dataroot_lq"] = str(tmp_path / "LR")
    lines = faults(board_options)
    assert len(lines) == 3
    for part in ("a.png has 10x8", "x2 needs 20x16", "a.png has 40x32", "mod-scale"):
        assert part in lines[0]


def test_lr_of_other_names(board_options: dict[str, Any], hr_folder: Path, tmp_path: Path) -> None:
    write_lq(hr_folder, tmp_path / "LR")
    (tmp_path / "LR" / "b.png").rename(tmp_path / "LR" / "bee.png")
    board_options["datasets"]["Set14"]["dataroot_lq"] = str(tmp_path / "LR")
    no_lr, no_hr = faults(board_options)
    for part in ("Set14", "b.png", "no LR file"):
        assert part in no_lr
    for part in ("Set14", "bee.png", "no HR file"):
        assert part in no_hr


def test_missing_empty_and_corrupt_sets(board_options: dict[str, Any], hr_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    data = (hr_folder / "a.png").read_bytes()
    (hr_folder / "a.png").write_bytes(data[: len(data) // 2])
    board_options["datasets"] |= {
        "Set5": {"dataroot_gt": str(tmp_path / "nowhere")},
        "B100": {"dataroot_gt": str(tmp_path / "empty")},
        "Urban100": {"dataroot": "x"},
    }
    lines = faults(board_options)
    parts = [("a.png", "damaged"), ("Set5", "no folder"), ("B100", "no image"), ("Urban100", "'dataroot'"),
             ("Urban100", "dataroot_gt", "None")]  # fmt: skip
    for line, wanted in zip(lines, parts, strict=True):
        assert all(part in line for part in wanted), line


def test_contestants_that_cannot_run(board_options: dict[str, Any], tmp_path: Path) -> None:
    models = board_options["models"]
    (tmp_path / "garbage.pth").write_bytes(b"no checkpoint at all")
    whole = tmp_path / "module.pth"
    torch.save(torch.nn.Linear(2, 2), whole)
    network_g = models["EDSR"]["network_g"]
    models |= {
        "absent": {"checkpoint": "nowhere.pth", "network_g": network_g},
        "garbage": {"checkpoint": str(tmp_path / "garbage.pth"), "network_g": network_g},
        "pickle": {"checkpoint": str(whole), "network_g": network_g},
        "other": {"checkpoint": models["HAN"]["checkpoint"], "network_g": network_g},
        "wider": {
            "checkpoint": models["HAN"]["checkpoint"],
            "network_g": models["HAN"]["network_g"] | {"num_feat": 16},
        },
        "huge": {"checkpoint": models["EDSR"]["checkpoint"], "network_g": network_g | {"num_feat": 10**6}},
        "x4": {"checkpoint": models["EDSR"]["checkpoint"], "network_g": network_g | {"upscale": 4}},
        "unknown": {"checkpoint": models["EDSR"]["checkpoint"], "network_g": network_g | {"type": "EDRS"}},
        "keyed": {"checkpoint": models["HAN"]["checkpoint"], "param_key": "params"},
        "nothing": {},
        "variant": {"type": "Bicubic", "variant": "full"},
    }
    board_options["baseline"] = "RCAN"
    lines = {line.split(":")[0]: line for line in faults(board_options)}
    wrong = models.keys() - {"Bicubic", "HAN", "EDSR"}
    assert wrong == {key for key in lines if "RCAN" not in key}
    assert len(lines) == len(wrong) + 1
    assert "no weight file nowhere.pth" in lines["absent"]
    assert "damaged" in lines["garbage"]
    assert "would run code" in lines["pickle"]
    assert "do not fit the network EDSR" in lines["other"]
    assert "does not fit the network" in lines["wider"]
    assert "do not fit the network EDSR" in lines["x4"]
    assert "do not fit the network EDSR" in lines["huge"]  # before its 144 TB are allocated
    assert "cannot build the network of network_g" in lines["unknown"]
    assert "'params' needs network_g" in lines["keyed"]
    assert "'variant'; did you mean variants?" in lines["variant"]


def test_weights_of_contestants_are_checked_and_other_forms_load(board_options: dict[str, Any], tmp_path: Path) -> None:
    models = board_options["models"]
    for name in ("HAN", "EDSR"):
        weights = torch.load(models[name]["checkpoint"], weights_only=True)
        weights = weights.get("params_ema", weights.get("params", weights))
        torch.save({"state_dict": {f"net.{key}": value for key, value in weights.items()}}, tmp_path / f"{name}.ckpt")
        weights["conv_last.bias"] = weights["conv_last.bias"] * torch.nan
        torch.save(weights, tmp_path / f"{name}-nan.pth")
        models[f"nan {name}"] = models[name] | {"checkpoint": str(tmp_path / f"{name}-nan.pth")}
        models[f"key {name}"] = models[name] | {"param_key": "typo"}
        models[name] = models[name] | {"checkpoint": str(tmp_path / f"{name}.ckpt")}
    lines = {line.split(":")[0]: line for line in faults(board_options)}
    assert lines.keys() == {f"{what} {name}" for what in ("nan", "key") for name in ("HAN", "EDSR")}
    for name in ("HAN", "EDSR"):
        assert "conv_last.bias contains nan" in lines[f"nan {name}"]
        assert "typo" in lines[f"key {name}"]


def test_components_without_weights_leave_no_trace_in_a_file(
    board_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(components, "COMPONENTS", dict(components.COMPONENTS))

    @components.register_component("spatial")
    class Halve(torch.nn.Module):
        def forward(self, feat: torch.Tensor) -> torch.Tensor:
            return feat / 2

    model = board_options["models"]["HAN"]
    model["network_g"] = model["network_g"] | {"spatial_attention": "Halve"}
    options = {key: value for key, value in model["network_g"].items() if key != "type"}
    torch.save({"params": HAN(**options).state_dict()}, model["checkpoint"])
    net = next(one.net for one in board.load(board_options).contestants if one.name == "HAN")
    assert isinstance(net.csam, Halve)  # type: ignore[union-attr]
    model["network_g"] = model["network_g"] | {"spatial_attention": "CSAM"}
    with pytest.raises(UserError, match=r"are missing \(csam"):
        board.load(board_options)


def test_a_network_of_another_scale(board_options: dict[str, Any]) -> None:
    board_options["scale"] = 3
    (line,) = [line for line in faults(board_options) if line.startswith("HAN")]
    assert "x2" in line
    assert "x3" in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": {}}, "needs the option models"),
        ({"datasets": None}, "needs the option datasets"),
        ({"scale": "4"}, "needs the option scale"),
        ({"modles": {}}, "modles.*did you mean models"),
        ({"variants": ["half"]}, "variant must be full"),
        ({"variants": ["chop+chop"]}, "variant must be full"),
        ({"variants": ["tiles-0-4"]}, "variant must be full"),
        ({"variants": ["tiled-64-8"]}, "'tiled-64-8' was renamed; use tiles-64-8.*differ"),
        ({"variants": "full"}, "variants must be a list"),
        ({"cost": {"lr_size": 4}}, "cost:lr_size.*16.*got 4"),
        ({"cost": {"lr_siez": 64}}, "'lr_siez' of cost; did you mean lr_size"),
        ({"cost": 5}, "cost must be a mapping.*lr_size: 64, repeat: 5.*got 5"),
        ({"protocol": 5}, "protocol must be a mapping.*channel: Y.*got 5"),
        ({"gallery": {"crops": 5}}, "gallery:crops must be a list.*got 5"),
        ({"num_gpu": -1}, "num_gpu"),
        ({"protocol": {"channel": "YCbCr"}}, "channel.*YCbCr.*RGB, Y"),
        ({"perceptual": ["fid"]}, "perceptual.*lpips, dists, niqe.*fid"),
        ({"perceptual": [["lpips"]]}, "perceptual.*list of metrics"),
    ],
)
def test_options_that_make_no_board(change: dict, message: str, board_options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=message):
        board.load(board_options | change)


def test_the_digest_of_an_image_depends_on_its_pixels_alone(board_options: dict[str, Any], hr_folder: Path) -> None:
    before = [image.digest for image in board.load(board_options).sets[0].images]
    pixels = cv2.imread(str(hr_folder / "a.png"))
    cv2.imwrite(str(hr_folder / "a.png"), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert [image.digest for image in board.load(board_options).sets[0].images] == before
    pixels[0, 0, 0] ^= 1
    cv2.imwrite(str(hr_folder / "a.png"), pixels)
    after = [image.digest for image in board.load(board_options).sets[0].images]
    assert np.array([x == y for x, y in zip(before, after, strict=True)]).tolist() == [False, True, True]
