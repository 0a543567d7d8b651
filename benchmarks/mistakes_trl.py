"""TRL's SFT as its documentation shows it, with the settings given as JSON (run in TRL's own environment)."""

import json
import sys

from datasets import load_dataset
from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser, get_peft_config

settings = json.loads(sys.argv[1])
files = {"train": settings.pop("train_file")}
eval_file = settings.pop("eval_file", None)
words = []
for name, value in settings.items():
    values = value if isinstance(value, list) else [value]
    words += [f"--{name}", *(str(item) for item in values)]
config, model = TrlParser((SFTConfig, ModelConfig)).parse_args_and_config(words)
data = load_dataset("json", data_files={**files, **({"more": eval_file} if eval_file else {})})
trainer = SFTTrainer(
    model=model.model_name_or_path,
    args=config,
    train_dataset=data["train"],
    peft_config=get_peft_config(model),
)
trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)
