"""The table of options: one row for each option that BasicSR 1.4.2's pipelines, its SRModel or HANModel read.

The check before a run and the JSON schema for editors read this table. Parameters of networks, losses, metrics,
optimisers and schedulers come from their signatures; a row here adds a range.
"""

from typing import TypeAlias

from han_arch.inference.variants import PATTERN, WANTED
from han_arch.opt.kinds import Node, Section, Value, Values
from han_arch.speed.precision import PRECISIONS

# Models and data sets that read no other options than those below.
CLOSED_MODELS = ("SRModel", "SwinIRModel", "SRGANModel", "ESRGANModel", "HANModel")
CLOSED_SETS = ("PairedImageDataset", "SingleImageDataset")
# Names of options in other versions of BasicSR, which some of its option files still use.
OLD_NAMES = {
    "datasets:*:use_flip": "use_hflip",
    "path:pretrain_model_g": "pretrain_network_g",
    "path:strict_load": "strict_load_g",
}
# Top-level options of old option files and their place today.
MOVED = {"suffix": "val:suffix", "save_img": "val:save_img", "crop_border": "crop_border of each of val:metrics"}

Nodes: TypeAlias = dict[str, Node]

_TYPE = Value("text", "name in the registry", need="always")

_ANY_SET: Nodes = {
    "name": Value("text", "name of the set in the log", need="always"),
    "type": _TYPE,
    "dataroot_gt": Value("text", "folder or .lmdb of the high-resolution images"),
    "dataroot_lq": Value("text", "folder or .lmdb of the low-resolution images"),
    "meta_info_file": Value("text", "text file with one image name a line", null=True),
    "filename_tmpl": Value("text", "file name of an LR image; {} is the name of its GT image", pattern=r".*\{\}.*",
                           wanted="text with {}"),
    "io_backend": Section({"type": Value("text", "storage of the images", choices=("disk", "lmdb"), need="always")},
                          need="always"),
    "mean": Values(Value("number"), doc="value subtracted from each channel", null=True),
    "std": Values(Value("number", above=0), doc="divisor of each channel", null=True),
    "color": Value("text", "y: luma only", choices=("y",), null=True),
    "pin_memory": Value("flag", "page-locked memory, for faster copies to a GPU"),
    "persistent_workers": Value("flag", "keep the workers between epochs"),
    "prefetch_mode": Value("text", "cuda: copy to the GPU ahead", choices=("cuda", "cpu"), null=True),
    "num_prefetch_queue": Value("whole", "for prefetch_mode: cpu", low=1),
}  # fmt: skip
_TRAIN_SET: Nodes = {
    **_ANY_SET,
    "gt_size": Value("whole", "side of a training crop of the GT, in pixels", low=1, need="train"),
    "use_hflip": Value("flag", "flip crops at random", need="train"),
    "use_rot": Value("flag", "rotate crops by 90 degrees at random", need="train"),
    "use_shuffle": Value("flag", "no effect: training data are always shuffled"),
    "num_worker_per_gpu": Value("whole", "data workers of each process", low=0, need="train"),
    "batch_size_per_gpu": Value("whole", "crops in a batch of each process", low=1, need="train"),
    "dataset_enlarge_ratio": Value("whole", "no effect: an epoch is one pass over the set", low=1),
}
_EVAL_SET: Nodes = {**_ANY_SET, "num_worker_per_gpu": Value("whole", "no effect: validation has no workers", low=0),
             "batch_size_per_gpu": Value("whole", "no effect: always 1 in validation", low=1)}  # fmt: skip

_OPTIMIZER: Nodes = {
    "type": _TYPE,
    "lr": Value("number", "learning rate", above=0, need="always"),
    "betas": Values(Value("number", low=0, below=1), 2, "decay of the means of the gradient and its square"),
    "weight_decay": Value("number", low=0),
    "eps": Value("number", above=0),
    "amsgrad": Value("flag"),
    "fused": Value("flag", "one kernel for all parameters: faster", null=True),
    "foreach": Value("flag", null=True),
}
_SCHEDULER: Nodes = {
    "type": _TYPE,
    "milestones": Values(Value("whole", low=1), doc="iterations after which the learning rate falls"),
    "gamma": Value("number", "factor on the learning rate at each milestone", above=0),
    "periods": Values(Value("whole", low=1), doc="number of iterations of each cosine"),
    "restarts": Values(Value("whole", low=0), doc="iterations at which the schedule restarts"),
    "restart_weights": Values(Value("number", low=0), doc="factor on the learning rate after each restart"),
    "eta_min": Value("number", "lowest learning rate", low=0),
}
_LOSS: Nodes = {
    "type": _TYPE,
    "loss_weight": Value("number", low=0),
    "reduction": Value("text", choices=("none", "mean", "sum")),
    "eps": Value("number", above=0),
    "layer_weights": Section(others=Value("number"), doc="VGG layer: weight"),
    "perceptual_weight": Value("number", low=0),
    "style_weight": Value("number", low=0),
    "criterion": Value("text", choices=("l1", "l2", "fro")),
}
_METRIC: Nodes = {
    "type": _TYPE,
    "crop_border": Value("whole", "pixels cropped at each edge; the papers crop the scale", low=0),
    "test_y_channel": Value("flag", "measure on luma, as the papers do"),
    "input_order": Value("text", choices=("HWC", "CHW")),
    "convert_to": Value("text", choices=("y", "gray")),
    "better": Value("text", "direction of better values", choices=("higher", "lower")),
}


def _loss(doc: str, only: str = "") -> Section:
    return Section(_LOSS, registry="loss", doc=doc, null=True, only=only)


_TRAIN: Nodes = {
    "ema_decay": Value("number", "exponential moving average of the weights; 0: none", low=0, below=1),
    "optim_g": Section(_OPTIMIZER, registry="optimizer", need="always"),
    "optim_d": Section(_OPTIMIZER, registry="optimizer", only="SRGANModel"),
    "scheduler": Section(_SCHEDULER, registry="scheduler", need="always"),
    "total_iter": Value("whole", "number of iterations", low=1, need="always"),
    "warmup_iter": Value("whole", "number of iterations in which the learning rate rises; -1: none", low=-1),
    "pixel_opt": _loss("loss on pixels"),
    "perceptual_opt": _loss("loss on VGG features"),
    "gan_opt": _loss("adversarial loss", "SRGANModel"),
    "ldl_opt": _loss("loss on artefacts", "SRGANModel"),
    "net_d_iters": Value("whole", low=1, only="SRGANModel"),
    "net_d_init_iters": Value("whole", low=0, only="SRGANModel"),
    "precision": Value("text", "mixed precision", choices=tuple(PRECISIONS), only="HANModel"),
    "channels_last": Value("flag", "memory format of images and weights", only="HANModel"),
    "compile": Value("flag", "torch.compile", only="HANModel"),
    "grad_clip": Value("number", "upper bound of the gradient's norm", above=0, null=True, only="HANModel"),
    "accumulate": Value("whole", "number of parts that a batch is split into", low=1, only="HANModel"),
    "guard": Section(
        {
            "max_loss": Value("number", "a higher loss is a failure", above=0, null=True),
            "factor": Value("number", "a loss above its usual value times this factor is a failure", above=1),
            "give_up_after": Value("whole", "number of failures that ends the training", low=1),
            "action": Value("text", "reaction to a failure", choices=("skip", "rollback")),
        },
        doc="protection against losses that explode or are not finite", null=True, only="HANModel",
    ),
}  # fmt: skip
LOSSES = tuple(name for name in _TRAIN if name.endswith("_opt"))
_VAL: Nodes = {
    "val_freq": Value("whole", "iterations between validations", low=1, need="train"),
    "save_img": Value("flag", "save the output images", need="always"),
    "suffix": Value("text", "end of the names of the output images", null=True, need="test"),
    "pbar": Value("flag", "progress bar"),
    "metrics": Section(others=Section(_METRIC, registry="metric"), doc="metrics under names of your choice", null=True),
    "inference": Value("text", "inference variant", pattern=PATTERN, only="HANModel",
                       wanted=f"{WANTED} (tiled-... is now tiles-...: tiles are blended, so results differ)"),
}  # fmt: skip
_LOGGER: Nodes = {
    "print_freq": Value("whole", "iterations between lines of the log", low=1, need="always"),
    "save_checkpoint_freq": Value("whole", "iterations between checkpoints", low=1, need="always"),
    "use_tb_logger": Value("flag", "write TensorBoard files", need="always"),
    "wandb": Section({"project": Value("text", null=True), "resume_id": Value("text", null=True)}, null=True),
    "keep_last": Value("whole", "number of newest checkpoints to keep", low=1, null=True, only="HANModel"),
    "keep_best": Value("text", "metric that selects the best checkpoint", null=True, only="HANModel"),
}
_PATH: Nodes = {
    "pretrain_network_g": Value("text", "checkpoint to start from", null=True),
    "param_key_g": Value("text", "weights in the checkpoint: params, params_ema; ~: the whole file", null=True),
    "strict_load_g": Value("flag", "every weight must fit"),
    "pretrain_network_d": Value("text", null=True, only="SRGANModel"),
    "param_key_d": Value("text", null=True, only="SRGANModel"),
    "strict_load_d": Value("flag", only="SRGANModel"),
    "resume_state": Value("text", "training state to resume from", null=True),
    "ignore_resume_networks": Values(Value("text"), null=True),
}
OPTIONS = Section(
    {
        "name": Value("text", "name of the run and its folder", pattern=r"[A-Za-z0-9][A-Za-z0-9_.+-]*", need="always",
                      wanted="letters, digits and _ . + - only (a folder gets this name)"),
        "model_type": Value("text", "training and validation step: HANModel, SRModel, ...", need="always"),
        "scale": Value("whole", "upscaling factor", low=1),
        "num_gpu": Value("whole", "number of GPUs; 0: CPU", low=0, word="auto", need="always"),
        "winograd": Value("flag", "Winograd's algorithm for convolutions: fp32 on a CPU takes two thirds of the time",
                          only="HANModel"),
        "manual_seed": Value("whole", "random seed; ~: a new one for each run", low=0, high=2**31, null=True),
        "find_unused_parameters": Value("flag", "for distributed training"),
        "datasets": Section(
            {"train": Section(_TRAIN_SET, registry="dataset", closed_types=CLOSED_SETS, need="train")},
            others=Section(_EVAL_SET, registry="dataset", closed_types=CLOSED_SETS),
            doc="train and val, or val_1, val_2, ...; for a test test_1, test_2, ...", need="always",
        ),
        "network_g": Section({"type": _TYPE}, registry="network", need="always"),
        "network_d": Section({"type": _TYPE}, registry="network", only="SRGANModel"),
        "path": Section(_PATH, null=True),
        "train": Section(_TRAIN, others=_loss("another loss", "HANModel"), others_named=r"\w+_opt", need="train"),
        "val": Section(_VAL, null=True, need="test"),
        "logger": Section(_LOGGER, need="train"),
        "dist_params": Section({
            "backend": Value("text", "backend of torch.distributed", choices=("nccl", "gloo")),
            "port": Value("whole", "port of the first node, for slurm", low=1, high=65535),
        }, null=True),
    },
)  # fmt: skip
