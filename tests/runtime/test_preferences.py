"""Preferences: every loss and its gradients as computed by hand from whole logits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from pairs import UNEVEN, answer_log_probs, batch_of, judged, pairs
from torch import Tensor
from toy import llama, trained

from tunec.runtime.data import Samples, mismatch
from tunec.runtime.data.samples import Sample
from tunec.runtime.errors import UserError
from tunec.runtime.objectives import AdapterOff, Cpo, Dpo, Kto, Objective, Orpo, SimPo
from tunec.runtime.objectives import preference_losses as losses

Rows = list[Tensor]
BETA = 0.3


def log_sigmoid(value: Tensor) -> Tensor:
    """Written out, and not by torch's function."""
    return -torch.log(1 + torch.exp(-value))


class ByHand:
    """What the formulas of papers need of each pair."""

    def __init__(self, policy: Rows, reference: Rows) -> None:
        half = len(policy) // 2
        ratios = [ours.sum() - theirs.sum() for ours, theirs in zip(policy, reference, strict=True)]
        sums = [row.sum() for row in policy]
        lengths = [len(row) for row in policy]
        means = [row.mean() for row in policy]
        self.chosen, self.rejected = torch.stack(ratios[:half]), torch.stack(ratios[half:])
        self.sum_chosen, self.sum_rejected = torch.stack(sums[:half]), torch.stack(sums[half:])
        self.mean_chosen, self.mean_rejected = torch.stack(means[:half]), torch.stack(means[half:])
        self.len_chosen, self.len_rejected = (
            torch.tensor(lengths[:half]),
            torch.tensor(lengths[half:]),
        )
        self.policy, self.reference, self.half = policy, reference, half

    @property
    def margin(self) -> Tensor:
        return BETA * (self.chosen - self.rejected)

    @property
    def sft(self) -> Tensor:
        return -self.mean_chosen

    def bco(self) -> Tensor:
        rewards = BETA * torch.cat([self.chosen, self.rejected])
        shift = rewards.detach().mean()
        return -log_sigmoid(BETA * self.chosen - shift) - log_sigmoid(shift - BETA * self.rejected)

    def ipo(self) -> Tensor:
        difference = self.chosen / self.len_chosen - self.rejected / self.len_rejected
        return (difference - 1 / (2 * BETA)) ** 2

    def kto_pair(self) -> Tensor:
        chosen_kl = max(0.0, float(self.chosen.detach().mean()))
        rejected_kl = max(0.0, float(self.rejected.detach().mean()))
        good = 1 - torch.sigmoid(BETA * (self.chosen - rejected_kl))
        bad = 1 - torch.sigmoid(BETA * (chosen_kl - self.rejected))
        return (good + bad) / 2

    def shorter(self, alpha: float) -> Tensor:
        """DPO of answers whose ends, by which one is longer, count less."""
        found = []
        for row in range(self.half):
            both = []
            for place in (row, row + self.half):
                shared = min(len(self.policy[row]), len(self.policy[row + self.half]))
                ratio = self.policy[place] - self.reference[place]
                both.append(ratio[:shared].sum() + alpha * ratio[shared:].sum())
            found.append(BETA * (both[0] - both[1]))
        return -log_sigmoid(torch.stack(found))

    def orpo(self) -> Tensor:
        def odds(means: Tensor) -> Tensor:
            likely = torch.exp(means)
            return likely / (1 - likely)

        ratio = odds(self.mean_chosen) / odds(self.mean_rejected)
        return self.sft - BETA * log_sigmoid(torch.log(ratio))


def smoothed(margin: Tensor, epsilon: float) -> Tensor:
    return -(1 - epsilon) * log_sigmoid(margin) - epsilon * log_sigmoid(-margin)


def dpo(**settings: Any) -> Callable[[], Objective]:
    return lambda: Dpo(reference=AdapterOff(), beta=BETA, **settings)


CASES: dict[str, tuple[Callable[[], Objective], Callable[[ByHand], Tensor]]] = {
    "sigmoid": (dpo(), lambda hand: -log_sigmoid(hand.margin)),
    "cdpo": (dpo(label_smoothing=0.1), lambda hand: smoothed(hand.margin, 0.1)),
    "hinge": (dpo(loss="hinge"), lambda hand: (1 - hand.margin).clamp(min=0)),
    "ipo": (dpo(loss="ipo"), ByHand.ipo),
    "robust": (
        dpo(loss="robust", label_smoothing=0.2),
        lambda hand: (-0.8 * log_sigmoid(hand.margin) + 0.2 * log_sigmoid(-hand.margin)) / 0.6,
    ),
    "kto-pair": (dpo(loss="kto-pair"), ByHand.kto_pair),
    "bco": (dpo(loss="bco"), ByHand.bco),
    "sft-weight": (dpo(sft_weight=0.7), lambda hand: -log_sigmoid(hand.margin) + 0.7 * hand.sft),
    "bco-weight": (
        dpo(bco_weight=0.5, sft_weight=0.1),
        lambda hand: (-log_sigmoid(hand.margin) + 0.5 * hand.bco()) / 1.5 + 0.1 * hand.sft,
    ),
    "ld-alpha": (dpo(ld_alpha=0.4), lambda hand: hand.shorter(0.4)),
    "ld-alpha-0": (dpo(ld_alpha=0.0), lambda hand: hand.shorter(0.0)),
    "orpo": (lambda: Orpo(beta=BETA), ByHand.orpo),
    "orpo-sft": (lambda: Orpo(beta=BETA, sft_weight=0.5), lambda hand: hand.orpo() + 0.5 * hand.sft),
    "simpo": (
        lambda: SimPo(beta=BETA, gamma=0.5),
        lambda hand: -log_sigmoid(BETA * hand.mean_chosen - BETA * hand.mean_rejected - 0.5),
    ),
    "simpo-smoothed": (
        lambda: SimPo(beta=BETA, gamma=0.5, label_smoothing=0.1, sft_weight=2.0),
        lambda hand: smoothed(BETA * (hand.mean_chosen - hand.mean_rejected) - 0.5, 0.1) + 2 * hand.sft,
    ),
    "cpo": (
        lambda: Cpo(beta=BETA),
        lambda hand: -log_sigmoid(BETA * (hand.sum_chosen - hand.sum_rejected)) + hand.sft,
    ),
    "cpo-smoothed": (
        lambda: Cpo(beta=BETA, label_smoothing=0.1, sft_weight=0.0),
        lambda hand: smoothed(BETA * (hand.sum_chosen - hand.sum_rejected), 0.1),
    ),
}  # fmt: skip


def by_hand(model: Any, batch: dict[str, Tensor]) -> ByHand:
    policy = answer_log_probs(model, batch)
    with torch.no_grad(), model.disable_adapter():
        reference = answer_log_probs(model, batch)
    return ByHand(policy, reference)


def total(objective: Objective, model: Any, batches: list[dict[str, Tensor]]) -> Tensor:
    """Return the mean loss of a step of these micro batches, as the trainer computes it."""
    model.train()
    if objective.looks_ahead:
        with torch.no_grad():
            objective.look_ahead(model, iter(batches), lambda tensor: None)
    items = torch.stack([objective.num_items(batch) for batch in batches]).sum()
    return torch.stack([objective.loss_sum(model, batch) / items for batch in batches]).sum()


def gradients(loss: Tensor, model: Any) -> list[Tensor]:
    return list(torch.autograd.grad(loss, trained(model)))


@pytest.mark.parametrize("name", CASES)
def test_a_loss_is_the_formula(name: str) -> None:
    """Loss and gradients equal the paper's formula by whole logits, and a filler sample counts for nothing."""
    make, formula = CASES[name]
    model, batch = llama(tied=True, kind="lora"), batch_of(pairs(*UNEVEN))
    expected = formula(by_hand(model, batch)).mean()
    wanted = gradients(expected, model)
    objective = make()
    objective.attach(model)
    filler = batch_of(pairs((2, 3, 2)))
    filler["labels"].fill_(-100)
    filler["counted"].zero_()
    loss = total(objective, model, [batch, filler])
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients(loss, model), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_accumulation(name: str) -> None:
    """One micro batch of four pairs and four of one give the same loss and gradients, whatever the lengths."""
    make, _ = CASES[name]
    model, samples = llama(tied=True, kind="lora"), pairs(*UNEVEN)
    found = []
    for cut in ([samples], [[sample] for sample in samples], [samples[:3], samples[3:]]):
        objective = make()
        objective.attach(model)
        loss = total(objective, model, [batch_of(part) for part in cut])
        found.append((loss, gradients(loss, model), objective.tally.take(torch.device("cpu"))))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-5, atol=1e-6)


def test_measures() -> None:
    """What is measured are means over pairs: rewards, their margin and accuracy, log-probabilities, the SFT loss."""
    model, batch = llama(tied=True, kind="lora"), batch_of(pairs(*UNEVEN))
    hand = by_hand(model, batch)
    objective = Dpo(reference=AdapterOff(), beta=BETA)
    objective.attach(model)
    total(objective, model, [batch])
    found = objective.tally.means(objective.tally.take(torch.device("cpu")))
    expected = {
        "accuracy": (hand.margin > 0).float(),
        "margin": hand.margin,
        "chosen_reward": BETA * hand.chosen,
        "rejected_reward": BETA * hand.rejected,
        "chosen_log_prob": hand.sum_chosen,
        "rejected_log_prob": hand.sum_rejected,
        "sft_loss": hand.sft,
    }
    assert found == {
        name: pytest.approx(float(value.mean().detach()), rel=1e-4)
        for name, value in expected.items()
    }


def test_without_change_nothing_is_preferred() -> None:
    """At the start policy and reference agree: DPO's loss is log 2, whatever the pairs."""
    model = llama(tied=True, kind="lora")
    with torch.no_grad():
        for parameter in trained(model):
            parameter.zero_()
    objective = Dpo(reference=AdapterOff())
    objective.attach(model)
    loss = total(objective, model, [batch_of(pairs(*UNEVEN))])
    assert float(loss.detach()) == pytest.approx(math.log(2))


def test_the_shift_is_a_mean_over_the_training() -> None:
    """BCO compares with the mean of all rewards so far: steps add to it, evaluations do not, and it is kept."""
    model = llama(tied=True, kind="lora")
    first, second = batch_of(pairs(*UNEVEN)), batch_of(pairs((4, 3, 3), (2, 6, 1)))
    objective = Dpo(reference=AdapterOff(), beta=BETA, loss="bco")
    objective.attach(model)
    total(objective, model, [first])
    total(objective, model, [second])
    rewards = [by_hand(model, batch) for batch in (first, second)]
    every = torch.cat([torch.cat([hand.chosen, hand.rejected]) for hand in rewards])
    expected = BETA * float(every.mean().detach())
    assert float(objective.shift) == pytest.approx(expected, rel=1e-5)
    again = Dpo(reference=AdapterOff(), beta=BETA, loss="bco")
    again.load_state(objective.state())
    model.eval()
    with torch.no_grad():
        objective.look_ahead(model, iter([first]), lambda tensor: None)
    assert torch.equal(objective.shift, again.shift)


def test_weights_of_tokens_are_refused() -> None:
    """Tokens of compared answers have no loss of their own: a weight is told instead of passed over."""
    model = llama(tied=True, kind="lora")
    (sample,) = pairs((3, 5, 2))
    weighed = Sample(sample.input_ids, sample.labels, weights=[0.5] * 8, rejected=sample.rejected)
    objective = Dpo(reference=AdapterOff())
    objective.attach(model)
    with pytest.raises(UserError, match="has a weight"):
        objective.loss_sum(model, batch_of([weighed]))


# Formulas at their ends


@pytest.mark.parametrize("mean", [-1e-9, 0.0, -1e-4, -0.69, -0.7, -5.0, -200.0])
def test_odds_are_finite(mean: float) -> None:
    """The odds of a certain and of an impossible answer are finite, and so are their gradients."""
    chosen = torch.tensor([mean], requires_grad=True)
    loss = losses.odds_ratio(chosen, torch.tensor([-1.0]))
    assert torch.isfinite(loss).all()
    (slope,) = torch.autograd.grad(loss.sum(), chosen)
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize("margin", [-1e4, 1e4])
def test_margins_of_thousands(margin: float) -> None:
    """Margins of thousands neither overflow nor turn into NaN."""
    value = torch.tensor([margin], requires_grad=True)
    for loss in (losses.sigmoid(value, 0.1), losses.robust(value, 0.1), losses.hinge(value)):
        assert torch.isfinite(loss).all()
        assert torch.isfinite(torch.autograd.grad(loss.sum(), value)[0]).all()


# KTO


ANSWERS = ((3, 5, 1), (1, 2, 0), (6, 1, 1), (2, 4, 0), (3, 7, 1))


@pytest.fixture(params=[12, 13])
def answers(request: Any) -> list[Sample]:
    """Five judged answers, each with its prompt before another answer; their KL is below 0, and above."""
    return list(mismatch(Samples(judged(*ANSWERS, seed=request.param)), max_length=64, seed=5))


def kto_by_hand(model: Any, samples: list[Sample], sft_weight: float) -> Tensor:
    """Return KTO's loss: value functions around the mean log-ratio of answers to other prompts."""
    hand = by_hand(model, batch_of(samples))
    ratios, others = hand.chosen, hand.rejected
    kl = max(0.0, float(others.mean().detach()))
    values = torch.tensor([sample.value for sample in samples]) == 1
    good = 1.5 * (1 - torch.sigmoid(BETA * (ratios - kl)))
    bad = 0.8 * (1 - torch.sigmoid(BETA * (kl - ratios)))
    return torch.where(values, good, bad).mean() + sft_weight * hand.sft[values].mean()


def kto(sft_weight: float = 0.0) -> Kto:
    return Kto(
        reference=AdapterOff(),
        beta=BETA,
        desirable_weight=1.5,
        undesirable_weight=0.8,
        sft_weight=sft_weight,
    )


@pytest.mark.parametrize("sft_weight", [0.0, 0.5])
def test_kto_is_the_formula(answers: list[Sample], sft_weight: float) -> None:
    """Loss and gradients equal the paper's formula by whole logits, in one micro batch and in several."""
    model = llama(tied=True, kind="lora")
    expected = kto_by_hand(model, answers, sft_weight)
    wanted = gradients(expected, model)
    found = []
    for cut in ([answers], [[sample] for sample in answers], [answers[:3], answers[3:]]):
        objective = kto(sft_weight)
        objective.attach(model)
        loss = total(objective, model, [batch_of(part) for part in cut])
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(gradients(loss, model), wanted, rtol=1e-4, atol=1e-5)
        found.append(objective.tally.take(torch.device("cpu")))
    torch.testing.assert_close(found[1:], found[:1] * 2, rtol=1e-5, atol=1e-6)


def test_both_kinds_of_kl_are_tested() -> None:
    """The reference point is 0 for one of the sets, and not for the other."""
    model = llama(tied=True, kind="lora")
    found = []
    for seed in (12, 13):
        objective = kto()
        objective.attach(model)
        samples = list(mismatch(Samples(judged(*ANSWERS, seed=seed)), max_length=64, seed=5))
        total(objective, model, [batch_of(samples)])
        found.append(objective.step.kl)
    assert found[0] == 0
    assert found[1] > 0.5


def test_kto_measures(answers: list[Sample]) -> None:
    """Rewards are means over good and over bad answers, the margin is their difference, KL is in nats."""
    model = llama(tied=True, kind="lora")
    hand = by_hand(model, batch_of(answers))
    good = torch.tensor([sample.value for sample in answers]) == 1
    objective = kto()
    objective.attach(model)
    total(objective, model, [batch_of(answers[:2]), batch_of(answers[2:])])
    found = objective.tally.means(objective.tally.take(torch.device("cpu")))
    rewards = (BETA * hand.chosen).detach()
    kl = max(0.0, float(hand.rejected.mean().detach()))
    expected = {
        "accuracy": float(((rewards > BETA * kl) == good).float().mean()),
        "margin": float(rewards[good].mean() - rewards[~good].mean()),
        "chosen_reward": float(rewards[good].mean()),
        "rejected_reward": float(rewards[~good].mean()),
        "chosen_log_prob": float(hand.sum_chosen[good].mean().detach()),
        "rejected_log_prob": float(hand.sum_chosen[~good].mean().detach()),
        "kl": kl,
        "sft_loss": float(hand.sft[good].mean().detach()),
    }
    assert found == {name: pytest.approx(value, rel=1e-4) for name, value in expected.items()}


def test_kto_of_one_kind_in_a_step() -> None:
    """A step without a good answer has a loss, and nothing that is measured of good answers."""
    model = llama(tied=True, kind="lora")
    samples = list(mismatch(Samples(judged((3, 5, 0), (1, 2, 0))), max_length=64, seed=5))
    objective = kto(sft_weight=0.5)
    objective.attach(model)
    loss = total(objective, model, [batch_of(samples)])
    assert torch.isfinite(loss)
    found = objective.tally.means(objective.tally.take(torch.device("cpu")))
    assert not {"margin", "chosen_reward", "sft_loss"} & found.keys()


def test_kto_needs_answers_to_other_prompts() -> None:
    """Without them there is no reference point, which is told."""
    model = llama(tied=True, kind="lora")
    objective = kto()
    objective.attach(model)
    with pytest.raises(UserError, match="each prompt with another answer"):
        objective.loss_sum(model, batch_of(judged(*ANSWERS)))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small matrices are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
