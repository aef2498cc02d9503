"""What the notebooks of Look Inside share: data, models, explainers, measures and figures."""
