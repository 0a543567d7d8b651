"""Train run.

Compiled by tunec 0.1.0 from spec.toml. Generated, do not edit: change the spec and compile again.
Start it with ./launch.sh, which runs this file once in each process.
"""

from pathlib import Path

from tunec.runtime import data, models, objectives, session, training

RUN_DIR = Path(__file__).resolve().parent
FINGERPRINT = "f9608cf93a776d3d61178203df14dbaef618fb3bc50b4300aa5a243e3246937e"


def main() -> None:
    """Open the data, load the model, train it, save it."""
    with session.start(run_dir=RUN_DIR, seed=42) as run:
        tokenizer = models.load_tokenizer(
            RUN_DIR / "../model",
        )
        # Samples come while the training goes on: prepare.py runs beside this process and stays a little ahead.
        train, evaluation = data.stream(RUN_DIR, tokenizer)

        # From here on all processes work together.
        run.connect(
            deepspeed=RUN_DIR / "deepspeed.json",
            device="cpu",
        )
        model = models.load_causal_lm(
            models.Base(
                RUN_DIR / "../model",
            ),
            dtype="fp32",
        )
        model = models.add_lora(
            model,
            rank=8,
            # update scaled by 2
            alpha=16.0,
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
            global_batch_size=8,
            # as many samples as fit
            micro_tokens=256,
            optimizer=training.AdamW(
                learning_rate=0.0001,
                beta1=0.9,
                beta2=0.999,
                epsilon=1e-08,
                weight_decay=0.0,
            ),
            schedule="cosine",
            max_grad_norm=1.0,
            save_every=100,
            keep_checkpoints=2,
            log_every=10,
            plot=True,
            fingerprint=FINGERPRINT,
            name="run",
        )


if __name__ == "__main__":
    main()
