#!/bin/bash
export CUDA_VISIBLE_DEVICES=0,1
MODEL=meta-llama/Meta-Llama-3-8B-Instruct
# an example
FORCE_TORCHRUN=1 llamafactory-cli train \
    --stage sft \
    --do_train True \
    --model_name_or_path $MODEL \
    --dataset identity,alpaca_en_demo \
    --dataset_dir data \
    --template llama3 \
    --finetuning_type lora \
    --lora_target q_proj,v_proj \
    --output_dir "saves/my run" \
    --bf16 --learning_rate=2e-4 \
    --plot_loss True > log.txt 2>&1
