torchrun --nproc_per_node 4 --nnodes=2 --master_port 29500 src/train.py \
  --model_name_or_path m --output_dir o --stage sft --finetuning_type full --deepspeed ds_z2.json --bf16
