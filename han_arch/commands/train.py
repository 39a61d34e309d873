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

Exit status 0: all iterations are done; 3: SIGINT or SIGTERM stopped the run after saving.
Writes experiments/NAME and tb_logger/NAME under the current folder."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EXAMPLES
    add_flags(parser)
    parser.add_argument(
        "--fresh", action="store_true", help="rename the folder of an unfinished run of that name, start from 0"
    )


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add BasicSR's flags, which train and test share."""
    parser.add_argument("-opt", required=True, metavar="FILE", help="option file: a path, or a shipped name")
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm"], default="none", help="the program that started this process"
    )
    parser.add_argument("--auto_resume", action="store_true", help="resume from the newest training state, if any")
    parser.add_argument("--debug", action="store_true", help="log every iteration, validate and save every 8")
    parser.add_argument("--check", action="store_true", help="check the options, print them as a run would use them")
    parser.add_argument(
        "--force_yml",
        nargs="+",
        default=[],
        metavar="KEY:KEY=VALUE",
        help="change options, or add known ones, e.g. train:total_iter=1000 train:precision=bf16",
    )


def run(args: argparse.Namespace) -> int:
    """Train."""
    return start.run(args, is_train=True)
