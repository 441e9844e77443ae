"""The live body of the scheduler: gateway, control API, journal and the workers' life, in one asyncio process."""
