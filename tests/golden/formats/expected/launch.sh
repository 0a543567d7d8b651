#!/usr/bin/env bash
# Compiled by tunec 0.1.0 from spec.toml. Generated, do not edit.
#   ./launch.sh              start
#   ./launch.sh --resume     go on from the newest complete checkpoint
#   ./launch.sh --overwrite  delete what an earlier run wrote, then start
# The supervisor locks the folder, checks the machine, and passes signals on; the words after -- are what it runs.
# Python: the one in TUNEC_PYTHON, else python3. Exit code 75: stopped with a checkpoint, start again with --resume.
set -euo pipefail
unset CDPATH
export LC_ALL=C.UTF-8 PYTHONSAFEPATH=1
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
exec "${TUNEC_PYTHON:-python3}" -m tunec.runtime.supervisor \
    --run-dir . \
    --processes 1 \
    --device cpu \
    --grace-s 120 \
    --port 29535 \
    --need-gib 0.00 \
    --prepare prepare.py \
    --extension shm_comm \
    "$@" \
    -- \
    "${TUNEC_PYTHON:-python3}" train.py
