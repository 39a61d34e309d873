"""The zoo's table: one entry a weight. `basicsr zoo publish` prints the row for a new one."""

import difflib
from typing import Any

from han_arch.errors import UserError
from han_arch.zoo.entry import FOUND, Entry, Expected

AUTHORS_FOLDER = "Google Drive folder 17cLcPCDLuBV5_5-ngd0vXIDp6rebIMG1"
_PAPER_SIZE: dict[str, Any] = {
    "num_in_ch": 3,
    "num_out_ch": 3,
    "num_feat": 64,
    "num_group": 10,
    "num_block": 20,
    "squeeze_factor": 16,
    "res_scale": 1,
    "img_range": 255.0,
    "rgb_mean": [0.4488, 0.4371, 0.404],
    "layer_attention": "LAM",
    "spatial_attention": "CSAM",
    "lam_form": "released",
    "fusion": "conv",
    "num_csam": 1,
}


def _of_authors(file: str, parameters: int, found: tuple[tuple[str, float, float], ...] = ()) -> Entry:
    """One of the weights that the authors of HAN keep; file is their name for it, such as BIX4."""
    degradation, scale = file[:2], int(file[3:])
    name = f"han-authors-{file.lower()}"
    protocol = f"{degradation}x{scale}, GT mod-scale, Y, border {scale}, grey as_rgb, SR uint8, LR not stated"
    return Entry(
        name=name,
        architecture="HAN",
        arguments={**_PAPER_SIZE, "upscale": scale},
        scale=scale,
        degradation=degradation,
        training_set="DIV2K",
        recipe=None,
        iterations=None,
        started_from=None,
        file=file,
        url=None,
        sha256=None,
        size=None,
        parameters=parameters,
        licence="not stated for the weights; the authors' code is Apache-2.0",
        data_terms="DIV2K: academic research only",
        # Published values are rounded to 0.01 dB; the papers do not state the border of LR.
        expected=tuple(
            Expected(dataset, psnr, ssim, 0.02, protocol, "chop", FOUND, "SwinIR paper, table 2")
            for dataset, psnr, ssim in found
        ),
        origin=f"the authors of HAN (Niu et al., ECCV 2020), who keep it in their {AUTHORS_FOLDER}; nothing of it was "
        "measured here, and its hash is unknown: no one has published it",
        how_to_get=f"download {file} from https://drive.google.com/drive/folders/{AUTHORS_FOLDER.split()[-1]} by a "
        f"browser, then: basicsr zoo convert FILE {name}.safetensors",
        date="",
        commit="",
    )


ENTRIES: tuple[Entry, ...] = (
    Entry(
        name="han-s-x2",
        architecture="HAN",
        arguments={
            "num_in_ch": 3,
            "num_out_ch": 3,
            "num_feat": 32,
            "num_group": 4,
            "num_block": 4,
            "squeeze_factor": 8,
            "upscale": 2,
            "res_scale": 1,
            "img_range": 255.0,
            "rgb_mean": [0.4488, 0.4371, 0.404],
            "layer_attention": "LAM",
            "spatial_attention": "CSAM",
            "lam_form": "released",
            "fusion": "conv",
            "num_csam": 1,
        },
        scale=2,
        degradation="BI",
        training_set="BSDS400",
        recipe="train_HAN-S_x2.yml",
        iterations=6000,
        started_from="what train_HAN-S_x4.yml gives after 20,000 iterations",
        file="han-s-x2-edb81b6a.safetensors",
        url=None,
        sha256="edb81b6aa22e420d302d7c75166aeb2bd06e33fca0fa8987a64a392dccd27892",
        size=1817748,
        parameters=450209,
        licence="bsds500-non-commercial-research, after the training data; han_arch's code is Apache-2.0",
        data_terms=(
            "BSDS500 (UC Berkeley): non-commercial research and education only; weights trained on it carry these terms"
        ),
        expected=(
            Expected(
                dataset="Set5",
                psnr=37.5729,
                ssim=0.959259,
                tolerance_db=0.01,
                protocol="BIx2, GT mod-scale, Y, border 2, grey as_rgb, SR uint8, LR symmetric",
                variant="full",
                status="measured",
                source="basicsr zoo publish",
            ),
            Expected(
                dataset="Set14",
                psnr=33.1119,
                ssim=0.913582,
                tolerance_db=0.01,
                protocol="BIx2, GT mod-scale, Y, border 2, grey as_rgb, SR uint8, LR symmetric",
                variant="full",
                status="measured",
                source="basicsr zoo publish",
            ),
            Expected(
                dataset="B100",
                psnr=31.9987,
                ssim=0.897346,
                tolerance_db=0.01,
                protocol="BIx2, GT mod-scale, Y, border 2, grey as_rgb, SR uint8, LR symmetric",
                variant="full",
                status="measured",
                source="basicsr zoo publish",
            ),
        ),
        origin="trained with this package",
        how_to_get="",
        date="2026-11-24",
        commit="a86a20bcfd1f",
    ),
    Entry(
        name="han-s-x3",
        architecture="HAN",
        arguments={
            "num_in_ch": 3,
            "num_out_ch": 3,
            "num_feat": 32,
            "num_group": 4,
            "num_block": 4,
            "squeeze_factor": 8,
            "upscale": 3,
            "res_scale": 1,
            "img_range": 255.0,
            "rgb_mean": [0.4488, 0.4371, 0.404],
            "layer_attention": "LAM",
            "spatial_attention": "CSAM",
            "lam_form": "released",
            "fusion": "conv",
            "num_csam": 1,
        },
        scale=3,
        degradation="BI",
        training_set="BSDS400",
        recipe="train_HAN-S_x3.yml",
        iterations=6000,
        started_from="what train_HAN-S_x4.yml gives after 20,000 iterations",
        file="han-s-x3-21ead2d4.safetensors",
        url=None,
        sha256="21ead2d4dd35b3f950e697c55f27c8e5f906a7f8072a25e3a7d25816c5be9a7b",
        size=2002708,
        parameters=496449,
        licence="bsds500-non-commercial-research, after the training data; han_arch's code is Apache-2.0",
        data_terms=(
            "BSDS500 (UC Berkeley): non-commercial research and education only; weights trained on it carry these terms"
        ),
        expected=(
            Expected(
                dataset="Set5",
                psnr=33.8218,
                ssim=0.922756,
                tolerance_db=0.01,
                protocol="BIx3, GT mod-scale, Y, border 3, grey as_rgb, SR uint8, LR symmetric",
                variant="full",
                status="measured",
                source="basicsr zoo publish",
            ),
            Expected(
                dataset="Set14",
                psnr=29.9075,
                ssim=0.833402,
                tolerance_db=0.01,
                protocol="BIx3, GT mod-scale, Y, border 3, grey as_rgb, SR uint8, LR symmetric",
                variant="full",
                status="measured",
                source="basicsr zoo publish",
            ),
            Expected(
                dataset="B100",
                psnr=28.9146,
                ssim=0.800688,
                tolerance_db=0.01,
                protocol="BIx3, GT mod-scale, Y, border 3, grey as_rgb, SR uint8, LR symmetric",
                variant="full",
                status="measured",
                source="basicsr zoo publish",
            ),
        ),
        origin="trained with this package",
        how_to_get="",
        date="2026-11-24",
        commit="7c855d652579",
    ),
    Entry(
        name="han-s-x4",
        architecture="HAN",
        arguments={
            "num_in_ch": 3,
            "num_out_ch": 3,
            "num_feat": 32,
            "num_group": 4,
            "num_block": 4,
            "squeeze_factor": 8,
            "upscale": 4,
            "res_scale": 1,
            "img_range": 255.0,
            "rgb_mean": [0.4488, 0.4371, 0.404],
            "layer_attention": "LAM",
            "spatial_attention": "CSAM",
            "lam_form": "released",
            "fusion": "conv",
            "num_csam": 1,
        },
        scale=4,
        degradation="BI",
        training_set="BSDS400",
        recipe="train_HAN-S_x4_stage2.yml",
        iterations=22000,
        started_from="what train_HAN-S_x4.yml gives after 20,000 iterations",
        file="han-s-x4-19b226d9.safetensors",
        url=None,
        sha256="19b226d9c8e05f7ca80b184229435d184a57523cbfdcba676bd3fd4970277038",
        size=1966004,
        parameters=487201,
        licence="bsds500-non-commercial-research, after the training data; han_arch's code is Apache-2.0",
        data_terms=(
            "BSDS500 (UC Berkeley): non-commercial research and education only; weights trained on it carry these terms"
        ),
        expected=(
            Expected(
                dataset="Set5",
                psnr=31.61,
                ssim=0.886679,
                tolerance_db=0.01,
                protocol="BIx4, GT mod-scale, Y, border 4, grey as_rgb, SR uint8, LR symmetric",
                variant="full",
                status="measured",
                source="basicsr zoo publish",
            ),
            Expected(
                dataset="Set14",
                psnr=28.1534,
                ssim=0.771096,
                tolerance_db=0.01,
                protocol="BIx4, GT mod-scale, Y, border 4, grey as_rgb, SR uint8, LR symmetric",
                variant="full",
                status="measured",
                source="basicsr zoo publish",
            ),
            Expected(
                dataset="B100",
                psnr=27.3648,
                ssim=0.72949,
                tolerance_db=0.01,
                protocol="BIx4, GT mod-scale, Y, border 4, grey as_rgb, SR uint8, LR symmetric",
                variant="full",
                status="measured",
                source="basicsr zoo publish",
            ),
        ),
        origin=(
            "trained with this package; of the checkpoints at its validations the one with the best psnr on Set5. The "
            "last one gives 31.61, 28.14 and 27.36 dB on Set5, Set14 and B100"
        ),
        how_to_get="",
        date="2026-11-24",
        commit="ffeb3ba6f710",
    ),
    _of_authors(
        "BIX2",
        15924033,
        (
            ("Set5", 38.27, 0.9614),
            ("Set14", 34.16, 0.9217),
            ("B100", 32.41, 0.9027),
            ("Urban100", 33.35, 0.9385),
            ("Manga109", 39.46, 0.9785),
        ),
    ),
    _of_authors(
        "BIX3",
        16108673,
        (
            ("Set5", 34.75, 0.9299),
            ("Set14", 30.67, 0.8483),
            ("B100", 29.32, 0.8110),
            ("Urban100", 29.10, 0.8705),
            ("Manga109", 34.48, 0.9500),
        ),
    ),
    _of_authors(
        "BIX4",
        16071745,
        (
            ("Set5", 32.64, 0.9002),
            ("Set14", 28.90, 0.7890),
            ("B100", 27.80, 0.7442),
            ("Urban100", 26.85, 0.8094),
            ("Manga109", 31.42, 0.9177),
        ),
    ),
    _of_authors("BIX8", 16219457),
    _of_authors("BDX3", 16108673),
)


def find(name: str) -> Entry:
    """The entry of a name.

    Raises:
        UserError: there is none; close names are given.
    """
    for entry in ENTRIES:
        if entry.name == name:
            return entry
    names = [entry.name for entry in ENTRIES]
    close = difflib.get_close_matches(name, names, 3, 0.5)
    hint = f"close names: {', '.join(close)}" if close else f"it has {', '.join(names)}"
    raise UserError(f"the zoo has no {name!r}; {hint}")


def is_name(text: str) -> bool:
    """Whether an entry has this name."""
    return any(entry.name == text for entry in ENTRIES)
