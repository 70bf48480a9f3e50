"""Models on disk and on the hub: names, configuration, weights, cards, and which weights fit which model."""
