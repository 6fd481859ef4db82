"""Fixed statistics: batches no longer matter, and training leaves them alone, whatever mode a trainer sets."""

from __future__ import annotations

import copy

import torch

from medsr.engines import frozen_batch_norm
from medsr.networks.registry import small


def test_statistics_stay_and_the_rest_trains() -> None:
    torch.manual_seed(0)
    network = small("meta-srgan")
    for _ in range(3):
        network.train()(torch.rand(4, 1, 8, 8), 2)  # statistics of something
    free, frozen = copy.deepcopy(network), frozen_batch_norm(copy.deepcopy(network))
    before = {k: v.clone() for k, v in frozen.state_dict().items()}
    lr = torch.rand(4, 1, 8, 8)
    alone, together = frozen.train()(lr[:1], 2), frozen.train()(lr, 2)[:1]
    torch.testing.assert_close(alone, together)
    torch.testing.assert_close(alone, free.eval()(lr[:1], 2))
    assert not torch.allclose(free.train()(lr[:1], 2), free.train()(lr, 2)[:1], atol=1e-4), "that is what it is for"
    optimizer = torch.optim.SGD(frozen.parameters(), 0.1)
    frozen.train()(lr, 2).square().mean().backward()
    optimizer.step()
    after = frozen.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert not [k for k in changed if "running" in k or "num_batches" in k]
    assert {k for k in before if k.startswith("body.0")} & changed


def test_not_asked_for() -> None:
    network = small("meta-srgan")
    assert frozen_batch_norm(network, False) is network
    assert not network._forward_pre_hooks
