//! Time is that of the call, however old the transaction is.

use super::super::bench::{answer, fresh_claim, fresh_key, record_of};
use super::super::clock::Clock;
use super::super::endings::INCONCLUSIVE;
use super::bench::TransactionBench;
use super::database::Database;
use crate::store::{Begin, Ownership};

/// A lease of another that ends while the transaction is under way has ended for `complete_in`.
pub async fn a_lease_that_ends_during_the_transaction_has_ended<D: Database>(
    database: D,
    clock: Clock,
) {
    let bench = TransactionBench::new(database, clock);
    for lease in clock.attempts() {
        let (key, _, term) = bench.claimed_for(lease).await;
        let mut session = bench.database.connect().await;
        let mut transaction = bench.database.begin(&mut session).await;
        // The first statement is what some databases take the time of.
        bench
            .must_complete_in(&mut transaction, &fresh_key(), &fresh_claim(), "absent")
            .await;
        if !term.lasted_until(clock.now()) {
            D::roll_back(transaction).await;
            continue;
        }
        term.over().await;
        let what = "in a transaction that is older than the end of the lease";
        let claim = fresh_claim();
        let record = bench.must_complete_in(&mut transaction, &key, &claim, what);
        let record = record.await;
        bench.must_commit(transaction, what).await;
        bench.must_be_completed(&key, &record, what).await;
        return;
    }
    panic!("{INCONCLUSIVE}");
}

/// The ttl of a record runs from `complete_in`, neither from the begin of its transaction nor from its
/// end.
pub async fn a_ttl_runs_from_the_call_in_a_transaction<D: Database>(database: D, clock: Clock) {
    let bench = TransactionBench::new(database, clock);
    for ttl in clock.attempts() {
        let (key, claim) = bench.claimed().await;
        let record = record_of(&claim);
        let mut session = bench.database.connect().await;
        let mut transaction = bench.database.begin(&mut session).await;
        bench
            .must_complete_in(&mut transaction, &fresh_key(), &fresh_claim(), "absent")
            .await;
        clock.sleep(ttl / 2).await;
        let completed = bench.try_complete_in(&mut transaction, &key, claim.owner(), &record, ttl);
        let (held, term) = clock.grant(ttl, completed).await;
        let held = answer("complete_in", held);
        assert_eq!(held, Ownership::Held, "complete_in by the owner");
        clock.sleep(ttl / 2).await;
        bench.must_commit(transaction, "by the owner").await;
        if !term.lasted_until(clock.now()) {
            continue;
        }
        let is_kept = |found: &Begin| matches!(found, Begin::Completed(found) if *found == record);
        bench.must_end(&key, &term, is_kept).await;
        return;
    }
    panic!("{INCONCLUSIVE}");
}
