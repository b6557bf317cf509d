"""The service: from a release to an endpoint that is fast, safe and answers as in training."""
