//! Policies and how they merge (format document §6.3). Defined by their implementer.
