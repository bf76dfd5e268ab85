"""What is skipped is counted in the card, and a training that was stopped counts on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cirbench.errors import MissingData
from cirbench.training.checkpoint import read_card
from cirbench.training.contrastive import Contrastive
from cirbench.training.data import Source
from cirbench.training.interface import TrainingParameters
from cirbench.training.state import StateSaver
from cirbench.training.train import Request, train
from tests.tiny_clip import tiny_backbone
from tests.training.plain_samples import GreySample

if TYPE_CHECKING:
    from pathlib import Path


BROKEN = (3, 4, 9)


def request(skip_broken: int) -> Request:
    source = Source("greys", [GreySample(grey, grey in BROKEN) for grey in range(12)], "0" * 64)
    parameters = TrainingParameters(epochs=2, batch_size=4, lr=1e-3)
    return Request("clip", Contrastive, parameters, tiny_backbone(), source, skip_broken=skip_broken)


def weights(folder: Path) -> tuple[str, int]:
    card = read_card(folder)
    return card.weights, card.skipped


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(request(3), folder=tmp_path_factory.mktemp("undisturbed"))


def test_the_card_says_how_many_samples_were_skipped(undisturbed: Path) -> None:
    assert read_card(undisturbed).skipped == len(BROKEN)


@pytest.mark.slow
def test_workers_change_nothing(undisturbed: Path, tmp_path: Path) -> None:
    assert weights(train(request(3), folder=tmp_path, workers=1)) == weights(undisturbed)


@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_stopped_training_ends_in_the_same_weights_and_the_same_count(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    keep = StateSaver.on_step_end

    def stop_after(self: StateSaver, progress: Any, *, stopping: bool) -> None:
        if progress.step == after:
            self.stop.set()
        keep(self, progress, stopping=stopping or progress.step == after + 1)

    with monkeypatch.context() as patch:
        patch.setattr(StateSaver, "on_step_end", stop_after)
        with pytest.raises(Exception, match="The training was stopped; its state is kept"):
            train(request(3), folder=tmp_path)
    assert weights(train(request(3), folder=tmp_path)) == weights(undisturbed)


def test_one_more_than_allowed_ends_the_training_and_a_larger_number_continues_it(
    undisturbed: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        MissingData, match=r"Sample \d+ of greys cannot be used: square \d is torn.* 2 others were skipped"
    ):
        train(request(2), folder=tmp_path, save_seconds=0)
    assert weights(train(request(3), folder=tmp_path)) == weights(undisturbed)


def test_a_resumed_training_may_not_be_allowed_less_than_it_skipped(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="2 others were skipped"):
        train(request(2), folder=tmp_path, save_seconds=0)
    with pytest.raises(MissingData, match=r"samples? of greys cannot be used, and --skip-broken 0 allows fewer|Sample"):
        train(request(0), folder=tmp_path)
