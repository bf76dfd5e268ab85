"""What is sent to a device and read back is the same, and may be overwritten when the sender is told so."""

from __future__ import annotations

import pytest
import torch

from cirbench.support.device import Arriving, host_levels, send

DEVICES = [torch.device("cpu"), *([torch.device("cuda")] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_what_is_sent_comes_back(device: torch.device) -> None:
    levels = host_levels((2, 3, 4, 4), device)
    assert levels.dtype == torch.uint8
    assert not levels.any()
    levels += torch.arange(16, dtype=torch.uint8).view(4, 4)
    sent = send(levels, device)
    assert sent.device.type == device.type
    assert torch.equal(Arriving(sent).read(), levels)


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_what_is_under_way_is_as_it_was_when_it_left(device: torch.device) -> None:
    there = torch.ones(3, device=device, requires_grad=True)
    under_way = Arriving(there)
    with torch.no_grad():
        there += 1
    assert under_way.read().tolist() == [1.0, 1.0, 1.0]
    assert not under_way.read().requires_grad
