"""Training on answers that are generated on the way: rollouts between the steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..data.batches import lengths_of, shared
from ..data.ends import stop_tokens
from ..models.adapters import is_adapted
from ..models.adapters.switching import evaluating
from ..objectives.chunked import Wanted
from ..objectives.online import GAP, Experience, OnlineObjective
from ..objectives.values import without_values, write_values
from ..objectives.vllm_server import Drawn
from ..rewards.base import Answered, checked
from ..storage import disk_errors
from ..together import agreed, everyones
from .evaluation import Evaluation
from .experience import micro_batch, packed, parts_of, unpacked
from .generation import generate
from .rollouts import PromptOrder, own_random, seed_of, share_of, without_end
from .trainer import Trainer

EVALUATION = 2**32
"""Takes the place of a rollout's number in the seeds of evaluations."""
GENERATOR = "policy"
"""Folder of the run where a server finds the policy."""
MOST_GAP = 1.0
"""Nats a token; other number formats and kernels make a few hundredths, 4-bit weights a few tenths."""
ROLLOUT = "rollout.pt"
"""File of a checkpoint with the answers that are still in use, and what goes on from one rollout to the next."""


class _Steps(Dataset[Any]):
    """The micro batches of parts of steps, made when they are asked for."""

    def __init__(self, trainer: OnlineTrainer) -> None:
        self.trainer = trainer

    def __len__(self) -> int:
        return self.trainer.num_steps * int(self.trainer.args.gradient_accumulation_steps)

    def __getitem__(self, number: int) -> list[dict[str, Tensor]]:
        step, part = divmod(number, int(self.trainer.args.gradient_accumulation_steps))
        return self.trainer.micro_batches(step, part)


def _only(parts: list[Any]) -> Any:
    return parts[0]


class OnlineTrainer(Trainer):
    """A trainer whose data are answers of the policy itself.

    When the first micro batch of a rollout is asked for, its prompts are answered and scored. All processes then hold
    all answers and what is known of them, so that advantages and the order of batches are the same everywhere.
    """

    objective: OnlineObjective
    order: PromptOrder

    def __init__(self, **given: Any) -> None:
        """Prepare what scores the answers."""
        batches, objective = given["batches"], given["objective"]
        self.order = PromptOrder(batches, objective)
        self.answers_per_step: int = batches.global_size
        attached = [
            reward.attach(given["model"], given["tokenizer"], given["args"].device)
            for reward in objective.rewards
        ]
        given["session"].say(f"rewards: {', '.join(attached)}")
        super().__init__(**{**given, "batches": self.order})
        self._attach_generator()
        self.number = -1
        self.experience: Experience | None = None
        self.generated_tokens = 0
        named = self.model.generation_config.eos_token_id
        self.ends = frozenset(stop_tokens(self.processing_class, named))

    def _attach_generator(self) -> None:
        if self.objective.generator is None:
            return
        prompts = [*lengths_of(self.samples), *lengths_of(self.evaluation)]
        told = self.objective.generator.attach(
            Path(GENERATOR).absolute(),
            is_adapter=is_adapted(self.model),
            longest=max(prompts) + self.objective.sampling.max_new_tokens,
        )
        self.session.say(f"answers: {told}")

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; a server forgets the policy in the end."""
        try:
            return super().train(*args, **kwargs)
        finally:
            if self.objective.generator is not None and self.session.is_main:
                self.objective.generator.leave()

    # Data

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return this process's micro batches; they are made in this process, between the steps."""
        steps = _Steps(self)
        return DataLoader(
            steps,
            batch_sampler=[[number] for number in range(len(steps))],
            collate_fn=_only,
            generator=torch.Generator(),
        )

    def micro_batches(self, step: int, part: int) -> list[dict[str, Tensor]]:
        """Return this process's micro batches of a part of a step; the first of a rollout makes its answers."""
        number, within = divmod(step, self.order.steps_per_rollout)
        if number != self.number:
            with self.session.clock.phase("score"):
                self.experience, self.number = self._rollout(number), number
        assert self.experience is not None
        mine = self._mine(self.experience, self._of_step(number, within))
        count = len(mine) // int(self.args.gradient_accumulation_steps)
        return [
            self._batch(self.experience, one) for one in mine[part * count : (part + 1) * count]
        ]

    def _of_step(self, number: int, within: int) -> list[int]:
        """Return the answers of a step of a rollout: each pass goes through all of them, in an order of its own."""
        passed, at = divmod(within, self.objective.buffer_batches)
        assert self.experience is not None
        order = list(range(len(self.experience)))
        if self.objective.buffer_batches > 1:
            seed = seed_of(self.session.seed, number, passed)
            generator = torch.Generator().manual_seed(seed)
            order = torch.randperm(len(order), generator=generator).tolist()
        return order[at * self.answers_per_step : (at + 1) * self.answers_per_step]

    def _mine(self, experience: Experience, chosen: Sequence[int]) -> list[list[int]]:
        """Return some answers cut into micro batches, as many on each process; here those of this one."""
        lengths = experience.lengths
        longest_first = sorted(chosen, key=lambda row: (-lengths[row], row))
        cut = self.micro_size.cut(longest_first, lengths)
        return shared(cut, self.session.num_ranks)[self.session.rank :: self.session.num_ranks]

    def _batch(self, experience: Experience, chosen: Sequence[int]) -> dict[str, Tensor]:
        return micro_batch(
            experience,
            chosen,
            pad_token_id=int(self.processing_class.pad_token_id),
            pad_multiple=self.micro_size.pad_multiple,
        )

    def samples_of(self, step: int) -> list[list[int]]:
        """Return the prompts behind each micro batch of a step (from 1) on this process."""
        number, within = divmod(step - 1, self.order.steps_per_rollout)
        if self.experience is None:
            return []
        mine = self._mine(self.experience, self._of_step(number, within))
        return [[self.experience.rows[at] for at in chosen] for chosen in mine]

    # Rollouts

    @torch.no_grad()
    def _rollout(self, number: int) -> Experience:
        """Answer the prompts of a rollout, and find out what the loss must know of the answers."""
        asked = [row for row in self.order.step(number) for _ in range(self.objective.group_size)]
        seeds = [seed_of(self.session.seed, number, at) for at in range(len(asked))]
        # The training goes on with the random numbers it would have had, whatever rewards draw.
        with evaluating(self.model), own_random(seed_of(self.session.seed, number)):
            experience = self._answered(self.samples.rows, asked, seeds)
            self._score_tokens(experience)
        self.objective.judge(experience)
        if self.session.is_main:
            self.objective.measure_rollout(experience, self.ends)
            self._warn(number, experience)
        return experience

    def _answered(
        self, rows: Sequence[Any], asked: Sequence[int], seeds: Sequence[int]
    ) -> Experience:
        """Return scored answers to prompts of some rows, the same on all processes."""
        prompts = [list(rows[row].input_ids) for row in asked]
        answers = self._generated(prompts, seeds)
        expected: Sequence[Any] = getattr(rows, "answers", ())
        tokenizer = self.processing_class
        answered = [
            Answered(
                prompt=tokenizer.decode(prompt),
                answer=tokenizer.decode(without_end(answer, self.ends), skip_special_tokens=True),
                prompt_ids=prompt,
                answer_ids=answer,
                expected=expected[row] if expected else None,
            )
            for row, prompt, answer in zip(asked, prompts, answers, strict=True)
        ]
        return Experience(list(asked), prompts, answers, self._scored(answered))

    def _generated(self, prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[list[int]]:
        """Return the tokens of answers; each process makes its share, or asks for it."""
        share = share_of(len(prompts), self.session.rank, self.session.num_ranks)
        mine, own_seeds = [prompts[at] for at in share], [seeds[at] for at in share]
        by = self._by_policy if self.objective.generator is None else self._by_server
        with self.session.clock.phase("generate"):
            # Where answers do not divide, the last processes made some a second time.
            answers = [a for part in everyones(by(mine, own_seeds)) for a in part][: len(prompts)]
        self.generated_tokens += sum(map(len, answers))
        return answers

    def _by_policy(self, prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[list[int]]:
        """Let the policy answer, those of a batch together."""
        size = -(-self.answers_per_step // self.session.num_ranks)

        def work() -> list[list[int]]:
            return [
                answer
                for start in range(0, len(prompts), size)
                for answer in generate(
                    self.model,
                    prompts[start : start + size],
                    sampling=self.objective.sampling,
                    seeds=seeds[start : start + size],
                    ends=self.ends,
                    pad_token_id=int(self.processing_class.pad_token_id),
                    device=self.args.device,
                )
            ]

        return agreed(work)

    def _by_server(self, prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[list[int]]:
        """Let a server answer that has just been given the policy, and see that it has it."""
        generator = self.objective.generator
        assert generator is not None
        with disk_errors("the policy for the server", Path()):
            generator.give(self._write_policy)
        drawn = agreed(
            lambda: generator.answer(
                prompts, sampling=self.objective.sampling, seeds=seeds, ends=self.ends
            )
        )
        self._compare(prompts, drawn)
        return [one.tokens for one in drawn]

    def _compare(self, prompts: Sequence[list[int]], drawn: Sequence[Drawn]) -> None:
        """Measure how far the server's log-probabilities of a few answers are from the policy's.

        Raises:
            UserError: (ENVIRONMENT) so far that it has another model.
        """
        few = range(min(self.micro_size.samples or 1, len(drawn)))
        experience = Experience(
            list(few),
            [prompts[at] for at in few],
            [drawn[at].tokens for at in few],
            torch.zeros((1, len(few))),
        )
        batch = self._prepare_inputs(self._batch(experience, few))
        own_n = self.objective.scorer(self.model_wrapped, batch, Wanted()).log_probs.float().cpu()
        gaps = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        for at, own in zip(
            few, parts_of(own_n, [len(drawn[at].tokens) for at in few]), strict=True
        ):
            theirs = torch.tensor(drawn[at].log_probs)
            gaps[0] += (own[: len(theirs)] - theirs).abs().sum().double()
            gaps[1] += len(theirs)
        self._reduce(gaps)
        gap = float(gaps[0] / gaps[1].clamp(min=1))
        if gap > MOST_GAP:
            assert self.objective.generator is not None
            raise self.objective.generator.stranger(gap)
        if self.session.is_main:
            self.objective.tally.add(GAP, torch.tensor([gap]))

    def rollout_report(self) -> dict[str, Any]:
        """Return how many tokens were generated, and how fast."""
        seconds = self.session.clock.seconds.get("generate", 0.0)
        rate = round(self.generated_tokens / max(seconds, 1e-9), 1)
        return {"generated_tokens": self.generated_tokens, "generated_tokens_per_s": rate}

    def _scored(self, answered: Sequence[Answered]) -> Tensor:
        """Return the scores of all answers by each reward, fp32 `[rewards, answers]`."""
        share = share_of(len(answered), self.session.rank, self.session.num_ranks)
        mine = [answered[at] for at in share]
        found = []
        for name, reward in zip(self.objective.reward_names, self.objective.rewards, strict=True):
            parts = everyones(reward.score(self.model_wrapped, mine))
            scores = [score for part in parts for score in part][: len(answered)]
            told = f"the reward `{name}`"
            found.append(checked(told, scores, answered, help="rewards are finite numbers"))
        return torch.tensor(found, dtype=torch.float32)

    def _score_tokens(self, experience: Experience) -> None:
        """Add the log-probabilities of the policy and of the reference, where they are needed."""
        objective = self.objective
        wanted = Wanted(temperature=objective.sampling.temperature)
        for name, is_wanted in (
            ("log_probs", objective.wants_log_probs),
            ("reference", objective.reference is not None),
        ):
            if not is_wanted:
                continue
            found: dict[int, dict[str, Tensor]] = {}
            for chosen in self._mine(experience, range(len(experience))):
                batch = self._prepare_inputs(self._batch(experience, chosen))
                if name == "reference":
                    assert objective.reference is not None
                    log_probs = objective.reference.log_probs(self.model_wrapped, batch, wanted)
                    values = {name: log_probs}
                else:
                    values = objective.known(self.model_wrapped, batch)
                sizes = [len(experience.answers[row]) for row in chosen]
                for key, flat in values.items():
                    for row, part in zip(chosen, parts_of(flat.float().cpu(), sizes), strict=True):
                        found.setdefault(row, {})[key] = part
            every = {row: parts for one in everyones(found) for row, parts in one.items()}
            for key in every[0]:
                experience.tokens[key] = [every[row][key] for row in range(len(experience))]

    def _warn(self, number: int, experience: Experience) -> None:
        if all(self.ends.issuperset(answer) for answer in experience.answers):
            self.session.say(
                f"warning: all {len(experience):,} answers of rollout {number + 1} are empty: the model ends at once"
            )

    # Evaluation

    def _totals(self, model: Any, evaluation: Evaluation) -> Tensor:
        """Answer the prompts of a set, each with random numbers of its own that are the same each time.

        The loss is minus the mean reward, so that the best evaluation has the lowest.
        """
        rows = evaluation.samples.rows
        seeds = [seed_of(self.session.seed, EVALUATION, row) for row in range(len(rows))]
        with evaluating(self.model), own_random(seed_of(self.session.seed, EVALUATION)):
            experience = self._answered(rows, range(len(rows)), seeds)
        loss = torch.zeros((1, 2), dtype=torch.float64, device=self.args.device)
        if self.session.is_main:
            self.objective.measure_answers(experience, self.ends)
            loss[0, 0] = -self.objective.totals(experience).double().sum()
            loss[0, 1] = len(rows)
        return torch.cat([loss, self.objective.tally.take(self.args.device)])

    # Checkpoints

    def _write_state(self, staging: Path) -> None:
        super()._write_state(staging)
        if self.session.is_main:
            torch.save(self._rollout_state(), staging / ROLLOUT)

    def _rollout_state(self) -> dict[str, Any]:
        """Return what is left of the rollout: nothing where the next step begins another."""
        begins = self.state.global_step % self.order.steps_per_rollout == 0
        kept = None if begins or self.experience is None else packed(self.experience)
        return {"number": self.number, "experience": kept}

    def _write_weights(self, folder: Path, state: dict[str, Tensor]) -> None:
        state, head = without_values(state)
        super()._write_weights(folder, state)
        if head:
            write_values(folder, head)

    def _write_policy(self, folder: Path) -> None:
        """Write what answers, without a value head: a server reads all weights in its folder."""
        with self.whole_weights() as state:
            if self.session.is_main:
                super()._write_weights(folder, without_values(state)[0])

    def load_objective(self, checkpoint: Path | None) -> None:
        """Go on with the answers of a checkpoint."""
        super().load_objective(checkpoint)
        if checkpoint is None:
            return
        state = torch.load(checkpoint / ROLLOUT, weights_only=True)
        if state["experience"] is not None:
            self.experience, self.number = unpacked(state["experience"]), state["number"]
