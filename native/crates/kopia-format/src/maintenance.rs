//! Maintenance parameters, schedule blob and safety margins (format document §8.1, §8.2, §8.5). Pure.
