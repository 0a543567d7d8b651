"""PPO and GRPO as arithmetic: advantages, losses, the KL controller and drawing, against hand and whole logits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import VOCABULARY, llama, trained

from tunec.runtime.objectives import Grpo, Ppo, Sampling
from tunec.runtime.objectives.advantages import (
    KlController,
    RunningMoments,
    equal_groups,
    gae,
    group_advantages,
    token_rewards,
    whitened,
)
from tunec.runtime.objectives.online import Experience, OnlineObjective
from tunec.runtime.objectives.policy_losses import clipped, k3, value_losses
from tunec.runtime.training.experience import micro_batch, packed, unpacked
from tunec.runtime.training.generation import pick
from tunec.runtime.training.rollouts import share_of

TEMPERATURE = 0.7
LONGEST = 9


def test_advantages_of_groups() -> None:
    """Rewards less the group's mean, by the deviation of the sample; where all are equal nothing is learned."""
    rewards = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0, 5.0])
    deviation = math.sqrt(5 / 3) + 1e-4
    expected = torch.tensor([-1.5, -0.5, 0.5, 1.5]) / deviation
    found = group_advantages(rewards, 4, scaled=True)
    torch.testing.assert_close(found, torch.cat([expected, torch.zeros(4)]))
    plain = group_advantages(rewards, 4, scaled=False)
    assert plain.tolist() == [-1.5, -0.5, 0.5, 1.5, 0, 0, 0, 0]
    assert equal_groups(rewards, 4).tolist() == [0, 1]


def test_rewards_of_tokens() -> None:
    """Each token pays for its log-ratio to the reference, the last also gets the score."""
    found = token_rewards(torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -1.0]), 3.0, 0.1)
    torch.testing.assert_close(found, torch.tensor([-0.05, 3.1]))


def test_generalised_advantages_by_hand() -> None:
    """Three tokens, discount 0.9 and lambda 0.8, computed backwards on paper."""
    rewards, values = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.5, 0.5, 0.5])
    advantages, returns = gae(rewards, values, discount=0.9, gae_lambda=0.8)
    expected = torch.tensor([-0.05 + 0.72 * 0.31, -0.05 + 0.72 * 0.5, 0.5])
    torch.testing.assert_close(advantages, expected)
    torch.testing.assert_close(returns, expected + 0.5)


def test_whitening_counts_all_answers_together() -> None:
    """Mean 0 and variance 1 over the tokens of all answers; rewards keep their mean."""
    parts = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0, 10.0])]
    found = torch.cat(whitened(parts))
    torch.testing.assert_close(found.mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.var(), torch.tensor(1.0))
    kept = torch.cat(whitened(parts, centred=False))
    torch.testing.assert_close(kept.mean(), torch.tensor(4.0))


def test_running_moments_are_those_of_all_scores() -> None:
    """Added in parts, and across a checkpoint, they are the mean and deviation of the whole."""
    scores = [3.0, -1.0, 4.0, 1.0, -5.0, 9.0, 2.0]
    moments = RunningMoments()
    moments.add(scores[:3])
    resumed = RunningMoments()
    resumed.load(moments.state())
    resumed.add(scores[3:])
    whole = torch.tensor(scores, dtype=torch.float64)
    assert resumed.mean == pytest.approx(float(whole.mean()))
    assert resumed.deviation == pytest.approx(float(whole.std()))


@pytest.mark.parametrize(("divergence", "factor"), [(6, 1), (12, 1.02), (0, 0.98), (6.6, 1.01)])
def test_the_penalty_follows_its_target(divergence: float, factor: float) -> None:
    """A tenth of the relative error, which counts up to a fifth (Ziegler et al. 2019)."""
    controller = KlController(0.2, 6.0)
    controller.update(divergence)
    assert controller.weight == pytest.approx(0.2 * factor)


def test_the_clipped_loss_by_hand() -> None:
    """The worse of the two counts; where clipping took the gradient, there is none."""
    ratios = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1]).log().requires_grad_()
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0])
    losses, took = clipped(ratios, advantages, 0.2, 0.3)
    torch.testing.assert_close(losses, torch.tensor([-1.3, 1.5, -0.5, 0.8, -2.2]))
    assert took.tolist() == [1, 0, 0, 1, 0]
    (gradient,) = torch.autograd.grad(losses.sum(), ratios)
    torch.testing.assert_close(gradient, torch.tensor([0.0, 1.5, -0.5, 0.0, -2.2]))


def test_the_value_loss_by_hand() -> None:
    """Half the larger of two squared errors: of the value, and of the value within its bounds."""
    values, old = torch.tensor([1.0, 0.1]), torch.tensor([0.0, 0.0])
    losses, took = value_losses(values, old, torch.tensor([1.0, 1.0]), 0.2)
    torch.testing.assert_close(losses, torch.tensor([0.5 * 0.64, 0.5 * 0.81]))
    assert took.tolist() == [1, 0]


def test_the_divergence_is_never_negative() -> None:
    """It is 0 where both agree, and `exp(r) - r - 1` elsewhere."""
    found = k3(torch.tensor([-1.0, -1.0, -1.0]), torch.tensor([-1.0, 0.0, -2.0]))
    torch.testing.assert_close(found, torch.tensor([0.0, math.e - 2, 1 / math.e]))


def test_drawing_follows_the_probabilities() -> None:
    """Numbers spread evenly pick each token as often as its probability says, also after top-k and top-p."""
    logits = torch.tensor([0.5, 0.2, 0.2, 0.1]).log() * TEMPERATURE
    uniform = (torch.arange(1000) + 0.5) / 1000
    rows = logits.expand(1000, -1)

    def shares(**limits: Any) -> list[float]:
        sampling = Sampling(max_new_tokens=1, temperature=TEMPERATURE, **limits)
        return (pick(rows, uniform, sampling).bincount(minlength=4) / 1000).tolist()

    assert shares() == pytest.approx([0.5, 0.2, 0.2, 0.1], abs=0.002)
    assert shares(top_k=1) == [1, 0, 0, 0]
    assert shares(top_p=0.6) == pytest.approx([5 / 7, 2 / 7, 0, 0], abs=0.002)
    assert shares(top_p=0.01) == [1, 0, 0, 0]
    last = pick(rows[:1], torch.tensor([1.0]), Sampling(max_new_tokens=1))
    assert last.tolist() == [3]


def experience(*, seed: int = 3) -> Experience:
    """Six answers of uneven length to three prompts, with everything the losses can ask for."""
    generator = torch.Generator().manual_seed(seed)

    def ids(count: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (count,), generator=generator).tolist()

    prompts = [ids(size) for size in (4, 4, 2, 2, 5, 5)]
    answers = [ids(size) for size in (3, LONGEST, 1, 5, 2, 6)]
    found = Experience(
        [0, 0, 1, 1, 2, 2], prompts, answers, torch.randn((1, 6), generator=generator)
    )
    for name, offset in (("log_probs", -3.9), ("reference", -4.0), ("values", 0.0), ("returns", 1)):
        found.tokens[name] = [
            offset + 0.4 * torch.randn(len(answer), generator=generator) for answer in answers
        ]
    return found


def with_weight(objective: OnlineObjective) -> OnlineObjective:
    """Give the objective one reward, whose scores are there already."""
    objective.rewards = [type("Given", (), {"name": "given", "weight": 1.0})()]
    return objective


def grpo(loss: Any) -> OnlineObjective:
    sampling = Sampling(max_new_tokens=LONGEST, temperature=TEMPERATURE)
    return with_weight(
        Grpo(
            rewards=[], sampling=sampling, group_size=2, loss=loss,
            beta=0.3, clip_low=0.1, clip_high=0.25, updates=2,
        )
    )  # fmt: skip


def ppo() -> OnlineObjective:
    sampling = Sampling(max_new_tokens=LONGEST, temperature=TEMPERATURE)
    return with_weight(Ppo(rewards=[], sampling=sampling, value_weight=0.5))


def whole_logits(model: Any, one: list[int], answer: list[int]) -> Tensor:
    """Return the log-probabilities of an answer behind its prompt, by the logits of this text alone."""
    logits = model(input_ids=torch.tensor([one + answer])).logits[0] / TEMPERATURE
    start = len(one)
    return logits.log_softmax(-1)[start - 1 : -1].gather(1, torch.tensor(answer)[:, None])[:, 0]


def naive_grpo(model: Any, found: Experience, kind: str) -> Tensor:
    """Return the mean loss of all answers by the formulas of the papers, an answer at a time."""
    rewards = found.rewards[0]
    total = torch.zeros(())
    for at, (prompt, answer) in enumerate(zip(found.prompts, found.answers, strict=True)):
        group = rewards[at // 2 * 2 : at // 2 * 2 + 2]
        advantage = rewards[at] - group.mean()
        if kind != "dr-grpo":
            advantage = advantage / (group.std() + 1e-4)
        log_probs = whole_logits(model, prompt, answer)
        ratio = (log_probs - found.tokens["log_probs"][at]).exp()
        if kind == "gspo":
            ratio = (log_probs - found.tokens["log_probs"][at]).mean().exp().expand(len(answer))
        gain = torch.min(ratio * advantage, ratio.clamp(0.9, 1.25) * advantage)
        gap = found.tokens["reference"][at] - log_probs
        losses = -gain + 0.3 * (gap.exp() - gap - 1)
        share = {"dapo": sum(map(len, found.answers)), "dr-grpo": 6 * LONGEST}
        total = total + losses.sum() / share.get(kind, 6 * len(answer))
    return total


def ours(objective: OnlineObjective, model: Any, found: Experience, parts: Any) -> Tensor:
    """Return the mean loss over micro batches of these answers, as the trainer puts it together."""
    batches = [micro_batch(found, part, pad_token_id=2, pad_multiple=1) for part in parts]
    items = sum(int(objective.num_items(batch)) for batch in batches)
    losses = [objective.loss_sum(model, batch) for batch in batches]
    return torch.stack(losses).sum() / items


@pytest.mark.parametrize("kind", ["grpo", "dr-grpo", "dapo", "gspo"])
@pytest.mark.parametrize("parts", [[range(6)], [[1, 5], [3], [], [0, 4, 2]]])
def test_grpo_equals_whole_logits(kind: Any, parts: Any) -> None:
    """Loss and gradients are those of the papers' formulas, however a step is cut into micro batches."""
    model = llama(tied=False, kind="lora")
    found, objective = experience(), grpo(kind)
    objective.judge(found)
    expected = naive_grpo(model, found, kind)
    gradients = torch.autograd.grad(expected, trained(model))
    objective.attach(model)
    loss = ours(objective, model, found, parts)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        torch.autograd.grad(loss, trained(model)), gradients, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("kind", ["grpo", "gspo"])
def test_the_first_update_needs_no_earlier_log_probs(kind: Any) -> None:
    """Where a batch is used once the policy is still the one that answered: the gradient is that of `A log p`."""
    model = llama(tied=False, kind="lora")
    found, objective = experience(), grpo(kind)
    objective.passes = 1
    assert not objective.wants_log_probs
    del found.tokens["log_probs"], found.tokens["reference"]
    objective.judge(found)
    wanted = torch.zeros(())
    for at, (prompt, answer) in enumerate(zip(found.prompts, found.answers, strict=True)):
        advantage = found.tokens["advantages"][at][0]
        wanted = wanted - advantage * whole_logits(model, prompt, answer).mean() / 6
    gradients = torch.autograd.grad(wanted, trained(model))
    objective.attach(model)
    loss = ours(objective, model, found, [range(6)])
    torch.testing.assert_close(
        torch.autograd.grad(loss, trained(model)), gradients, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("parts", [[range(6)], [[1, 5], [3], [], [0, 4, 2]]])
def test_ppo_equals_whole_logits(parts: Any) -> None:
    """Policy and value losses and their gradients, the value head's among them, are those of whole logits."""
    model = llama(tied=False, kind="lora")
    found, objective = experience(), ppo()
    found.tokens["advantages"] = [values + 0.3 for values in found.tokens["values"]]
    objective.attach(model)
    torch.nn.init.normal_(objective.values.head.weight, std=0.5)
    seen: list[Tensor] = []
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    expected = torch.zeros(())
    for at, (prompt, answer) in enumerate(zip(found.prompts, found.answers, strict=True)):
        log_probs = whole_logits(model, prompt, answer)
        values = objective.values.head(seen.pop()[0, len(prompt) - 1 : -1])
        ratio = (log_probs - found.tokens["log_probs"][at]).exp()
        advantages, old = found.tokens["advantages"][at], found.tokens["values"][at]
        policy = -torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
        bound = old + (values - old).clamp(-0.2, 0.2)
        goal = found.tokens["returns"][at]
        value = 0.5 * torch.max((values - goal) ** 2, (bound - goal) ** 2)
        expected = expected + (policy + 0.5 * value).sum() / sum(map(len, found.answers))
    hook.remove()
    assert any(parameter is objective.values.head.weight for parameter in trained(model))
    gradients = torch.autograd.grad(expected, trained(model))
    loss = ours(objective, model, found, parts)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        torch.autograd.grad(loss, trained(model)), gradients, rtol=1e-4, atol=1e-6
    )


def test_ppo_judges_by_hand() -> None:
    """Scores, penalties, advantages and returns of two short answers, step by step on paper."""
    sampling = Sampling(max_new_tokens=2)
    objective = with_weight(
        Ppo(rewards=[], sampling=sampling, kl_start=0.1, kl_target=1.0, gae_lambda=0.5)
    )
    found = Experience([0, 1], [[1], [1]], [[2, 3], [4]], torch.tensor([[1.0, -1.0]]))
    found.tokens = {
        "log_probs": [torch.tensor([-1.0, -2.0]), torch.tensor([-0.5])],
        "reference": [torch.tensor([-2.0, -2.0]), torch.tensor([-0.5])],
        "values": [torch.tensor([0.2, 0.4]), torch.tensor([0.0])],
    }
    objective.judge(found)
    # The last token of the first: 1 - 0.4. The one before: -0.1 + 0.4 - 0.2 + 0.5 * 0.6.
    raw = torch.tensor([0.4, 0.6, -1.0])
    torch.testing.assert_close(torch.cat(found.tokens["returns"]), torch.tensor([0.6, 1.0, -1.0]))
    expected = (raw - raw.mean()) / raw.std()
    torch.testing.assert_close(torch.cat(found.tokens["advantages"]), expected)
    # The mean divergence is 0.5 nats, half of the target: the error counts as -0.2.
    assert objective.controller.weight == pytest.approx(0.1 * 0.98)


def test_scores_are_scaled_by_all_there_were() -> None:
    """Scores lose the running mean and are divided by the running deviation, the newest included."""
    objective = Ppo(rewards=[], sampling=Sampling(max_new_tokens=2), normalize_scores=True)
    objective._scaled(torch.tensor([1.0, 3.0]))
    whole = torch.tensor([1.0, 3.0, 8.0])
    found = objective._scaled(torch.tensor([8.0]))
    torch.testing.assert_close(found, (whole[2:] - whole.mean()) / whole.std())


def test_experience_comes_back_from_tensors() -> None:
    """What a checkpoint keeps is all there is, to the bit."""
    found = experience()
    again = unpacked(packed(found))
    assert (again.rows, again.prompts) == (found.rows, found.prompts)
    assert again.answers == found.answers
    assert torch.equal(again.rewards, found.rewards)
    for name, parts in found.tokens.items():
        assert all(torch.equal(a, b) for a, b in zip(again.tokens[name], parts, strict=True))


@pytest.mark.parametrize(("total", "num_ranks"), [(8, 2), (7, 2), (1, 3), (5, 4)])
def test_all_answers_are_shared_out(total: int, num_ranks: int) -> None:
    """Each process makes as many; in the order of processes the first of them are all, each once."""
    shares = [share_of(total, rank, num_ranks) for rank in range(num_ranks)]
    assert len({len(share) for share in shares}) == 1
    assert [at for share in shares for at in share][:total] == list(range(total))
