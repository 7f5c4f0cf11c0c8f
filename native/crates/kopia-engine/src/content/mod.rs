//! Contents: hashed, sealed pieces in packs, found through indexes.
