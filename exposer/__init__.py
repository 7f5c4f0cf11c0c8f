"""Makes a volume reachable by a hosting pod, and takes it back.

Knows no custom resource and no repository.
"""
