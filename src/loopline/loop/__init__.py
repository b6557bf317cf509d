"""The closed loop: what triggers a retraining, what a new model must prove, and who acts on it."""
