//! The behaviour of the whole stack, a module a topic.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails here")]

mod bodies;
mod caller;
mod detached;
mod drop_points;
mod dropped;
mod expiry;
mod failing_closed;
mod failing_handler;
mod failing_store;
mod hang_up;
mod keep;
mod lease;
mod memory_store;
mod nested;
mod panics;
mod readiness;
mod refusals;
mod seams;
mod sensitive;
mod shutdown;
mod stacks;
mod support;
mod table;
mod uploads;
mod waiting;
mod wakers;
mod without_body;
