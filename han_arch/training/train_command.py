"""`basicsr train`."""

import argparse

from han_arch.training import pipeline

EXAMPLES = """examples:
  basicsr train -opt options/train_HAN_x4.yml
  basicsr train -opt train_HAN_x4 --auto_resume
  basicsr train -opt train_HAN_x4 --force_yml train:total_iter=1000 datasets:train:batch_size_per_gpu=4
  torchrun --nproc_per_node 4 -m han_arch train -opt options/train_HAN_x4.yml --launcher pytorch

Writes experiments/NAME and tb_logger/NAME under the current folder."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EXAMPLES
    pipeline.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Train."""
    return pipeline.run(args, is_train=True)
