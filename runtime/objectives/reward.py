"""Reward models: learn from pairs of answers to score the better one higher."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from ..errors import ExitCode, UserError
from ..models.parts import is_reward_model
from ..models.score import ScoreReader
from .base import Batch, Objective


def pair_losses(chosen_b: Tensor, rejected_b: Tensor, margin_b: Tensor, center: float) -> Tensor:
    """Return `-log sigmoid(chosen - rejected - margin) + center * (chosen + rejected)^2` of each pair.

    Bradley-Terry with the margin of Touvron et al. 2023 (arXiv:2307.09288, eq. 2), 0 without any; the second term
    keeps scores around zero (Eisenstein et al. 2023, arXiv:2312.09244).
    """
    losses_b = -functional.logsigmoid(chosen_b - rejected_b - margin_b)
    return losses_b + center * (chosen_b + rejected_b).square() if center else losses_b


class RewardModel(Objective):
    """The pairwise logistic loss, a mean over pairs."""

    headline = "accuracy"
    measures: ClassVar[tuple[str, ...]] = ("accuracy", "margin", "chosen_score", "rejected_score")

    def __init__(self, *, center: float = 0.0) -> None:
        """Weigh the squared sum of the scores of a pair by `center`."""
        super().__init__()
        self.center = center

    def attach(self, model: Any) -> str:
        """Read the scores of the model at the end of each text.

        Raises:
            UserError: (INTERNAL) the model does not score texts.
        """
        if not is_reward_model(model):
            raise UserError(
                "this model has no head that scores",
                help="load it with `models.load_reward_model`",
                code=ExitCode.INTERNAL,
            )
        self.reader = ScoreReader(model)
        return "scores of pairs"

    def num_items(self, batch: Batch) -> Tensor:
        """Return the number of pairs."""
        return batch["counted"].sum()

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        """Return the summed loss of the pairs of a micro batch: chosen rows first, then the rejected."""
        chosen_b, rejected_b = self.reader(model, batch).chunk(2)
        counted_b = batch["counted"]
        # Where the data name no margin.
        margin_b = batch["values"].nan_to_num(0.0)
        losses_b = pair_losses(chosen_b, rejected_b, margin_b, self.center)
        measured = {
            "accuracy": (chosen_b > rejected_b).float(),
            "margin": chosen_b - rejected_b,
            "chosen_score": chosen_b,
            "rejected_score": rejected_b,
        }
        for name, values_b in measured.items():
            self.tally.add(name, values_b, counted_b)
        return (losses_b * counted_b).sum()
