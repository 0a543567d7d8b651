"""Train run.

Compiled by tunec 0.1.0 from spec.toml. Generated, do not edit: change the spec and compile again.
Start it with ./launch.sh, which runs this file once in each process.
"""

from pathlib import Path

from tunec.runtime import data, models, objectives, session, training

RUN_DIR = Path(__file__).resolve().parent
FINGERPRINT = "c7dc6cc5567b24e353f1b22d3c5ef1ef6db658eb5e3d0143ea996cc260df98a6"


def main() -> None:
    """Open the data, load the model, train it, save it."""
    with session.start(run_dir=RUN_DIR, seed=42) as run:
        tokenizer = models.load_tokenizer(
            RUN_DIR / "../model",
            # chatml
            chat_template=RUN_DIR / "chat_template.jinja",
            eos_token="<|im_end|>",
            stop_words=["<|im_start|>"],
        )
        # Tokens are on disk: prepare.py made them before this process existed.
        train, evaluation = data.load(RUN_DIR, tokenizer)

        # From here on all processes work together.
        run.connect(
            deepspeed=RUN_DIR / "deepspeed.json",
            device="cpu",
        )
        model = models.load_causal_lm(
            models.Base(
                RUN_DIR / "../model",
            ),
            dtype="bf16",
        )
        model = models.add_lora(
            model,
            rank=4,
            # update scaled by 2
            alpha=8.0,
            dropout=0.0,
            # 14 modules
            targets=[
                "down_proj",
                "gate_proj",
                "k_proj",
                "o_proj",
                "q_proj",
                "up_proj",
                "v_proj",
            ],
        )
        models.recompute_activations(
            model,
        )

        training.fit(
            run,
            model=model,
            tokenizer=tokenizer,
            objective=objectives.Sft(),
            train=train,
            evaluation=evaluation,
            num_steps=2,
            micro_batch_size=2,
            # 4 / (2 x 1)
            accumulation_steps=2,
            eval_micro_batch_size=2,
            optimizer=training.AdamW(
                learning_rate=0.0001,
                beta1=0.9,
                beta2=0.999,
                epsilon=1e-08,
                weight_decay=0.0,
            ),
            schedule="cosine",
            max_grad_norm=1.0,
            shuffle=True,
            save_every=100,
            keep_checkpoints=2,
            log_every=10,
            plot=True,
            fingerprint=FINGERPRINT,
            name="run",
        )


if __name__ == "__main__":
    main()
