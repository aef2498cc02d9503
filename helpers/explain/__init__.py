"""Every way to explain a prediction."""
