"""The guard skips a bad step, rolls back to the last checkpoint, or ends the training."""

import copy

import pytest
from steps import batch, largest_difference, run_steps

from han_arch.errors import UserError


def test_bad_batch_is_skipped_and_named(build, messages: pytest.LogCaptureFixture) -> None:
    model = build()
    run_steps(model)
    before = copy.deepcopy(model.net_g.state_dict())
    bad = batch()
    bad["gt"][2, 0, 0, 0] = float("nan")
    model.feed_data(bad)
    model.optimize_parameters(4)
    assert largest_difference(before, model.net_g.state_dict()) == 0
    assert "iteration 4: l_pix is nan" in messages.text
    assert "photo0.png, photo1.png" in messages.text
    model.feed_data(batch())
    model.optimize_parameters(5)
    assert largest_difference(before, model.net_g.state_dict()) > 0


def test_exploding_loss_rolls_back_to_the_checkpoint(build, messages: pytest.LogCaptureFixture) -> None:
    model = build(guard={"action": "rollback", "factor": 5})
    run_steps(model, 25)
    model.save(0, 25)
    saved = copy.deepcopy(model.net_g.state_dict())
    model.feed_data(batch(seed=99))
    model.optimize_parameters(26)
    assert largest_difference(saved, model.net_g.state_dict()) > 0
    loud = batch()
    loud["gt"] += 50
    model.feed_data(loud)
    model.optimize_parameters(27)
    assert largest_difference(saved, model.net_g.state_dict()) == 0
    assert "largest term: l_pix" in messages.text
    assert "checkpoint of iteration 25" in messages.text


def test_gives_up_after_bad_steps_in_a_row(build) -> None:
    model = build(guard={"give_up_after": 3, "max_loss": 1e-9})
    for current_iter in (1, 2):
        model.feed_data(batch())
        model.optimize_parameters(current_iter)
    model.feed_data(batch())
    with pytest.raises(UserError, match=r"gave up after 3 bad steps in a row.*above max_loss.*photo0.png"):
        model.optimize_parameters(3)
