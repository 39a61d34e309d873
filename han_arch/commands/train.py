"""The command `basicsr train`."""

import argparse

from han_arch.commands import add_option_file
from han_arch.training import start

EXAMPLES = """examples:
  basicsr train -opt options/train_HAN_x4.yml
  basicsr train -opt train_HAN_x4 --check
  basicsr train -opt train_HAN_x4 --auto_resume
  basicsr train -opt train_HAN_x4 --force_yml train:total_iter=1000 datasets:train:batch_size_per_gpu=4
  basicsr train -opt train_HAN_x4 --force_yml train:precision=bf16 train:channels_last=true
  torchrun --nproc_per_node 4 -m han_arch train -opt options/train_HAN_x4.yml --launcher pytorch
  srun --ntasks-per-node 4 --kill-on-bad-exit=1 basicsr train -opt train_HAN_x4 --launcher slurm

Exit status: 0 if all iterations are done; 3 if SIGINT or SIGTERM stopped the run, after it saved a checkpoint.
The run writes to experiments/NAME and tb_logger/NAME in the current folder, where NAME is the option `name`."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `basicsr train` to the parser."""
    parser.epilog = EXAMPLES
    add_flags(parser)
    parser.add_argument("--fresh", action="store_true",
        help="start at iteration 0; the folder of an unfinished run of this name is renamed automatically")  # fmt: skip


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `basicsr train` and `basicsr test` share."""
    add_option_file(
        parser, "options to change or add, with their values, e.g. train:total_iter=1000 train:precision=bf16"
    )
    add = parser.add_argument
    add("--launcher", choices=["none", "pytorch", "slurm"], default="none",
        help="none = one process (default); pytorch = started by torchrun; slurm = started by srun")  # fmt: skip
    add("--auto_resume", action="store_true", help="resume from the newest training state, if there is one")
    add("--debug", action="store_true", help="put debug_ before the name of the run; in training, also log every "
        "iteration, and validate and save every 8 iterations")  # fmt: skip
    add("--check", action="store_true", help="check the options, print them as the run would use them, and stop")


def run(args: argparse.Namespace) -> int:
    """Run the training and return the exit status."""
    return start.run(args, is_train=True)
