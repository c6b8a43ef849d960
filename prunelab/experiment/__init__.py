"""One experiment: train dense, then rounds of prune, rewind and fine-tune, then finish."""
