"""Agent loops: what a program does between its first model call and its last. They know the daemon's HTTP API only."""
