"""HAN under BasicSR: what one training or validation step does."""
