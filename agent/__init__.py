"""The node agent: one process a node. Knows custom resources and phases; no packs, hashes or file trees."""
