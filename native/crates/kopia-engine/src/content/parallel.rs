//! Many small requests at once, to a storage whose latency is what is waited for.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Requests under way at once.
pub(crate) const FAR_REQUESTS_MAX: usize = 16;
/// Threads of one kind that a number of a user's (an option, a policy, a custom resource) may ask for.
pub(crate) const WORKERS_MAX: usize = 256;

/// How many threads to start: what was asked for, else the `usual`, within bounds.
pub(crate) fn workers(asked: Option<usize>, usual: usize) -> usize {
    asked.unwrap_or(usual).clamp(1, WORKERS_MAX)
}

/// What `work` gives for each of `items`, in their order; several are worked on at once.
pub(crate) fn map_far<T: Sync, R: Send>(items: &[T], work: &(dyn Fn(&T) -> R + Sync)) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(items.len()));
    let run = || loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(item) = items.get(index) else { return };
        let result = work(item);
        results.lock().push((index, result));
    };
    std::thread::scope(|scope| {
        for _ in 1..items.len().min(FAR_REQUESTS_MAX) {
            scope.spawn(run);
        }
        run();
    });
    let mut results = results.into_inner();
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_have_the_order_of_their_items() {
        for count in [0, 1, 2, 100] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(
                map_far(&items, &|item| item * 2),
                items.iter().map(|item| item * 2).collect::<Vec<_>>()
            );
        }
    }
}
