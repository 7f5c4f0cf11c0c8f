//! What the engine tells by `tracing`, kept until Python drains it: Rust never takes the GIL to speak.
//!
//! Bounded: when nobody drains, the oldest events are dropped.

use parking_lot::Mutex;
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::fmt::{self, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

const EVENTS_MAX: usize = 4096;

static EVENTS: Mutex<VecDeque<(&'static str, String)>> = Mutex::new(VecDeque::new());

/// Sends the engine's events of level `info` and above here. Once in a process.
pub(crate) fn start() {
    // Fails only if another subscriber was set before: then that one has the events.
    let _ = tracing::subscriber::set_global_default(Collector);
}

struct Collector;

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }
    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::INFO)
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let mut events = EVENTS.lock();
        if events.len() == EVENTS_MAX {
            events.pop_front();
        }
        events.push_back((level_name(*event.metadata().level()), text.message + &text.fields));
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        _ => "debug",
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[pyfunction]
pub(crate) fn drain_events() -> Vec<(&'static str, String)> {
    EVENTS.lock().drain(..).collect()
}
