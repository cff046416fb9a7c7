//! A step that meets a transaction waits for its end, and then acts on what is there.

use std::future::Future;

use super::super::bench::{LONG, fresh_claim, fresh_key, must_be_same, record_of};
use super::super::clock::Clock;
use super::bench::{End, TransactionBench};
use super::database::Database;
use crate::store::{Begin, Claim, Ownership, Record, RecordKey};

/// `release` of a claim whose record is not committed yet waits. It is then lost if the transaction
/// was committed, and frees the key if not.
///
/// By this the layer finds out what has become of a commit.
pub async fn a_release_waits_for_the_transaction<D: Database>(database: D, clock: Clock) {
    let bench = TransactionBench::new(database, clock);
    for end in End::BOTH {
        let (key, claim) = bench.claimed().await;
        let release = bench.release(&key, claim.owner());
        let (released, record) = meets(&bench, &key, &claim, end, "release", release).await;
        match end {
            End::Commit => {
                assert_eq!(released, Ownership::Lost, "release after the commit");
                let what = "a release that waited for the commit";
                bench.must_be_completed(&key, &record, what).await;
            }
            End::RollBack => {
                assert_eq!(released, Ownership::Held, "release after the roll-back");
                let what = "a release that waited for the roll-back";
                bench.must_be_absent(&key, what).await;
            }
        }
    }
}

/// `renew` of a claim whose record is not committed yet waits, and is lost if the transaction was
/// committed.
pub async fn a_renewal_waits_for_the_transaction<D: Database>(database: D, clock: Clock) {
    let bench = TransactionBench::new(database, clock);
    for end in End::BOTH {
        let (key, claim) = bench.claimed().await;
        let renew = bench.renew(&key, claim.owner(), LONG);
        let (renewed, record) = meets(&bench, &key, &claim, end, "renew", renew).await;
        let what = "a renewal that waited for the transaction";
        match end {
            End::Commit => {
                assert_eq!(renewed, Ownership::Lost, "renew after the commit");
                bench.must_be_completed(&key, &record, what).await;
            }
            End::RollBack => {
                assert_eq!(renewed, Ownership::Held, "renew after the roll-back");
                bench.must_be_held(&key, &claim, what).await;
            }
        }
    }
}

/// `complete` of a claim whose record is not committed yet waits, and replaces no record.
pub async fn a_completion_waits_for_the_transaction<D: Database>(database: D, clock: Clock) {
    let bench = TransactionBench::new(database, clock);
    for end in End::BOTH {
        let (key, claim) = bench.claimed().await;
        let other = record_of(&claim);
        let complete = bench.complete(&key, claim.owner(), &other, LONG);
        let (completed, record) = meets(&bench, &key, &claim, end, "complete", complete).await;
        let what = "a completion that waited for the transaction";
        match end {
            End::Commit => {
                assert_eq!(completed, Ownership::Lost, "complete after the commit");
                bench.must_be_completed(&key, &record, what).await;
            }
            End::RollBack => {
                assert_eq!(completed, Ownership::Held, "complete after the roll-back");
                bench.must_be_completed(&key, &other, what).await;
            }
        }
    }
}

/// A claim of a key that a transaction has found absent waits. It gets the record if that was
/// committed, and starts if not.
pub async fn a_claim_waits_for_a_record_that_is_not_committed<D: Database>(
    database: D,
    clock: Clock,
) {
    let bench = TransactionBench::new(database, clock);
    for end in End::BOTH {
        let (key, first, second) = (fresh_key(), fresh_claim(), fresh_claim());
        let begin = bench.begin(&key, &second, LONG);
        let (begun, record) = meets(&bench, &key, &first, end, "begin", begin).await;
        match (begun, end) {
            (Begin::Completed(found), End::Commit) => {
                must_be_same(&found, &record, "a claim that waited for the commit");
            }
            (Begin::Started, End::RollBack) => {
                let what = "a claim that waited for the roll-back";
                bench.must_be_held(&key, &second, what).await;
            }
            (found, end) => panic!("a claim that has waited for {end:?} got {found:?}"),
        }
    }
}

/// Takes a step while a transaction that has kept a record under its key is under way. Returns its
/// answer, which must not come before that transaction's end, and the record.
async fn meets<D: Database, T: std::fmt::Debug>(
    bench: &TransactionBench<D>,
    key: &RecordKey,
    claim: &Claim,
    end: End,
    name: &str,
    step: impl Future<Output = T> + Send,
) -> (T, Record) {
    let mut session = bench.database.connect().await;
    let mut transaction = bench.database.begin(&mut session).await;
    let record = bench
        .must_complete_in(&mut transaction, key, claim, "before another step")
        .await;
    let mut step = Box::pin(step);
    if let Some(early) = bench.clock.a_moment_for(step.as_mut()).await {
        panic!("{name} did not wait for the transaction that has the key, but answered {early:?}");
    }
    bench.must_end_by(transaction, end, name).await;
    (step.await, record)
}
