//! Checks whether a history can be put into an order that the model allows.

use std::collections::HashSet;

use super::history::Call;
use super::model::{Between, Key};

/// The calls on one key, by the thread that made them, each in the order of its time.
pub(super) type History = Vec<Vec<Call>>;

/// A history that is not linearizable, and how far it could be put in order.
#[derive(Debug)]
#[allow(dead_code, reason = "shown by its Debug form")]
pub(super) struct NotLinearizable {
    /// How many calls could be put in order at most, and how many there are.
    longest: (usize, usize),
    /// The state of the key after them.
    key: Key,
    /// The calls that led there, the last of them last.
    before: Vec<Call>,
    /// The calls that might come next, though none is allowed.
    next: Vec<Call>,
}

/// Checks a history for linearizability: each call must seem to take effect at one moment between
/// the call and its answer.
///
/// The search is that of Wing and Gong, with Lowe's memory of what has been tried. A place in it is
/// the number of calls of each thread that have been put in order, and the state of the key after
/// them. Keys do not depend on one another, so each has a history of its own.
pub(super) fn check(history: &History) -> Result<(), NotLinearizable> {
    let total: usize = history.iter().map(Vec::len).sum();
    let start = Place {
        done: vec![0; history.len()],
        latest: 0,
        key: Key::Absent,
    };
    let mut longest = start.clone();
    let mut seen = HashSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some(place) = open.pop() {
        if place.len() == total {
            return Ok(());
        }
        if place.len() > longest.len() {
            longest = place.clone();
        }
        for next in place.next(history) {
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    let mut before: Vec<_> = history
        .iter()
        .zip(&longest.done)
        .flat_map(|(calls, done)| calls[done.saturating_sub(4)..*done].to_vec())
        .collect();
    before.sort_by_key(|call| call.answered);
    Err(NotLinearizable {
        longest: (longest.len(), total),
        key: longest.key,
        before,
        next: longest.pending(history).map(|(_, call)| *call).collect(),
    })
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    done: Vec<usize>,
    /// The earliest moment at which the last of these calls can have taken effect.
    latest: u64,
    key: Key,
}

impl Place {
    fn len(&self) -> usize {
        self.done.iter().sum()
    }

    fn pending<'a>(&'a self, history: &'a History) -> impl Iterator<Item = (usize, &'a Call)> {
        let threads = history.iter().zip(&self.done).enumerate();
        threads.filter_map(|(thread, (calls, done))| Some((thread, calls.get(*done)?)))
    }

    /// Returns the places that are one call further, the one that answered first as the last.
    fn next(&self, history: &History) -> Vec<Self> {
        // Every call that is left takes effect after the next one, and before its own answer.
        let until = self.pending(history).map(|(_, call)| call.answered).min();
        let mut candidates: Vec<_> = self.pending(history).collect();
        candidates.sort_by_key(|(_, call)| std::cmp::Reverse(call.answered));
        let next = candidates.into_iter().filter_map(|(thread, call)| {
            let now = Between {
                from: self.latest.max(call.called),
                to: until?,
            };
            if now.from > now.to {
                return None;
            }
            let mut done = self.done.clone();
            done[thread] += 1;
            Some(Self {
                done,
                latest: now.from,
                key: self.key.after(call, now)?,
            })
        });
        next.collect()
    }
}
