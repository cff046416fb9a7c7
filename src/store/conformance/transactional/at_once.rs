//! Of all the transactions that keep a record under one key, at most one is committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::bench::{LONG, fresh_claim, fresh_key, record_of};
use super::super::clock::Clock;
use super::super::races::race;
use super::bench::{End, TransactionBench};
use super::database::Database;
use crate::store::{Begin, Claim, Ownership, Record, RecordKey};

/// A transaction that keeps a record under a key which another has kept one under waits for that one's
/// end. It is lost, fails, or can't be committed if the other was, and keeps its record if not.
pub async fn of_two_transactions_on_one_key_at_most_one_is_committed<D: Database>(
    database: D,
    clock: Clock,
) {
    let bench = TransactionBench::new(database, clock);
    for end in End::BOTH {
        for is_claimed in [true, false] {
            let (key, first) = match is_claimed {
                true => bench.claimed().await,
                false => (fresh_key(), fresh_claim()),
            };
            // An owner may try twice, since it does not know what has become of its first commit.
            let second = if is_claimed { first } else { fresh_claim() };
            let mut session = bench.database.connect().await;
            let mut transaction = bench.database.begin(&mut session).await;
            let record = bench.must_complete_in(&mut transaction, &key, &first, "the first");
            let record = record.await;
            let mut keeps = Box::pin(keep(&bench, &key, &second));
            let early = clock.a_moment_for(keeps.as_mut()).await;
            bench.must_end_by(transaction, end, "the first").await;
            let kept = match early {
                Some(_) => panic!("the second transaction did not wait for the first"),
                None => keeps.await,
            };
            let what = "after two transactions";
            match (end, kept) {
                (End::Commit, None) => bench.must_be_completed(&key, &record, what).await,
                (End::RollBack, Some(kept)) => bench.must_be_completed(&key, &kept, what).await,
                (End::Commit, Some(_)) => panic!("two transactions on one key were committed"),
                (End::RollBack, None) => {
                    panic!("the first transaction was rolled back, and the second kept nothing")
                }
            }
        }
    }
}

/// Of many transactions that keep a record under one key exactly one is committed, 25 times.
pub async fn of_many_transactions_on_one_key_exactly_one_is_committed<D: Database>(
    database: D,
    clock: Clock,
) {
    let bench = Arc::new(TransactionBench::new(database, clock));
    for round in 0..25 {
        let (key, claim) = match round % 2 {
            0 => bench.claimed().await,
            _ => (fresh_key(), fresh_claim()),
        };
        let kept = race(8, || {
            let bench = Arc::clone(&bench);
            // Without a claim, each is another's.
            let claim = if round % 2 == 0 { claim } else { fresh_claim() };
            async move { keep(&bench, &key, &claim).await }
        })
        .await;
        let kept: Vec<_> = kept.into_iter().flatten().collect();
        let [record] = &kept[..] else {
            panic!("{} transactions on one key were committed", kept.len());
        };
        let what = "the transaction that was committed";
        bench.must_be_completed(&key, record, what).await;
    }
}

/// After a lease has ended, either a late transaction or a concurrent claim has the key, never both,
/// 50 times.
pub async fn a_late_transaction_and_a_claim_exclude_each_other<D: Database>(
    database: D,
    clock: Clock,
) {
    let bench = Arc::new(TransactionBench::new(database, clock));
    for round in 0..50 {
        let (key, late) = match round % 2 {
            0 => bench.lost().await,
            _ => (fresh_key(), fresh_claim()),
        };
        let turn = AtomicUsize::new(0);
        let have = race(8, || {
            let (bench, claim) = (Arc::clone(&bench), fresh_claim());
            let is_claim = turn.fetch_add(1, Ordering::Relaxed) % 2 == 0;
            async move {
                if is_claim {
                    let begun = bench.begin(&key, &claim, LONG).await;
                    return matches!(begun, Begin::Started).then_some((claim, None));
                }
                let kept = keep(&bench, &key, &late).await;
                kept.map(|record| (late, Some(record)))
            }
        })
        .await;
        let have: Vec<_> = have.into_iter().flatten().collect();
        match &have[..] {
            [(_, Some(record))] => {
                let what = "the transaction that was committed";
                bench.must_be_completed(&key, record, what).await;
            }
            [(claim, None)] => {
                let what = "the claim that started";
                bench.must_be_held(&key, claim, what).await;
            }
            _ => panic!(
                "{} claims and transactions of one key were taken",
                have.len()
            ),
        }
    }
}

/// Keeps a record in a transaction of its own, and returns it if that is committed.
async fn keep<D: Database>(
    bench: &TransactionBench<D>,
    key: &RecordKey,
    claim: &Claim,
) -> Option<Record> {
    let mut session = bench.database.connect().await;
    let mut transaction = bench.database.begin(&mut session).await;
    let record = record_of(claim);
    let owner = claim.owner();
    let completed = bench
        .try_complete_in(&mut transaction, key, owner, &record, LONG)
        .await;
    if let Ok(Ownership::Held) = completed {
        return D::commit(transaction).await.then_some(record);
    }
    D::roll_back(transaction).await;
    None
}
