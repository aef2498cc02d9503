"""The rules of a second device, kept by all helpers and by the notebooks' own cells."""

import numpy as np
import pytest
import second_device
import torch
import torch.nn.functional as F
from torch import nn

MIXED, NUMPY = "on the same device", "can't convert cuda:0 device type tensor to numpy"


@pytest.fixture
def card():
    """Plug a card in."""
    with second_device.card() as device:
        yield device


# ---- the tool itself ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (lambda here, card: here + card, MIXED),
        (lambda here, card: card * here, MIXED),
        (lambda here, card: here @ card, MIXED),
        (lambda here, card: torch.cat([here, card]), MIXED),
        (lambda here, card: torch.stack([here[0], card[0]]), MIXED),
        (lambda here, card: torch.where(card > 0, card, here), MIXED),
        (lambda here, card: torch.equal(here, card), MIXED),
        (lambda here, card: here.gather(0, card.long()), MIXED),
        (lambda here, card: here[card.long()], MIXED),
        (lambda here, card: here[card > 0], MIXED),
        (lambda here, card: torch.zeros(()).add_(card[0]), MIXED),
        (lambda here, card: card.index_add_(0, torch.tensor([0]), card[:1]), MIXED),
        (lambda here, card: card.__setitem__(torch.tensor([0, 1]), here[:2]), MIXED),
        (lambda here, card: F.conv1d(here[None, None], card[None, None]), MIXED),
        (lambda here, card: nn.Linear(3, 2).to("cuda")(here), MIXED),
        (lambda here, card: F.cross_entropy(card[None], torch.tensor([0])), MIXED),
        (lambda here, card: card.numpy(), NUMPY),
        (lambda here, card: np.asarray(card), NUMPY),
        (lambda here, card: np.stack([card, card]), NUMPY),
        (lambda here, card: torch.rand(3, device="cuda", generator=torch.Generator()), "generator"),
    ],
)  # fmt: skip
def test_what_a_card_refuses_is_refused(card, refused, words):
    here = torch.tensor([1.0, 2.0, 0.0])
    with pytest.raises((RuntimeError, TypeError), match=words):
        refused(here, here.to(card))


@pytest.mark.parametrize(
    "allowed",
    [
        lambda here, card: card + torch.tensor(1.0),  # a single number of this side
        lambda here, card: torch.where(card > 0, card, torch.tensor(0.0)),
        lambda here, card: card[torch.tensor([0, 2])],  # indices of this side
        lambda here, card: card[[2, 0]],
        lambda here, card: card[np.array([2, 0])],
        lambda here, card: card[here > 0],
        lambda here, card: card.clone().copy_(here),
        lambda here, card: here.to(card),
        lambda here, card: here.cuda(),
        lambda here, card: card.new_tensor([1.0, 2.0]),
        lambda here, card: card.new_zeros(2),
        lambda here, card: torch.tensor([1.0, 2.0], device=card.device),
        lambda here, card: torch.arange(3, device=card.device),
        lambda here, card: torch.zeros_like(card).normal_(),
        lambda here, card: torch.from_numpy(np.ones(3)).to(card.device),
        lambda here, card: F.interpolate(card[None, None], 6, mode="linear"),
        lambda here, card: card.quantile(0.5),
    ],
)
def test_what_a_card_allows_goes_through_and_stays_there(card, allowed):
    here = torch.tensor([1.0, 2.0, 0.0])
    result = allowed(here, here.to(card))
    assert result.device == card and result.is_cuda and result.device.type == "cuda"


def test_numbers_may_come_back(card):
    here = torch.tensor([1.0, 2.0, 0.0])
    there = here.to(card)
    assert there.cpu().device.type == "cpu" and torch.equal(there.cpu(), here)
    assert there.cpu().numpy().sum() == there.sum().item() == float(there.sum()) == 3
    assert there.tolist() == [1.0, 2.0, 0.0] and f"{there[1]:.2f}" == "2.00"
    assert here[there[0].long()] == 2  # a single number, which PyTorch reads
    assert torch.tensor([there[0], there[1]]).tolist() == [1.0, 2.0]
    other = torch.zeros(3)
    other[:2] = there[:2]  # a copy
    assert other.tolist() == [1.0, 2.0, 0.0]
    assert "cuda:0" in repr(there)


def test_changes_in_place_reach_views_and_shapes(card):
    there = torch.zeros(2, 3).to(card)
    there[0].fill_(5)
    there[1] += 1
    there[:, 2] = torch.tensor(7.0)
    assert there.tolist() == [[5, 5, 7], [1, 1, 7]]
    assert there.unsqueeze_(0).shape == (1, 2, 3)
    assert there[0].t_().tolist() == [[5, 1], [5, 1], [7, 7]]


def test_a_network_learns_there_what_it_learns_here():
    def learned(device):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(),
            nn.Linear(4 * 36, 2),
        ).to(device)  # fmt: skip
        assert all(isinstance(p, nn.Parameter) for p in network.parameters())
        assert {p.device.type for p in network.state_dict().values()} == {device}
        optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
        images = torch.rand(8, 3, 8, 8).to(device)
        labels = torch.arange(8, device=device) % 2
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            optimizer.step()
        return [p.detach().cpu() for p in network.parameters()]

    here = learned("cpu")
    with second_device.card():
        there = learned("cuda")
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(a, b)


def test_the_card_draws_from_random_numbers_of_its_own(card):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = torch.rand(3, device=card)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(torch.rand(3, device=card), first)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert torch.equal(torch.rand(3, device=card), first)
    torch.default_generator.manual_seed(0)  # this seeds the numbers of this side alone
    assert not torch.equal(torch.rand(3, device=card), first)


def test_without_the_card_nothing_is_left():
    with second_device.card():
        assert torch.cuda.is_available()
    assert torch.cuda.is_available() == (torch.cuda.device_count() > 0)
    x = torch.rand(3, requires_grad=True)
    x.sum().backward()
    assert type(x.grad) is torch.Tensor
