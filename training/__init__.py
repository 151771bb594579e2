"""Training: objectives, data and the trainer."""
