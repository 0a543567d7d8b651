#!/bin/bash
# The way of early versions
CUDA_VISIBLE_DEVICES=0,1 accelerate launch \
    --config_file accelerate/fsdp_config.yaml \
    src/train_bash.py \
    --stage sft \
    --do_train \
    --model_name_or_path meta-llama/Llama-2-70b-hf \
    --dataset rows \
    --template default \
    --finetuning_type lora \
    --lora_target q_proj,v_proj \
    --output_dir saves/lora \
    --overwrite_cache \
    --warmup_steps 20 \
    --eval_steps 100 \
    --evaluation_strategy steps \
    --load_best_model_at_end \
    --val_size 0.1 \
    --quantization_bit 4 \
    --sft_packing \
    --fp16
