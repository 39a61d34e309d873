"""`basicsr train`."""

import argparse

from han_arch.training import start

EXAMPLES = """examples:
  basicsr train -opt options/train_HAN_x4.yml
  basicsr train -opt train_HAN_x4 --check
  basicsr train -opt train_HAN_x4 --auto_resume
  basicsr train -opt train_HAN_x4 --force_yml train:total_iter=1000 datasets:train:batch_size_per_gpu=4
  basicsr train -opt train_HAN_x4 --force_yml train:precision=bf16 train:channels_last=true
  torchrun --nproc_per_node 4 -m han_arch train -opt options/train_HAN_x4.yml --launcher pytorch
  srun --ntasks-per-node 4 --kill-on-bad-exit=1 basicsr train -opt train_HAN_x4 --launcher slurm

Exit status 0: all iterations are done; 3: SIGINT or SIGTERM ended the run after saving.
Writes experiments/NAME and tb_logger/NAME under the current folder."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EXAMPLES
    start.add_flags(parser)
    parser.add_argument("--fresh", action="store_true", help="set an unfinished run of the same name aside, start anew")


def run(args: argparse.Namespace) -> int:
    """Train."""
    return start.run(args, is_train=True)
