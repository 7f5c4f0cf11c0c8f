//! Ignore rules: pattern language and evaluation (format document §7.4). Pure.
