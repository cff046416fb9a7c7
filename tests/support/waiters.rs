//! How many requests wait behind a layer for the answer of another.

use tower_idempotency::IdempotencyLayer;

/// Returns the number of waiters, and of the keys that they wait for, as a layer shows itself.
pub fn waiters<St>(layer: &IdempotencyLayer<St>) -> [usize; 2] {
    let shown = format!("{layer:?}");
    let (_, shown) = shown.split_once("Waiters { count: ").unwrap();
    let (shown, _) = shown.split_once(" }").unwrap();
    let (count, keys) = shown.split_once(", keys: ").unwrap();
    [count, keys].map(|number| number.parse().unwrap())
}
