"""What a machine has of what thunderctl can use, and how to get what is missing. Looks only, and leaves
nothing changed, so that it works on a machine where nothing else does.
"""
