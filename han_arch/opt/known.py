"""The table of options: one row for each option that BasicSR 1.4.2 or HANModel reads.

The parameters of a network, loss, metric, optimizer or scheduler are options too. A row for such a parameter only adds
a range and a description.
"""

from typing import TypeAlias

from han_arch.inference.variants import PATTERN, WANTED
from han_arch.opt.kinds import Node, Section, Value, Values
from han_arch.speed.precision import PRECISIONS

# Models and data sets that read only the options in this table.
CLOSED_MODELS = ("SRModel", "SwinIRModel", "SRGANModel", "ESRGANModel", "HANModel")
CLOSED_SETS = ("PairedImageDataset", "SingleImageDataset")
# Old name of an option -> current name. Some of BasicSR's own option files still use the old names.
OLD_NAMES = {
    "datasets:*:use_flip": "use_hflip",
    "path:pretrain_model_g": "pretrain_network_g",
    "path:strict_load": "strict_load_g",
}
# Options that were at the top level in old option files -> current place of the option.
MOVED = {"suffix": "val:suffix", "save_img": "val:save_img", "crop_border": "crop_border in each metric of val:metrics"}

Nodes: TypeAlias = dict[str, Node]

_TYPE = Value("text", "name of a registered class or function", need="always")

_ANY_SET: Nodes = {
    "name": Value("text", "name of the data set, for the log and for output files", need="always"),
    "type": _TYPE,
    "dataroot_gt": Value("text", "folder or .lmdb that contains the high-resolution images (GT)"),
    "dataroot_lq": Value("text", "folder or .lmdb that contains the low-resolution images (LQ)"),
    "meta_info_file": Value("text", "text file that lists the images to use, one file name per line", null=True),
    "filename_tmpl": Value("text", "name of an LQ file without suffix; {} is replaced by the name of the GT file",
                           pattern=r".*\{\}.*", wanted="text that contains {}"),
    "io_backend": Section({"type": Value("text", "storage of the images: disk (image files) or lmdb",
                                         choices=("disk", "lmdb"), need="always")}, need="always"),
    "mean": Values(Value("number"), doc="values to subtract from the image, one per channel", null=True),
    "std": Values(Value("number", above=0), doc="values to divide the image by, one per channel", null=True),
    "color": Value("text", "y: use only the luma channel of the images; ~: use RGB", choices=("y",), null=True),
    "pin_memory": Value("flag", "use page-locked memory, so that copies to a GPU are faster"),
    "persistent_workers": Value("flag", "keep the data workers running between epochs"),
    "prefetch_mode": Value("text", "cuda: copy the next batch to the GPU in advance; cpu: not allowed",
                           choices=("cuda", "cpu"), null=True),
    "num_prefetch_queue": Value("whole", "no effect, because prefetch_mode cpu is not allowed", low=1),
}  # fmt: skip
_TRAIN_SET: Nodes = {
    **_ANY_SET,
    "gt_size": Value("whole", "width and height of the crops from GT images, in pixels", low=1, need="train"),
    "use_hflip": Value("flag", "flip crops horizontally at random", need="train"),
    "use_rot": Value("flag", "flip crops vertically and rotate them by 90 degrees, each at random", need="train"),
    "use_shuffle": Value("flag", "no effect, because training data are always shuffled"),
    "num_worker_per_gpu": Value("whole", "number of data workers of each process", low=0, need="train"),
    "batch_size_per_gpu": Value("whole", "number of crops per batch in each process", low=1, need="train"),
    "dataset_enlarge_ratio": Value("whole", "no effect, because an epoch is always one pass over the data set", low=1),
}
_EVAL_SET: Nodes = {
    **_ANY_SET,
    "num_worker_per_gpu": Value("whole", "no effect, because validation uses no data workers", low=0),
    "batch_size_per_gpu": Value("whole", "no effect, because validation always takes one image at a time", low=1),
}

_OPTIMIZER: Nodes = {
    "type": _TYPE,
    "lr": Value("number", "learning rate", above=0, need="always"),
    "betas": Values(Value("number", low=0, below=1), 2, "decay of the running means of gradient and squared gradient"),
    "weight_decay": Value("number", low=0),
    "eps": Value("number", above=0),
    "amsgrad": Value("flag"),
    "fused": Value("flag", "update all parameters in one kernel, which is faster", null=True),
    "foreach": Value("flag", null=True),
}
_SCHEDULER: Nodes = {
    "type": _TYPE,
    "milestones": Values(Value("whole", low=1), doc="iterations after which the learning rate falls"),
    "gamma": Value("number", "factor that multiplies the learning rate at each milestone", above=0),
    "periods": Values(Value("whole", low=1), doc="number of iterations of each cosine period"),
    "restarts": Values(Value("whole", low=0), doc="iterations at which the schedule restarts"),
    "restart_weights": Values(Value("number", low=0), doc="factors on the learning rate, one per period or restart"),
    "eta_min": Value("number", "lowest learning rate", low=0),
}
_LOSS: Nodes = {
    "type": _TYPE,
    "loss_weight": Value("number", low=0),
    "reduction": Value("text", choices=("none", "mean", "sum")),
    "eps": Value("number", above=0),
    "layer_weights": Section(others=Value("number"), doc="weight of each VGG layer, keyed by the name of the layer"),
    "perceptual_weight": Value("number", low=0),
    "style_weight": Value("number", low=0),
    "criterion": Value("text", choices=("l1", "l2", "fro")),
}
_METRIC: Nodes = {
    "type": _TYPE,
    "crop_border": Value("whole", "number of pixels to crop at each edge; the papers use the scale", low=0),
    "test_y_channel": Value("flag", "measure on the luma channel (Y), as the papers do"),
    "input_order": Value("text", choices=("HWC", "CHW")),
    "convert_to": Value("text", choices=("y", "gray")),
    "better": Value("text", "whether a higher or a lower value is better", choices=("higher", "lower")),
}


def _loss(doc: str, only: str = "") -> Section:
    return Section(_LOSS, registry="loss", doc=doc, null=True, only=only)


_TRAIN: Nodes = {
    "ema_decay": Value("number", "decay of the exponential moving average of the weights; 0: off", low=0, below=1),
    "optim_g": Section(_OPTIMIZER, registry="optimizer", need="always"),
    "optim_d": Section(_OPTIMIZER, registry="optimizer", doc="optimizer of the discriminator", only="SRGANModel"),
    "scheduler": Section(_SCHEDULER, registry="scheduler", need="always"),
    "total_iter": Value("whole", "number of training iterations", low=1, need="always"),
    "warmup_iter": Value("whole", "number of iterations with a rising learning rate; -1: no warm-up", low=-1),
    "pixel_opt": _loss("loss on pixel values"),
    "perceptual_opt": _loss("loss on VGG features"),
    "gan_opt": _loss("adversarial loss", "SRGANModel"),
    "ldl_opt": _loss("LDL loss, which penalizes artifacts of adversarial training", "SRGANModel"),
    "net_d_iters": Value("whole", "number of discriminator steps per generator step", low=1, only="SRGANModel"),
    "net_d_init_iters": Value("whole", "iterations before the first generator step", low=0, only="SRGANModel"),
    "precision": Value("text", "number format of a training step; bf16 and fp16 use mixed precision",
                       choices=tuple(PRECISIONS), only="HANModel"),
    "channels_last": Value("flag", "store images and weights in the memory format channels_last", only="HANModel"),
    "compile": Value("flag", "compile the blocks of the network with torch.compile", only="HANModel"),
    "grad_clip": Value("number", "maximum norm; larger gradients are scaled down", above=0, null=True, only="HANModel"),
    "accumulate": Value("whole", "to save memory, run each batch in this number of parts", low=1, only="HANModel"),
    "guard": Section({
        "max_loss": Value("number", "maximum loss; a training step with a higher loss fails", above=0, null=True),
        "factor": Value("number", "a training step fails if its loss is above factor x median loss", above=1),
        "give_up_after": Value("whole", "the training stops after this number of failed steps in a row", low=1),
        "action": Value("text", "skip: skip a failed step; rollback: skip it and reload the newest checkpoint",
                        choices=("skip", "rollback")),
    }, doc="protection against a loss that explodes or is not finite", null=True, only="HANModel"),
}  # fmt: skip
LOSSES = tuple(name for name in _TRAIN if name.endswith("_opt"))
_VAL: Nodes = {
    "val_freq": Value("whole", "number of iterations between two validations", low=1, need="train"),
    "save_img": Value("flag", "save the output images as files", need="always"),
    "suffix": Value("text", "end of the output images' file names; ~: the name of the run", null=True, need="test"),
    "pbar": Value("flag", "show a progress bar"),
    "metrics": Section(others=Section(_METRIC, registry="metric"), null=True, doc="metrics with names of your choice"),
    "inference": Value("text", "inference variant for validation images, such as full, tiles or self_ensemble",
                       pattern=PATTERN, only="HANModel",
                       wanted=f"{WANTED} (tiled-... is now called tiles-...; tiles are blended, so scores differ)"),
}  # fmt: skip
_LOGGER: Nodes = {
    "print_freq": Value("whole", "number of iterations between two lines in the log", low=1, need="always"),
    "save_checkpoint_freq": Value("whole", "number of iterations between two checkpoints", low=1, need="always"),
    "use_tb_logger": Value("flag", "write TensorBoard files", need="always"),
    "wandb": Section({"project": Value("text", null=True), "resume_id": Value("text", null=True)}, null=True),
    "keep_last": Value("whole", "number of newest checkpoints to keep; ~: keep all", low=1, null=True, only="HANModel"),
    "keep_best": Value("text", "name of the metric that selects the best checkpoint", null=True, only="HANModel"),
}
_PATH: Nodes = {
    "pretrain_network_g": Value("text", "checkpoint to start from: a file, or a name in the model zoo", null=True),
    "param_key_g": Value("text", "key of the weights, such as params_ema; ~: the file has only weights", null=True),
    "strict_load_g": Value("flag", "true: all weights must fit the network; false: load only weights that fit"),
    "pretrain_network_d": Value("text", "checkpoint of the discriminator to start from", null=True, only="SRGANModel"),
    "param_key_d": Value("text", "key of the weights in the discriminator's file", null=True, only="SRGANModel"),
    "strict_load_d": Value("flag", "true: all weights must fit the discriminator", only="SRGANModel"),
    "resume_state": Value("text", "training state (.state file) to resume from", null=True),
    "ignore_resume_networks": Values(Value("text"), null=True),
}
OPTIONS = Section({
    "name": Value("text", "name of the run and of its output folder",
                  pattern=r"[A-Za-z0-9][A-Za-z0-9_.+-]*", need="always",
                  wanted="a folder name of letters, digits and _ . + - that starts with a letter or digit"),
    "model_type": Value("text", "class that trains and validates the network, such as HANModel", need="always"),
    "scale": Value("whole", "upscaling factor", low=1),
    "num_gpu": Value("whole", "number of GPUs; 0: use the CPU; auto: use all GPUs", low=0, word="auto", need="always"),
    "winograd": Value("flag", "use Winograd's algorithm, which is faster in fp32 on a CPU", only="HANModel"),
    "manual_seed": Value("whole", "random seed; ~: a new random seed for each run", low=0, high=2**31, null=True),
    "find_unused_parameters": Value("flag", "in distributed training, allow parameters that get no gradient"),
    "datasets": Section({"train": Section(_TRAIN_SET, registry="dataset", closed_types=CLOSED_SETS, need="train")},
                        others=Section(_EVAL_SET, registry="dataset", closed_types=CLOSED_SETS), need="always",
                        doc="data sets: train, val, val_1, ... in a training; test_1, test_2, ... in a test"),
    "network_g": Section({"type": _TYPE}, registry="network", need="always"),
    "network_d": Section({"type": _TYPE}, registry="network", doc="discriminator", only="SRGANModel"),
    "path": Section(_PATH, null=True),
    "train": Section(_TRAIN, others=_loss("an additional loss", "HANModel"), others_named=r"\w+_opt", need="train"),
    "val": Section(_VAL, null=True, need="test"),
    "logger": Section(_LOGGER, need="train"),
    "dist_params": Section({
        "backend": Value("text", "backend of torch.distributed", choices=("nccl", "gloo")),
        "port": Value("whole", "TCP port on the first node, for runs that slurm starts", low=1, high=65535),
    }, null=True),
})  # fmt: skip
