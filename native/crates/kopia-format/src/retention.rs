//! Which snapshots a retention policy keeps, and why (format document §6.4). Pure.
