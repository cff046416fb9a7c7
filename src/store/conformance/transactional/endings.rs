//! What becomes of a record with its transaction.

use http::{HeaderName, HeaderValue, StatusCode};

use super::super::bench::{LONG, fresh_claim, fresh_key, long_body, must_be_same};
use super::super::clock::Clock;
use super::bench::{End, TransactionBench};
use super::database::Database;
use crate::store::{Begin, Ownership, Record};

/// `complete_in` by the owner keeps the record once the transaction is committed, and the key is then
/// completed for its owner and for everybody.
pub async fn a_record_is_kept_once_its_transaction_is_committed<D: Database>(
    database: D,
    clock: Clock,
) {
    let bench = TransactionBench::new(database, clock);
    let (key, claim) = bench.claimed().await;
    let what = "committed";
    bench.must_keep(&key, &claim, what).await;
    bench.must_not_hold(&key, &claim, what).await;
    bench.must_be_kept_off(&key, &fresh_claim(), what).await;
}

/// A transaction that is rolled back leaves the claim as it was, or the key absent. In the next
/// transaction, its owner can keep another record.
pub async fn a_record_of_a_transaction_rolled_back_is_not_kept<D: Database>(
    database: D,
    clock: Clock,
) {
    let bench = TransactionBench::new(database, clock);
    let mut session = bench.database.connect().await;
    let mut left = Vec::new();
    let what = "rolled back";
    for is_claimed in [true, false] {
        for is_again in [true, false] {
            let (key, claim) = match is_claimed {
                true => bench.claimed().await,
                false => (fresh_key(), fresh_claim()),
            };
            let mut transaction = bench.database.begin(&mut session).await;
            bench
                .must_complete_in(&mut transaction, &key, &claim, "before it is rolled back")
                .await;
            D::roll_back(transaction).await;
            match (is_again, is_claimed) {
                (true, _) => bench.must_keep(&key, &claim, "after a roll-back").await,
                (false, true) => bench.must_be_held(&key, &claim, what).await,
                (false, false) => left.push(key),
            }
        }
    }
    for key in left {
        bench.must_be_absent(&key, what).await;
    }
}

/// Nobody finds the record of a transaction before it is committed: a claim is answered by what is
/// committed, or waits.
pub async fn a_record_is_invisible_until_its_commit<D: Database>(database: D, clock: Clock) {
    let bench = TransactionBench::new(database, clock);
    for end in End::BOTH {
        let (key, claim) = bench.claimed().await;
        let mut session = bench.database.connect().await;
        let mut transaction = bench.database.begin(&mut session).await;
        let record = bench
            .must_complete_in(&mut transaction, &key, &claim, "claimed")
            .await;
        let other = fresh_claim();
        let mut begin = Box::pin(bench.begin(&key, &other, LONG));
        let early = clock.a_moment_for(begin.as_mut()).await;
        let is_right = |begun: &Begin| match begun {
            Begin::InProgress(fingerprint) => *fingerprint == claim.fingerprint(),
            _ => false,
        };
        if let Some(found) = &early {
            assert!(
                is_right(found),
                "the record is not committed, and the key was claimed before, but {found:?} was \
                 answered"
            );
        }
        bench.must_end_by(transaction, end, "claimed").await;
        if early.is_none() {
            match (begin.await, end) {
                (Begin::Completed(found), End::Commit) => {
                    must_be_same(&found, &record, "a claim that has waited for a commit");
                }
                (found, End::RollBack) if is_right(&found) => {}
                (found, end) => panic!("a claim that has waited for {end:?} got {found:?}"),
            }
        }
        match end {
            End::Commit => bench.must_be_completed(&key, &record, "committed").await,
            End::RollBack => bench.must_be_held(&key, &claim, "rolled back").await,
        }
    }
}

/// `complete_in` of a key that nobody has claimed keeps the record, since the claim may have been lost
/// on its way, or with a crash of the server.
pub async fn a_claim_that_never_arrived_is_made_and_completed_in_one<D: Database>(
    database: D,
    clock: Clock,
) {
    let bench = TransactionBench::new(database, clock);
    bench
        .must_keep(&fresh_key(), &fresh_claim(), "absent")
        .await;
}

/// `complete_in` keeps the record after a lease or a ttl has ended, whosever it was, and after a
/// release.
pub async fn a_late_record_is_kept_in_a_transaction<D: Database>(database: D, clock: Clock) {
    let bench = TransactionBench::new(database, clock);
    let (key, claim) = bench.lost().await;
    bench.must_keep(&key, &claim, "after the lease ended").await;
    let (key, _) = bench.lost().await;
    bench
        .must_keep(&key, &fresh_claim(), "after the lease of another ended")
        .await;
    let (key, _) = bench.ended().await;
    bench
        .must_keep(&key, &fresh_claim(), "after the ttl ended")
        .await;
    let (key, claim) = bench.claimed().await;
    let released = bench.release(&key, claim.owner()).await;
    assert_eq!(released, Ownership::Held, "release by the owner");
    bench.must_keep(&key, &claim, "released").await;
}

/// A record with a body of 1 MiB, the layer's limit, and 64 header fields comes back as it was given.
pub async fn a_record_at_the_limit_is_kept_in_a_transaction<D: Database>(
    database: D,
    clock: Clock,
) {
    let bench = TransactionBench::new(database, clock);
    let name = HeaderName::from_static("x-repeated");
    let value = HeaderValue::from_bytes(&[0xe9; 256]).expect("a value may hold 0xE9");
    let fields = std::iter::repeat_n((&name, &value), 64);
    let (key, claim) = bench.claimed().await;
    let record = Record::new(
        claim.fingerprint(),
        StatusCode::CREATED,
        fields,
        Some(&long_body()),
    );
    let mut session = bench.database.connect().await;
    let mut transaction = bench.database.begin(&mut session).await;
    let held = bench.complete_in(&mut transaction, &key, claim.owner(), &record);
    assert_eq!(held.await, Ownership::Held, "complete_in of a long record");
    bench.must_commit(transaction, "a long record").await;
    bench
        .must_be_completed(&key, &record, "a long record")
        .await;
}

/// A claim that need not be durable is a claim like any other: it keeps others off, is renewed,
/// completed, released, and ended.
pub async fn a_claim_that_need_not_be_durable_is_a_claim<D: Database>(database: D, clock: Clock) {
    let bench = TransactionBench::new(database, clock);
    let hurried = || fresh_claim().durable(false);
    let what = "a claim that need not be durable";

    let (key, claim) = (fresh_key(), hurried());
    bench.must_start(&key, &claim, what).await;
    bench.must_be_in_progress(&key, &claim, what).await;
    let found = bench.begin(&key, &hurried(), LONG).await;
    assert!(
        matches!(found, Begin::InProgress(fingerprint) if fingerprint == claim.fingerprint()),
        "{what}, for another of its kind: {found:?} was answered"
    );
    bench.must_be_kept_off(&key, &fresh_claim(), what).await;
    let renewed = bench.renew(&key, claim.owner(), LONG).await;
    assert_eq!(renewed, Ownership::Held, "{what}: renew");
    bench.must_keep(&key, &claim, what).await;
    let found = bench.begin(&key, &hurried(), LONG).await;
    assert!(
        matches!(found, Begin::Completed(_)),
        "{what}, of a completed key: {found:?} was answered"
    );

    let (key, claim) = (fresh_key(), hurried());
    bench.must_start(&key, &claim, what).await;
    let released = bench.release(&key, claim.owner()).await;
    assert_eq!(released, Ownership::Held, "{what}: release");
    bench.must_be_absent(&key, what).await;

    let (key, _) = bench.lost().await;
    bench
        .must_start(&key, &hurried(), "after the lease of another ended")
        .await;
}
