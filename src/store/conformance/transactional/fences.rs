//! What `complete_in` finds, it leaves alone: the claim of another, and every record.

use super::super::bench::{LONG, fresh_claim, fresh_key, record_of};
use super::super::clock::Clock;
use super::bench::TransactionBench;
use super::database::Database;
use crate::store::{Claim, Ownership, Record, RecordKey};

/// `complete_in` of a key in progress under another owner is lost and changes nothing, though the
/// transaction is committed. So it is for an owner whose lease has ended, once another has claimed.
pub async fn the_claim_of_another_is_not_completed_in_a_transaction<D: Database>(
    database: D,
    clock: Clock,
) {
    let bench = TransactionBench::new(database, clock);
    let (held, holder) = bench.claimed().await;
    let (taken, first) = bench.lost().await;
    let second = fresh_claim();
    bench
        .must_start(&taken, &second, "after the lease ended")
        .await;
    let twin = Claim::new(fresh_claim().owner(), holder.fingerprint());
    for (what, key, claim, holder) in [
        ("a stranger", held, fresh_claim(), holder),
        ("a stranger with the same request", held, twin, holder),
        ("the owner of a lost lease", taken, first, second),
    ] {
        let mut session = bench.database.connect().await;
        let mut transaction = bench.database.begin(&mut session).await;
        bench
            .must_lose_in(&mut transaction, &key, &claim, what)
            .await;
        bench.must_commit(transaction, what).await;
        bench.must_be_in_progress(&key, &holder, what).await;
    }
    bench
        .must_be_held(&held, &holder, "after strangers tried")
        .await;
    bench
        .must_be_held(&taken, &second, "after the first owner tried")
        .await;
}

/// `complete_in` of a completed key is lost and leaves the record, be it another's or one's own.
pub async fn a_record_is_not_replaced_in_a_transaction<D: Database>(database: D, clock: Clock) {
    let bench = TransactionBench::new(database, clock);
    let (by_the_store, claim, record) = bench.completed().await;
    let mut session = bench.database.connect().await;
    let (key, owner) = (fresh_key(), fresh_claim());
    let mut transaction = bench.database.begin(&mut session).await;
    let kept = bench.must_complete_in(&mut transaction, &key, &owner, "absent");
    let kept = kept.await;
    bench.must_commit(transaction, "absent").await;
    for (what, key, claim, record) in [
        ("another", by_the_store, fresh_claim(), &record),
        ("its owner", by_the_store, claim, &record),
        (
            "another, of a record of a transaction",
            key,
            fresh_claim(),
            &kept,
        ),
        ("its owner, of a record of a transaction", key, owner, &kept),
    ] {
        let mut transaction = bench.database.begin(&mut session).await;
        bench
            .must_lose_in(&mut transaction, &key, &claim, what)
            .await;
        bench.must_commit(transaction, what).await;
        bench.must_be_completed(&key, record, what).await;
    }
}

/// A second `complete_in` of one transaction is lost, and the first record stays, whosever the second
/// is.
pub async fn a_record_of_this_very_transaction_is_not_replaced<D: Database>(
    database: D,
    clock: Clock,
) {
    let bench = TransactionBench::new(database, clock);
    for by_another in [false, true] {
        for is_claimed in [true, false] {
            let (key, claim) = match is_claimed {
                true => bench.claimed().await,
                false => (fresh_key(), fresh_claim()),
            };
            let second = if by_another { fresh_claim() } else { claim };
            let what = "a second time in one transaction";
            let mut session = bench.database.connect().await;
            let mut transaction = bench.database.begin(&mut session).await;
            let record = bench.must_complete_in(&mut transaction, &key, &claim, "the first time");
            let record = record.await;
            bench
                .must_lose_in(&mut transaction, &key, &second, what)
                .await;
            bench.must_commit(transaction, what).await;
            bench.must_be_completed(&key, &record, what).await;
        }
    }
}

/// A claim or a record that has come since the transaction began is not replaced: `complete_in` is
/// lost, or fails, or the transaction can't be committed.
///
/// Needs somebody else to write meanwhile.
pub async fn what_came_since_the_transaction_began_is_not_replaced<D: Database>(
    database: D,
    clock: Clock,
) {
    if D::HAS_ONE_WRITER {
        return;
    }
    let bench = TransactionBench::new(database, clock);
    for is_completed in [false, true] {
        let (key, late) = bench.lost().await;
        let mut session = bench.database.connect().await;
        let mut transaction = bench.database.begin(&mut session).await;
        // Where a transaction has one view of the database, that begins with its first statement.
        bench
            .must_complete_in(&mut transaction, &fresh_key(), &fresh_claim(), "absent")
            .await;
        let other = fresh_claim();
        let what = "since the transaction began";
        bench.must_start(&key, &other, what).await;
        let record = record_of(&other);
        if is_completed {
            bench.must_complete(&key, &other, &record, what).await;
        }
        must_not_replace(&bench, transaction, &key, &late, what).await;
        match is_completed {
            true => bench.must_be_completed(&key, &record, what).await,
            false => bench.must_be_held(&key, &other, what).await,
        }
    }
}

async fn must_not_replace<D: Database>(
    bench: &TransactionBench<D>,
    mut transaction: D::Transaction<'_>,
    key: &RecordKey,
    late: &Claim,
    what: &str,
) {
    let record: Record = record_of(late);
    let completed = bench
        .try_complete_in(&mut transaction, key, late.owner(), &record, LONG)
        .await;
    match completed {
        Ok(Ownership::Lost) => bench.must_commit(transaction, what).await,
        Ok(Ownership::Held) => {
            let is_committed = D::commit(transaction).await;
            assert!(!is_committed, "what came {what} was replaced");
        }
        Err(_) => D::roll_back(transaction).await,
    }
}
