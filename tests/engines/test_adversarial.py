"""The adversarial trainer: what an iteration does, what it leaves out, resumption, processes, logs."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.engines import Evaluator, IterationEvents
from monai.handlers import StatsHandler, from_engine
from torch import nn
from torch.utils.data import DataLoader, Dataset

from medsr.engines import AdversarialTrainer, StandardHandlers, WeightedEpochSampler, milestone_schedule
from medsr.engines.distributed import average_gradients
from medsr.errors import InputError, MedsrError
from medsr.losses import WGANGP, PerceptualLoss, WeightedLoss
from medsr.networks.registry import small

KINDS = ("vanilla", "ragan", "wgan", "wgan-gp")


class Pairs(Dataset):
    """LR and HR patches of random textures, some of them poisoned."""

    def __init__(self, count: int = 8, scale: str | None = None, poison: Sequence[int] = (), factor: float = 1e9):
        generator = torch.Generator().manual_seed(5)
        self.hr = torch.rand(count, 1, 16, 16, generator=generator)
        for index in poison:
            self.hr[index] *= factor
        self.scale = scale

    def __len__(self) -> int:
        return len(self.hr)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = {"image": nn.functional.avg_pool2d(self.hr[index], 2), "label": self.hr[index]}
        return item if self.scale is None else {**item, "scale": self.scale}


class Generator(nn.Module):
    """Twice the pixels; remembers its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1))
        self.calls: list[tuple[Any, ...]] = []

    def forward(self, lr: torch.Tensor, *arguments: Any) -> torch.Tensor:
        self.calls.append(arguments)
        return nn.functional.pixel_shuffle(self.body(lr), 2)


class Critic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(4 * 49, 1))
        self.calls = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.net(image)


class Validator(Evaluator):
    def __init__(self) -> None:
        super().__init__(torch.device("cpu"), [0])

    def run(self, global_epoch: int = 1) -> None:
        self.state.best_metric, self.state.best_metric_epoch = float(global_epoch), global_epoch


class Task:
    """A small adversarial training, with a record of the parameters after each iteration."""

    def __init__(self, directory: Path | None = None, data: Dataset | None = None, epochs: int = 2, **options: Any):
        torch.manual_seed(0)
        self.network, self.critic = Generator(), Critic()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-3)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=1e-3, betas=(0.0, 0.9))
        self.loss = WeightedLoss({"l1": nn.L1Loss(), "mse": nn.MSELoss()}, [1, 0.5])
        self.critic_schedule = milestone_schedule(self.critic_optimizer, [3])
        data = Pairs() if data is None else data
        handlers: list[Any] = []
        if directory is not None:
            schedule = milestone_schedule(self.optimizer, [5])
            handlers = [
                StandardHandlers(self.network, self.optimizer, schedule, Validator(), str(directory), self.loss)
            ]
        sampler = WeightedEpochSampler([{}] * len(data), 8) if directory is not None else None  # type: ignore[arg-type]
        self.trainer = AdversarialTrainer(
            device="cpu",
            max_epochs=epochs,
            train_data_loader=DataLoader(data, batch_size=2, sampler=sampler),
            network=self.network,
            optimizer=self.optimizer,
            loss_function=self.loss,
            discriminator=self.critic,
            discriminator_optimizer=self.critic_optimizer,
            discriminator_scheduler=self.critic_schedule,
            train_handlers=handlers,
            **options,
        )
        self.moved: list[tuple[bool, bool]] = []  # network, discriminator
        self.outputs: list[Any] = []
        self._last = self._values()
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self._record)

    def _values(self) -> list[torch.Tensor]:
        return [torch.cat([p.detach().flatten() for p in m.parameters()]) for m in (self.network, self.critic)]

    def _record(self) -> None:
        now = self._values()
        self.moved.append(tuple(not torch.equal(a, b) for a, b in zip(self._last, now, strict=True)))  # type: ignore
        self._last = now
        self.outputs.append(self.trainer.state.output)

    def run(self) -> Task:
        self.trainer.run()
        return self


@pytest.mark.parametrize("kind", KINDS)
def test_both_networks_learn(kind: str) -> None:
    task = Task(adversarial=kind).run()
    assert task.moved == [(True, True)] * 8
    terms = {"d_loss", "d_real", "d_fake", "g_adversarial", "discarded"}
    assert set(task.trainer.terms) == terms | ({"d_penalty"} if kind == "wgan-gp" else set())
    if kind == "wgan":
        assert max(float(p.detach().abs().max()) for p in task.critic.parameters()) <= 0.01 + 1e-8


def test_output_is_that_of_monais_trainers() -> None:
    events = []
    task = Task(adversarial_weight=0.25, epochs=1)
    for event in IterationEvents:
        if event in task.trainer._allowed_events:
            task.trainer.add_event_handler(event, lambda _, event=event: events.append(event.name))
    task.run()
    order = ["FORWARD_COMPLETED", "LOSS_COMPLETED", "BACKWARD_COMPLETED", "MODEL_COMPLETED"]
    assert [name for name in events[:8] if name in order] == order * 2
    first = task.outputs[0]
    assert isinstance(first, list), "decollated"
    assert set(first[0]) == {"image", "label", "pred", "loss", "g_loss", "d_loss"}
    item = first[0]
    assert item["image"].shape == (1, 8, 8)
    assert item["pred"].shape == item["label"].shape == (1, 16, 16)
    sr, hr = (torch.stack([i[key] for i in first]) for key in ("pred", "label"))
    pixel = (sr - hr).abs().mean() + 0.5 * (sr - hr).square().mean()
    assert float(item["loss"]) == pytest.approx(float(pixel) + 0.25 * float(item["g_loss"]), rel=1e-5)
    assert from_engine(["pred", "loss"])(first)[1][0] == item["loss"]


def test_monais_handlers_work(capsys: pytest.CaptureFixture[str]) -> None:
    task = Task(epochs=1)
    task.trainer.logger.setLevel(logging.INFO)
    StatsHandler(name="stats", tag_name="train_loss", output_transform=from_engine(["loss"], first=True)).attach(
        task.trainer
    )
    task.run()
    assert capsys.readouterr().out.count("train_loss") == 4


def test_warm_up_leaves_the_discriminator_alone() -> None:
    task = Task(warm_up=5)
    rates = []
    task.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: rates.append(task.critic_optimizer.param_groups[0]["lr"])
    )
    task.run()
    assert task.moved == [(True, False)] * 5 + [(True, True)] * 3
    assert "d_loss" not in task.outputs[4][0]
    assert "d_loss" in task.outputs[5][0]
    assert rates == pytest.approx([1e-3] * 7 + [5e-4]), "its schedule counts its own iterations"


def test_critic_steps() -> None:
    steps = []
    task = Task(epochs=1, critic_steps=3, adversarial="wgan")
    task.critic_optimizer.register_step_post_hook(lambda *_: steps.append(1))
    task.run()
    assert len(steps) == 3 * 4
    assert task.critic.calls == 4 * (3 * 2 + 1)
    assert len(task.network.calls) == 4, "one image for all of them"


def test_generator_gets_the_weighted_sum_and_the_critic_nothing_of_it() -> None:
    """One step of plain SGD by hand."""
    task = Task(adversarial=WGANGP(2.0), adversarial_weight=0.3, epochs=1)
    task.trainer.state.epoch_length = 1
    g, d = Generator(), Critic()
    g.load_state_dict(task.network.state_dict())
    d.load_state_dict(task.critic.state_dict())
    g_optimizer, d_optimizer = torch.optim.SGD(g.parameters(), 0.1), torch.optim.SGD(d.parameters(), 0.1)
    task.trainer.optimizer = torch.optim.SGD(task.network.parameters(), 0.1)
    task.trainer.discriminator_optimizer = torch.optim.SGD(task.critic.parameters(), 0.1)
    batch = next(iter(DataLoader(Pairs(), batch_size=2)))
    sr, hr = g(batch["image"]), batch["label"]
    torch.manual_seed(3)
    share = torch.rand(2, 1, 1, 1)
    torch.manual_seed(3)
    task.trainer.add_event_handler(Events.ITERATION_STARTED, lambda: torch.manual_seed(3))
    between = (share * sr + (1 - share) * hr).detach().requires_grad_()
    (slope,) = torch.autograd.grad(d(between).sum(), between, create_graph=True)
    penalty = ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()
    (d(sr.detach()).mean() - d(hr).mean() + 2 * penalty).backward()
    d_optimizer.step()
    g_optimizer.zero_grad()
    ((sr - hr).abs().mean() + 0.5 * ((sr - hr) ** 2).mean() - 0.3 * d(sr).mean()).backward()
    g_optimizer.step()
    task.run()
    for ours, expected in ((task.network, g), (task.critic, d)):
        for a, b in zip(ours.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert all(p.requires_grad for p in task.critic.parameters())


@pytest.mark.parametrize("factor", [1e9, float("nan"), float("inf")])
def test_exploding_batches_are_discarded(factor: float, caplog: pytest.LogCaptureFixture) -> None:
    task = Task(data=Pairs(poison=[2], factor=factor), epochs=2)
    with caplog.at_level(logging.WARNING):
        task.run()
    assert task.moved == [(True, True), (False, False), (True, True), (True, True)] * 2
    assert task.trainer.discarded.count == 2
    assert "the batch is discarded (2 so far)" in caplog.text
    assert all(torch.isfinite(p).all() for p in task.network.parameters())
    assert all(torch.isfinite(p).all() for p in task.critic.parameters())


def test_exploding_critic_is_discarded() -> None:
    task = Task(epochs=1, explosion=1e3)
    with torch.no_grad():
        task.critic.net[3].bias.fill_(
            -1e6
        )  # the generator's term: 1e6 times its weight; the critic's difference: small
    task.trainer.adversarial_weight = 1.0
    task.run()
    assert [moved[0] for moved in task.moved] == [False] * 4
    task = Task(epochs=1, adversarial=WGANGP(1e12))
    task.run()
    assert task.moved == [(False, False)] * 4
    assert task.trainer.discarded.count == 4


def test_scale_of_the_batch_reaches_the_network() -> None:
    task = Task(data=Pairs(scale="23/10"), epochs=1).run()
    assert task.network.calls == [(Fraction(23, 10),)] * 4
    assert Task(epochs=1).run().network.calls == [()] * 4


def test_network_of_any_scale_and_published_discriminator() -> None:
    """MIASSR at 1.5 against SRGAN's discriminator, with a perceptual term that needs no one's files."""

    class Items(Pairs):
        def __getitem__(self, index: int) -> dict[str, Any]:
            hr = nn.functional.interpolate(self.hr[index][None], size=(30, 30))[0]
            return {"image": nn.functional.interpolate(hr[None], size=(20, 20))[0], "label": hr, "scale": "3/2"}

    network, critic = small("miassr"), small("srgan-discriminator-zhu2022")
    unet = small("segmentation-unet").eval()
    terms = {"l1": nn.L1Loss(), "perceptual": PerceptualLoss(unet, ["E1"])}
    before = [p.clone() for p in network.parameters()]
    trainer = AdversarialTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=DataLoader(Items(2), batch_size=2),
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), 1e-4),
        loss_function=WeightedLoss(terms, [1, 0.006]),
        discriminator=critic,
        discriminator_optimizer=torch.optim.Adam(critic.parameters(), 1e-5, betas=(0.0, 0.9)),
        amp=True,  # without CUDA: nothing
    )
    trainer.run()
    assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert all(p.dtype == torch.float32 for p in network.parameters())
    assert set(trainer.loss_function.last) == {"l1", "perceptual"}


@pytest.mark.parametrize("kind", ["wgan-gp", "ragan"])
def test_resumed_run_equals_straight_run(tmp_path: Path, kind: str) -> None:
    options = {"adversarial": kind, "warm_up": 3, "data": Pairs(poison=[2])}
    Task(tmp_path / "straight", epochs=4, **options).run()
    Task(tmp_path / "resumed", epochs=2, **options).run()
    resumed = Task(tmp_path / "resumed", epochs=4, **options).run()
    assert len(resumed.moved) == 8
    a, b = (torch.load(tmp_path / run / "checkpoint_epoch=4.pt", weights_only=True) for run in ("straight", "resumed"))
    assert set(a) == {
        "network", "optimizer", "scheduler", "trainer", "best",
        "discriminator", "discriminator_optimizer", "discriminator_scheduler", "discarded",
    }  # fmt: skip
    assert a["discarded"]["count"] > 0

    def same(x: Any, y: Any) -> bool:
        if isinstance(x, dict):
            return x.keys() == y.keys() and all(same(x[k], y[k]) for k in x)
        if isinstance(x, list | tuple):
            return len(x) == len(y) and all(map(same, x, y))
        return torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y

    assert {key: same(a[key], b[key]) for key in a} == dict.fromkeys(a, True)
    early = torch.load(tmp_path / "straight" / "checkpoint_epoch=3.pt", weights_only=True)
    assert not same(a["discriminator"], early["discriminator"])
    assert set(torch.load(tmp_path / "resumed" / "model.pt", weights_only=True)) == set(Generator().state_dict())


def test_checkpoint_of_another_kind_of_run_is_refused(tmp_path: Path) -> None:
    Task(tmp_path, epochs=1).run()
    checkpoint = torch.load(tmp_path / "checkpoint_epoch=1.pt", weights_only=True)
    del checkpoint["discriminator"]
    torch.save(checkpoint, tmp_path / "checkpoint_epoch=1.pt")
    with pytest.raises(InputError, match="lacks discriminator; it is of another kind of run"):
        Task(tmp_path, epochs=2).run()


def test_every_term_is_logged(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Task(tmp_path, epochs=1).run()
    log = EventAccumulator(str(tmp_path / "tensorboard"))
    log.Reload()
    scalars = {tag: [event.value for event in log.Scalars(tag)] for tag in log.Tags()["scalars"]}
    expected = {"loss", "loss_l1", "loss_mse", "d_loss", "d_real", "d_fake", "d_penalty", "g_adversarial", "discarded"}
    assert {f"train_{name}" for name in expected} <= set(scalars)
    for total, l1, mse, adversarial in zip(
        *(scalars[f"train_{name}"] for name in ("loss", "loss_l1", "loss_mse", "g_adversarial")), strict=True
    ):
        assert total == pytest.approx(l1 + 0.5 * mse + 1e-3 * adversarial, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"critic_steps": 0}, "critic_steps >= 1"),
        ({"warm_up": -1}, "warm_up >= 0"),
        ({"adversarial_weight": -1}, "adversarial_weight >= 0"),
        ({"explosion": 0}, "explosion must be a positive number such as .*, got 0"),
    ],
)
def test_settings_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Task(**options)


def test_unknown_kind() -> None:
    with pytest.raises(MedsrError, match="one of vanilla"):
        Task(adversarial="hinge")


def in_two_processes(output: Path) -> None:
    """What each of two processes runs: WGAN-GP, a batch that explodes on one of them alone; wrapped or not."""
    from medsr.engines import parallel, rank, start_processes, stop_processes

    start_processes()
    output.mkdir(parents=True, exist_ok=True)
    both, one = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3, 1))
    both.grad, one.grad = torch.full((2,), 1.0 + rank()), torch.ones(3, 1) if rank() else None
    average_gradients([both, one])
    assert both.grad.tolist() == [1.5, 1.5]
    assert one.grad is not None
    assert one.grad.tolist() == [[0.5]] * 3, "absent counts as zero"
    for how in ("plain", "wrapped"):
        data = Pairs(4, poison=[2] if rank() == 1 else [])
        data.hr += 0.1 * rank()  # other data than the other process's
        task = Task(epochs=1, adversarial="wgan-gp", data=data)
        with torch.no_grad():
            for p in task.network.parameters():
                p.add_(0.1 * rank())  # the trainer makes them equal
        if how == "wrapped":
            task.trainer.network = parallel(task.network, torch.device("cpu"))
            task.trainer.discriminator = parallel(task.critic, torch.device("cpu"))
        task.run()
        state = {"values": task._values(), "discarded": task.trainer.discarded.count, "moved": task.moved}
        torch.save(state, output / f"{how}_{rank()}.pt")
    stop_processes()


@pytest.mark.slow
def test_two_processes_stay_one(tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes=1", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launcher, __file__, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for how in ("plain", "wrapped"):
        a, b = (torch.load(tmp_path / f"{how}_{rank}.pt", weights_only=True) for rank in range(2))
        assert a["discarded"] == b["discarded"] == 1, "what explodes in one is discarded in both"
        assert [tuple(moved) for moved in a["moved"]] == [(True, True), (False, False)]
        assert a["moved"] == b["moved"]
        for x, y in zip(a["values"], b["values"], strict=True):
            assert torch.equal(x, y)


if __name__ == "__main__":
    in_two_processes(Path(sys.argv[1]))
