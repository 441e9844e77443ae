"""Reports: figures computed from stored runs, and how a person sees them. Nothing here reads a live process."""
