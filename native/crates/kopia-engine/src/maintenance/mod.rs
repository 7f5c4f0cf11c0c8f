//! Maintenance of a repository: the quick and the full cycle, each task of Kopia in Kopia's order,
//! with its safety margins and its run history (format document §8).
//!
//! `run` is the door; `schedule` keeps the history and decides by it; one file a task in `tasks`.
//! Nothing here excludes a second maintainer on another machine, because the format cannot: each
//! task is safe beside one. The surprise: the history is not a log, later runs decide by it.

mod cycle;
mod health;
mod owner;
mod report;
mod run;
mod schedule;
mod tasks;

pub use cycle::Cycle;
pub use health::{Epochs, Health, health};
pub use owner::{MaintenanceInfo, info, parameters, set_parameters, take_over};
pub use report::{CountAndBytes, MaintenanceReport, Outcome, TaskDetails, TaskReport};
pub use run::{MaintenanceOptions, Mode, SHARED_OWNER, Safety, run};
