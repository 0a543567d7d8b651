"""A reference that is a model of its own, beside the policy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import ExitCode, UserError
from ..models.sharded import is_sharded, sharded_beside
from .references import Reference
from .scores import Scorer


class FrozenModel(Reference):
    """Another model, or a second copy of the policy as it started: in evaluation mode, without an optimizer.

    Under ZeRO-3 its weights are spread over the processes like those of the policy.
    """

    def __init__(self, model: Any) -> None:
        """Freeze the model."""
        self._model = model.requires_grad_(False).eval()
        self._engine: Any = None

    def attach(self, model: Any, scorer: Scorer) -> str:
        """Compare the vocabularies.

        Raises:
            UserError: (DATA) the reference does not know all tokens of the policy.
        """
        own, other = (each.get_output_embeddings().out_features for each in (model, self._model))
        # Models of one family are padded to different sizes.
        if abs(own - other) > PADDING:
            raise UserError(
                f"the reference has a vocabulary of {other:,}, the policy one of {own:,}",
                help="name a model with the same tokenizer in `objective.reference`",
                code=ExitCode.DATA,
            )
        self._scorer = Scorer(self._model)
        return "a model of its own"

    def begin(self, trainer: Any) -> None:
        """Put the weights in place, so that what is too large fails at once.

        Raises:
            UserError: (DATA) the reference has no rows for tokens that were added to the policy.
        """
        needed = max(trainer.processing_class.get_vocab().values()) + 1
        rows = self._model.get_input_embeddings().num_embeddings
        if needed > rows:
            raise UserError(
                f"the reference has {rows:,} rows for tokens, the tokenizer has {needed:,} tokens",
                help='use `reference = { type = "start" }`, which has the added tokens',
                code=ExitCode.DATA,
            )
        with self.scoring(trainer.model_wrapped):
            pass

    @contextmanager
    def scoring(self, model: Any) -> Iterator[tuple[Any, Scorer]]:
        """Have the weights where those of the policy are."""
        if self._engine is None:
            spread = is_sharded(model)
            if not spread:
                self._model.to(next(iter(model.parameters())).device)
            self._engine = sharded_beside(self._model, model) if spread else self._model
        yield self._engine, self._scorer


PADDING = 512
"""Rows by which the embeddings of models with one tokenizer may differ."""
