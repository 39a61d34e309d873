"""Tests of `basicsr zoo publish`: it writes a complete and correct release folder, or none."""

import csv
import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from releases import ITERATIONS, TINY, Made

from han_arch import HAN, cli, load_model
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.score import Score
from han_arch.opt import read
from han_arch.release import card, openmodeldb
from han_arch.zoo.read import read_header


def test_everything_is_there_with_its_hash(made: Made) -> None:
    files = {path.relative_to(made.release).as_posix() for path in made.release.rglob("*") if path.is_file()}
    stem = made.entry.file.removesuffix(".safetensors")
    assert files == {
        made.entry.file, f"{stem}.json", "SHA256SUMS", "README.md", "train_HAN-S_x4.yml", "training.log", "train.csv",
        "val_Set5.csv", "curves.png", "per_image.csv", "Set5/img_0.png", "Set5/img_1.png",
        "openmodeldb/4x-han-s-x4.json", "openmodeldb/architectures_han.json", "entry.json",
    }  # fmt: skip
    sums = dict(reversed(line.split("  ")) for line in (made.release / "SHA256SUMS").read_text().splitlines())
    assert sums.keys() == files - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((made.release / name).read_bytes()).hexdigest() == digest
    assert not [path for path in made.release.parent.iterdir() if path.name.startswith(".")]


def test_averaged_weights_are_released_with_their_origin(made: Made) -> None:
    checkpoint = torch.load(made.experiment / "models" / "net_g_latest.pth", weights_only=True)
    expected = HAN(**{key: value for key, value in checkpoint["network_g"].items() if key != "type"})
    expected.load_state_dict(checkpoint["params_ema"])
    lq = torch.rand(1, 3, 9, 8)
    with torch.no_grad():
        torch.testing.assert_close(load_model(made.release / made.entry.file)(lq), expected(lq), rtol=0, atol=1e-5)
    header = read_header(made.release / made.entry.file)
    assert header["network_g"] == {"type": "HAN", **made.entry.arguments}
    provenance = header["provenance"]
    assert provenance["training_set"] == "BSDS400"
    assert (provenance["recipe"], provenance["iterations"]) == ("train_HAN-S_x4.yml", ITERATIONS)
    assert provenance["averaged"] is True
    assert "non-commercial" in provenance["data_terms"]
    assert {"commit", "date", "licence", "seed"} <= provenance.keys()


def test_the_entry_describes_the_file(made: Made) -> None:
    file = made.release / made.entry.file
    assert made.entry.name == "han-s-x4"
    assert made.entry.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert made.entry.size == file.stat().st_size
    assert {key: made.entry.arguments[key] for key in TINY} == TINY
    assert [expected.dataset for expected in made.entry.expected] == ["Set5", "Set14", "B100"]
    sidecar = json.loads(file.with_suffix(".json").read_text())
    assert sidecar["entry"]["sha256"] == made.entry.sha256


def test_numbers_agree_with_the_pictures(made: Made) -> None:
    """Compute PSNR of the released SR images in the test: luma of BT.601, after 4 border pixels are cut."""

    def luma(image: np.ndarray) -> np.ndarray:
        blue, green, red = np.moveaxis(image.astype(np.float64), -1, 0)
        return (16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255)[4:-4, 4:-4]

    rows = list(csv.DictReader((made.release / "per_image.csv").open()))
    assert len(rows) == 2 * 5
    values = []
    for row in rows:
        if (row["model"], row["set"]) != ("han-s-x4", "Set5"):
            continue
        hr = cv2.imread(str(made.benchmarks / "Set5" / "HR" / f"{row['image']}.png"))
        hr = hr[: hr.shape[0] // 4 * 4, : hr.shape[1] // 4 * 4]
        sr = cv2.imread(str(made.release / "Set5" / f"{row['image']}.png"))
        values.append(10 * np.log10(255**2 / np.mean((luma(sr) - luma(hr)) ** 2)))
        assert float(row["psnr_db"]) == pytest.approx(values[-1], abs=1e-4)
        assert row["weights_sha256"] == made.entry.sha256
    assert made.entry.expected[0].psnr == pytest.approx(np.mean(values), abs=1e-3)


def test_a_second_stage_names_its_start_and_counts_both_stages(made: Made, copy: Path, tmp_path: Path) -> None:
    (option_file,) = copy.glob("*.yml")
    stage = read.read("train_HAN-S_x4_stage2")
    stage["network_g"].update(TINY)
    del stage["logger"]["keep_best"]
    option_file.unlink()
    (copy / "train_HAN-S_x4_stage2.yml").write_text(yaml.safe_dump(stage))
    assert publish(copy, made, tmp_path / "second", "--name", "second") == 0
    (path,) = (tmp_path / "second").glob("*.safetensors")
    provenance = read_header(path)["provenance"]
    assert provenance["started_from"] == "the weights of train_HAN-S_x4.yml after the first 20,000 of these iterations"
    assert provenance["iterations"] == 20_000 + ITERATIONS
    assert provenance["recipe"] == "train_HAN-S_x4_stage2.yml"
    assert f"- started from: {provenance['started_from']}" in (tmp_path / "second" / "README.md").read_text()
    assert "- started from: random weights" in (made.release / "README.md").read_text()


def test_a_recipe_that_keeps_the_best_releases_the_best(made: Made, copy: Path, tmp_path: Path) -> None:
    (option_file,) = copy.glob("*.yml")
    options = yaml.safe_load(option_file.read_text())
    options["logger"]["keep_best"] = "psnr"
    option_file.write_text(yaml.safe_dump(options))
    content = torch.load(copy / "models" / "net_g_latest.pth", weights_only=True)
    best = {key: value + 0.01 for key, value in content["params_ema"].items()}
    torch.save({**content, "params_ema": best}, copy / "models" / "net_g_best.pth")
    (copy / "val_Set5.csv").write_text("iter,psnr,ssim\n2,20.0,0.5\n4,21.0,0.5\n6,20.5,0.5\n")
    assert publish(copy, made, tmp_path / "best", "--name", "best") == 0
    (path,) = (tmp_path / "best").glob("*.safetensors")
    provenance = read_header(path)["provenance"]
    assert provenance["iterations"] == 4
    assert provenance["chosen_by"] == "the checkpoint with the best psnr on Set5 in all validations"
    assert provenance["chosen_by"] in (tmp_path / "best" / "README.md").read_text()
    loaded = load_model(path).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in best.items())
    assert read_header(made.release / made.entry.file)["provenance"]["chosen_by"] == ""


def test_the_card_has_the_hubs_front_matter_licence_and_numbers(made: Made) -> None:
    text = (made.release / "README.md").read_text()
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["license"] == "other"
    assert "non-commercial" in header["license_name"]
    (model,) = header["model-index"]
    assert model["name"] == "han-s-x4"
    assert [result["dataset"]["name"] for result in model["results"]] == ["Set5", "Set14", "B100"]
    first = model["results"][0]["metrics"][0]
    assert (first["type"], first["value"]) == ("psnr", round(made.entry.expected[0].psnr, 3))
    assert made.entry.expected[0].protocol in text
    assert "non-commercial research" in text.split("## Licence")[1]
    assert "| Set5 | " in text
    for name in (made.entry.file, "per_image.csv", "SHA256SUMS"):
        assert f"`{name}`" in text


def test_text_of_users_stays_text_in_the_card(made: Made) -> None:
    bad = "a|b`c`\n<script>[x](y) \udcf6"
    entry = replace(made.entry, origin=bad, started_from=bad, recipe=bad)
    bicubic = {one.dataset: Score(30.0, 0.9, Protocol("BI", 4)) for one in entry.expected}
    text = card.model_card(entry, card.find_training_set("BSDS400"), bicubic, {bad: "log"}, bad)
    assert text.encode()
    assert "<script>" not in re.sub("`[^`]*`", "", text)
    assert "](y)" not in re.sub(r"`[^`]*`|\\\]", "", text)
    for line in ("- origin: a", "- started from: a", "- option file: `a"):
        assert text.count(f"\n{line}") == 1


def test_the_training_files_have_no_paths_of_the_machine(made: Made) -> None:
    assert (made.release / "training.log").read_text() == "first x\nsecond\n"
    assert yaml.safe_load((made.release / "train_HAN-S_x4.yml").read_text())["network_g"]["num_feat"] == 8
    for path in made.release.rglob("*"):
        if path.is_file():
            assert b"secret" not in path.read_bytes(), path
            assert str(made.experiment.parent.parent).encode() not in path.read_bytes(), path
    assert (made.release / "curves.png").stat().st_size > 5000


def test_openmodeldb_entry_follows_the_field_rules(made: Made, tmp_path: Path) -> None:
    name = "4x-han-s-x4"
    model = json.loads((made.release / "openmodeldb" / f"{name}.json").read_text())
    assert openmodeldb.faults(name, model) == ["resources[0].urls is empty; pass --url to `basicsr zoo publish`"]
    assert (model["scale"], model["license"], model["trainingHRSize"], model["datasetSize"]) == (4, None, 160, 399)
    good = json.loads(json.dumps(model))
    good["resources"][0]["urls"] = ["https://example.org/x.safetensors"]
    assert openmodeldb.faults(name, good) == []
    for change, fault in (
        ({"tags": []}, "tags is empty"),
        ({"tags": [1, 2]}, "each item of tags must consist of"),
        ({"author": ""}, "each item of author must consist of"),
        ({"author": "han_arch"}, "each item of author must consist of"),
        ({"name": " "}, "name is empty"),
        ({"size": [1]}, "each item of size"),
        ({"license": "my own terms"}, "SPDX expression"),
        ({"date": "2026-99-99"}, "yyyy-mm-dd; got 2026-99-99"),
        ({"images": [{"foo": 1}]}, "images[0]: wrong type or address"),
        ({"images": [{"type": "paired", "LR": "https://example.org/a.png"}]}, "images[0]: wrong type or address"),
        ({"resources": [{**good["resources"][0], "more": 1}]}, "more is not a known field"),
        ({"resources": [{**good["resources"][0], "urls": ["not a url"]}]}, "http or https addresses; got not a url"),
        ({"resources": [{**good["resources"][0], "urls": ["https://media.discordapp.net/a"]}]}, "must be permanent"),
        ({"date": "today"}, "yyyy-mm-dd; got today"),
        ({"description": " x"}, "white space"),
        ({"colour": "red"}, "colour is not a known field"),
        ({"scale": "4"}, "scale has the wrong type"),
        ({"resources": [{**good["resources"][0], "sha256": "x"}]}, "sha256 must be 64"),
        ({"resources": [{**good["resources"][0], "urls": ["https://cdn.discordapp.com/a"]}]}, "must be permanent"),
    ):
        assert any(fault in line for line in openmodeldb.faults(name, {**good, **change})), change
    assert "must start with the scale, 4x-; got han" in openmodeldb.faults("han", good)[0]
    for key in ("license", "size"):
        (line,) = openmodeldb.faults(name, {k: v for k, v in good.items() if k != key})
        assert f"field {key} is missing" in line
    spdx = {"license": "Apache-2.0 WITH LLVM-exception", "author": ["a", "b-c"]}
    images = [{"type": "paired", "LR": "https://example.org/a.png", "SR": "https://example.org/b.png"}]
    assert openmodeldb.faults(name, {**good, **spdx, "images": images}) == []
    (row,) = json.loads((made.release / "openmodeldb" / "architectures_han.json").read_text()).items()
    assert row[0] == model["architecture"]
    assert row[1].keys() == {"name", "input", "compatiblePlatforms"}


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Path:
    """A copy of the experiment, which tests may damage."""
    shutil.copytree(made.experiment, tmp_path / made.experiment.name)
    return tmp_path / made.experiment.name


def publish(experiment: Path, made: Made, out: Path, *flags: str) -> int:
    return cli.main(["zoo", "publish", str(experiment), "-o", str(out), "--data", str(made.benchmarks), *flags])


def damage_weights(experiment: Path, **changes: object) -> None:
    path = experiment / "models" / "net_g_latest.pth"
    content = torch.load(path, weights_only=True)
    torch.save({key: value for key, value in {**content, **changes}.items() if value is not None}, path)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan", "nan or inf"),
        ("no ema", "params_ema"),
        ("unfinished", "net_g_6.pth; choose a weight file with checkpoint (option file) or --checkpoint"),
        ("other set", "terms of the training set Mine"),
        ("other network", "num_feat"),
        ("no data", "these test sets cannot be measured"),
        ("exists", "exists; "),
        ("name", "HAN S"),
        ("name of others", "the name han-authors-bix4"),
        ("address", "ftp://example.org/weights"),
        ("address with markup", "https://example.org/`<b>"),
        ("flat image", "Bicubic, Set5: img_9: inf dB"),
        ("name of a csv file", "must not contain '|'"),
        ("two option files", "it has 2"),
    ],
)
def test_all_or_nothing(
    fault: str, message: str, made: Made, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, flags = tmp_path / "out", []
    options = copy / "train_HAN-S_x4.yml"
    if fault == "nan":
        content = torch.load(copy / "models" / "net_g_latest.pth", weights_only=True)["params_ema"]
        damage_weights(copy, params_ema={key: value * torch.nan for key, value in content.items()})
    elif fault == "no ema":
        damage_weights(copy, params_ema=None)
    elif fault == "unfinished":
        (copy / "models" / "net_g_latest.pth").unlink()
    elif fault == "other set":
        options.write_text(options.read_text().replace("name: BSDS400", "name: Mine"))
    elif fault == "other network":
        options.write_text(options.read_text().replace("num_feat: 8", "num_feat: 12"))
    elif fault == "no data":
        flags = ["--data", str(tmp_path)]
    elif fault == "exists":
        out.mkdir()
    elif fault == "name":
        flags = ["--name", "HAN S"]
    elif fault == "name of others":
        flags = ["--name", "han-authors-bix4"]
    elif fault == "address with markup":
        flags = ["--url", "https://example.org/`<b>"]
    elif fault == "flat image":  # Bicubic makes it without an error, so its mean would be over other images
        shutil.copytree(made.benchmarks, tmp_path / "data")
        cv2.imwrite(str(tmp_path / "data" / "Set5" / "HR" / "img_9.png"), np.full((40, 40, 3), 9, np.uint8))
        flags = ["--data", str(tmp_path / "data")]
    elif fault == "name of a csv file":
        (copy / "val_a|b.csv").write_text("iter,psnr\n2,1\n")
    elif fault == "address":
        flags = ["--url", "ftp://example.org/weights"]
    else:
        shutil.copyfile(options, copy / "more.yml")
    assert publish(copy, made, out, *flags) == 2
    assert message in capsys.readouterr().err
    assert fault == "exists" or not out.exists()
    assert [path.name for path in tmp_path.iterdir() if path not in (copy, out, tmp_path / "data")] == []


def test_the_same_experiment_gives_the_same_weights_and_half_is_smaller(
    made: Made, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(copy / "models" / f"net_g_{ITERATIONS}.pth")
    address = "https://example.org/weights/"
    assert publish(copy, made, tmp_path / "again", "--checkpoint", checkpoint, "--url", address) == 0
    assert (tmp_path / "again" / made.entry.file).is_file()
    printed = capsys.readouterr()
    assert json.loads(printed.out)["url"] == f"https://example.org/weights/{made.entry.file}"
    assert "not yet complete" not in printed.err
    assert publish(copy, made, tmp_path / "half", "--half", "--name", "han-h-x4") == 0
    (half,) = (tmp_path / "half").glob("han-h-x4-*.safetensors")
    assert half.stat().st_size < 0.8 * (made.release / made.entry.file).stat().st_size
