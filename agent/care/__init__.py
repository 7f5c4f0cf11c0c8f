"""Care of Velero's repositories by people's commands; the agent itself never runs it."""
