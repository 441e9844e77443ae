"""The simulator: the real scheduler core over workers with vLLM's rules, in virtual time.

It reads no clock, opens nothing and draws no random number of its own: same inputs, same result.
"""
