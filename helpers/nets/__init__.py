"""Networks: build, load, train, record what layers put out, cut and fold."""
