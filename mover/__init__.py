"""Moves one volume, once, in a hosting pod. Knows no Kubernetes objects, its report channel apart."""
