"""Speed and memory of attention and of whole backbones, measured beside their rivals."""
