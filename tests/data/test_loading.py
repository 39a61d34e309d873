"""BasicSR's loaders on our data sets: shared LMDBs, forked and spawned workers, new crops, clear errors."""

import copy
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from han_arch import compat
from han_arch.data import loading
from han_arch.data.loading import SampleError, SharedLmdbBackend
from han_arch.data.stores import LmdbFault, close_lmdbs

pytestmark = pytest.mark.usefixtures("installed")


@pytest.fixture(scope="session")
def installed(basicsr):
    loading.install()
    return basicsr


@pytest.fixture
def prepared(prepared_template, tmp_path) -> Path:
    yield Path(shutil.copytree(prepared_template, tmp_path / "prepared"))
    close_lmdbs()


def options(root: Path, backend: str = "lmdb", phase: str = "train", **more) -> dict:
    suffix = ".lmdb" if backend == "lmdb" else ""
    return {
        "name": "pictures",
        "type": "PairedImageDataset",
        "dataroot_gt": f"{root}/GT_sub_x2{suffix}",
        "dataroot_lq": f"{root}/LR_sub_BIx2{suffix}",
        "io_backend": {"type": backend},
        "phase": phase,
        "scale": 2,
        "gt_size": 16,
        "use_hflip": True,
        "use_rot": True,
        "num_worker_per_gpu": 0,
        "batch_size_per_gpu": 4,
        **more,
    }


def build(opt: dict):
    from basicsr.data import build_dataset

    return build_dataset(opt)


def loader_of(opt: dict, workers: int = 0, start: str | None = None, rank: int = 0):
    from basicsr.data import build_dataloader
    from basicsr.data.data_sampler import EnlargedSampler

    dataset = build(opt)
    loader = build_dataloader(
        dataset, opt | {"num_worker_per_gpu": workers}, num_gpu=0, sampler=EnlargedSampler(dataset, 1, 0, 1), seed=rank
    )
    loader.multiprocessing_context = start
    return loader


def crops(loader) -> list[bytes]:
    """The pixels of each crop, sorted by the name of its image."""
    drawn = [
        (name, pixels.numpy().tobytes())
        for batch in loader
        for name, pixels in zip(batch["gt_path"], batch["gt"], strict=True)
    ]
    return [pixels for _, pixels in sorted(drawn)]


WORKERS = [(0, None), (1, "fork"), (2, "fork"), (1, "spawn"), pytest.param(2, "spawn", marks=pytest.mark.slow)]


@pytest.mark.parametrize(("workers", "start"), WORKERS)
def test_train_and_two_validation_sets_on_the_same_lmdb(prepared, workers, start):
    train = loader_of(options(prepared), workers, start)
    validations = [loader_of(options(prepared, phase="val")) for _ in range(2)]
    # Workers are also started after the parent has read; spawned ones take seconds each time.
    for _ in range(1 if (workers, start) == (1, "spawn") else 2):
        names = [name for batch in train for name in batch["gt_path"]]
        assert len(set(names)) == len(names) >= len(train.dataset) - 3
        for validation in validations:
            assert len([batch["lq"].shape for batch in validation]) == len(train.dataset)


def test_gt_and_lq_may_be_one_lmdb(prepared):
    opt = options(prepared, phase="val")
    opt |= {"dataroot_lq": opt["dataroot_gt"], "scale": 1}
    sample = build(opt)[0]
    assert torch.equal(sample["gt"], sample["lq"])


@pytest.mark.parametrize("workers", [1, 2])
def test_every_epoch_and_worker_draws_other_crops_and_a_seed_repeats_them(prepared, workers):
    def epochs(seed: int) -> list[list[bytes]]:
        torch.manual_seed(seed)
        loader = loader_of(options(prepared, "disk"), workers, "fork")
        result = []
        for _ in range(3):
            loader.sampler.set_epoch(0)  # the same images in the same order: only the crops can differ
            result.append(crops(loader))
        return result

    first, again, other = epochs(1), epochs(1), epochs(2)
    assert first == again
    drawn = [*first, *other]
    for index, one in enumerate(drawn):
        for two in drawn[index + 1 :]:
            assert sum(a == b for a, b in zip(one, two, strict=True)) < len(one) / 4


def test_workers_of_one_epoch_draw_different_numbers():
    import random

    import numpy as np

    drawn = set()
    for seed in range(8):  # torch gives worker k of an epoch the epoch's base seed plus k
        torch.manual_seed(seed)
        loading.worker_init_fn(0, num_workers=2, rank=0, seed=0)
        drawn.add((random.random(), np.random.random()))
    assert len(drawn) == 8
    assert len({number for number, _ in drawn}) == len({number for _, number in drawn}) == 8


@pytest.mark.parametrize("damage", [b"", b"no image"])
@pytest.mark.parametrize("workers", [0, 1])
def test_bad_file_is_named(prepared, workers, damage):
    bad = prepared / "LR_sub_BIx2" / "a_s002.png"
    bad.write_bytes(damage)
    with pytest.raises(SampleError, match=f"{bad}: (empty file|not an image)"):
        list(loader_of(options(prepared, "disk"), workers, "fork" if workers else None))


def test_bad_key_is_named(prepared):
    import lmdb

    env = lmdb.open(str(prepared / "GT_sub_x2.lmdb"), map_size=2**26)
    with env.begin(write=True) as transaction:
        transaction.put(b"a_s002", b"no image")
        transaction.delete(b"b_s001")
    env.close()
    dataset = build(options(prepared))
    names = [pair["gt_path"] for pair in dataset.paths]
    with pytest.raises(SampleError, match=r"GT_sub_x2.lmdb: a_s002: not an image"):
        dataset[names.index("a_s002")]
    with pytest.raises(LmdbFault, match=r"GT_sub_x2.lmdb has no key b_s001.*did you mean ._s001"):
        dataset[names.index("b_s001")]


def test_pair_of_wrong_sizes_is_named(prepared):
    shutil.copy(prepared / "LR_sub_BIx2" / "c_s001.png", prepared / "LR_sub_BIx2" / "a_s002.png")
    dataset = build(options(prepared, "disk"))
    index = [Path(pair["gt_path"]).stem for pair in dataset.paths].index("a_s002")
    with pytest.raises(SampleError, match=r"LR_sub_BIx2/a_s002.png .*Scale mismatches"):
        dataset[index]


def test_truncated_lmdb_is_an_error_and_not_the_end_of_the_process(prepared):
    data = prepared / "GT_sub_x2.lmdb" / "data.mdb"
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    with pytest.raises(LmdbFault, match=r"data\.mdb is cut short"):
        build(options(prepared))[0]


def test_folders_are_read_in_the_order_of_names(prepared, monkeypatch):
    import basicsr.data.data_util as data_util

    original = data_util.scandir
    monkeypatch.setattr(data_util, "scandir", lambda folder: sorted(original(folder), reverse=True))
    names = [pair["gt_path"] for pair in build(options(prepared, "disk")).paths]
    assert names == sorted(names)
    assert len(names) > 10


def test_empty_folders_are_refused(tmp_path):
    for folder in ("GT_sub_x2", "LR_sub_BIx2"):
        (tmp_path / folder).mkdir()
    with pytest.raises(SampleError, match="contains no image"):
        build(options(tmp_path, "disk"))


def test_a_used_dataset_pickles_and_its_options_stay(prepared):
    opt = options(prepared)
    dataset = build(copy.deepcopy(opt))
    dataset[0]
    again = pickle.loads(pickle.dumps(dataset))
    assert again[0]["gt"].shape == (3, 16, 16)
    assert dataset.opt["io_backend"]["type"] == "lmdb"


def test_only_what_is_broken_is_replaced_and_once(prepared):
    places = compat.changes()
    assert "basicsr.utils.file_client.FileClient._backends" in places
    assert "basicsr.data.worker_init_fn" in places
    assert "basicsr.utils.registry.DATASET_REGISTRY._obj_map" in places
    # The replacements pass the probes that BasicSR failed.
    assert loading.is_lmdb_shared()
    assert loading.is_seed_new_each_epoch()
    assert loading.is_bad_file_named()


def test_the_module_imports_without_basicsr():
    code = "import sys; sys.modules['basicsr'] = None; import han_arch.data.loading as loading; print(loading.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "han_arch.data.loading", done.stderr


def test_backend_needs_a_client_key_for_each_lmdb():
    with pytest.raises(ValueError, match="2 LMDBs need 2 client keys; got 1: lq"):
        SharedLmdbBackend(["a", "b"], ["lq"])
