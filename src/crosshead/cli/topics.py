"""The groups in which `crosshead train RECIPE --help` shows the flags of recipes."""

_FLAGS = {
    "data": """data data_dir format download val test train_split val_split test_split in_chans skip_faulty
        scenes scene_size image_size test_sizes crop_fraction min_size max_size tile ignore_index
        reduce_zero_label class_names folds fold block guard""",
    "model": """model model_args pretrained swap_landmarks drop_path dropout detector pyramid_dim anchor_sizes
        rois max_detections decoder decoder_dim dim detail_dim symmetric landmarks mixing mixing_group_size
        local_kernel keep""",
    "optimisation": """epochs patience val_every batch_size accumulate optimizer lr min_lr weight_decay
        warmup_epochs clip_grad ema smoothing class_weights binary_loss dice attention_epochs
        blockwise block_lr feature_lr trained""",
    "augmentation": """crop crops kept_crops crop_scale crop_padding scale flip vertical_flip rotation
        symmetries color_jitter rand_augment erasing mixup cutmix""",
    "run": "seed logger explain_every workers threads",
    "hardware": """accelerator devices nodes strategy precision compile channels_last grad_checkpointing""",
}

TOPICS = {name: topic for topic, names in _FLAGS.items() for name in names.split()}
