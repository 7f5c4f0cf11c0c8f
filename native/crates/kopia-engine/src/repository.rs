//! Opening, creating and closing a repository.
