"""Roll-outs for reinforcement learning: groups of samples with every token as the engine saw it."""
