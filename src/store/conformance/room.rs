//! The room of a store: given back when a key ends, and never taken from a key that has it.
//!
//! These cases need more than [`Store`]: a count of what the store holds, or a limit.

use http::StatusCode;

use super::Clock;
use super::bench::{Bench, LONG, fresh_claim, fresh_key, must_be_same};
use super::endings::INCONCLUSIVE;
use crate::store::{Begin, Ownership, Record, Store, StoreErrorKind};

/// The room of claims and records that have ended is given back, without a request coming in.
///
/// `room` counts the keys in the store, including those that have ended and still take room. Nobody
/// else may use what it counts meanwhile, so give the store a namespace of its own.
pub async fn the_room_of_what_ended_is_given_back<S: Store>(
    store: S,
    clock: Clock,
    room: impl AsyncFn(&S) -> usize,
) {
    let bench = Bench::new(store, clock);
    let room = async || room(&bench.store).await;
    let before = room().await;
    for term in clock.attempts() {
        let mut terms = Vec::new();
        for n in 0..16 {
            let (key, claim, lease) = bench.claimed_for(term).await;
            terms.push(lease);
            let record = Record::new(claim.fingerprint(), StatusCode::OK, [], Some(&[7; 512]));
            // Every other record has no claim before it.
            let key = if n % 2 == 0 { key } else { fresh_key() };
            let complete = bench.complete(&key, claim.owner(), &record, term);
            terms.push(clock.grant(term, complete).await.1);
        }
        let (key, claim) = bench.claimed().await;
        let during = room().await;
        let released = bench.release(&key, claim.owner()).await;
        assert_eq!(released, Ownership::Held, "release by the owner");
        let now = clock.now();
        if !terms.iter().all(|term| term.lasted_until(now)) {
            continue;
        }
        assert!(
            during >= before + 25,
            "25 keys are there, but the count rose from {before} to {during} only"
        );
        let what = "the room of what ended is given back";
        clock
            .eventually(what, async || room().await <= before)
            .await;
        return;
    }
    panic!("{INCONCLUSIVE}");
}

/// A store that is full refuses new claims, keeps records and claims, keeps a late record or
/// refuses it as full, and takes claims again when there is room.
///
/// The store must be full after at most 10,000 keys of 1 KiB.
pub async fn a_full_store_keeps_what_it_has<S: Store>(store: S, clock: Clock) {
    let bench = Bench::new(store, clock);
    let (mut claims, mut records) = (Vec::new(), Vec::new());
    for n in 0_u32.. {
        assert!(
            n < 10_000,
            "the store took {n} keys of 1 KiB, and is not full"
        );
        let (key, claim) = (fresh_key(), fresh_claim());
        match bench.store.begin(&key, &claim, LONG).await {
            Ok(Begin::Started) => {}
            Ok(found) => panic!("a key that nobody has used: {found:?} was answered"),
            Err(error) if error.kind() == StoreErrorKind::Full => break,
            Err(error) => panic!("begin in a store that may be full: {error}"),
        }
        let record = Record::new(claim.fingerprint(), StatusCode::OK, [], Some(&[7; 1024]));
        // In runs that grow, so that a store whose room comes in pages has whole ones back later.
        if (n + 1).ilog2() % 2 == 1 {
            claims.push((key, claim));
            continue;
        }
        match bench
            .store
            .complete(&key, claim.owner(), &record, LONG)
            .await
        {
            Ok(Ownership::Held) => records.push((key, record)),
            Ok(Ownership::Lost) => panic!("complete by the owner was lost"),
            Err(error) if error.kind() == StoreErrorKind::Full => claims.push((key, claim)),
            Err(error) => panic!("complete in a store that may be full: {error}"),
        }
    }
    for _ in 0..16 {
        let (key, claim) = (fresh_key(), fresh_claim());
        let record = Record::new(claim.fingerprint(), StatusCode::OK, [], Some(&[7; 4096]));
        let completed = bench.store.complete(&key, claim.owner(), &record, LONG);
        match completed.await {
            Ok(Ownership::Held) => records.push((key, record)),
            Ok(Ownership::Lost) => panic!("complete of an absent key was lost"),
            Err(error) if error.kind() == StoreErrorKind::Full => {}
            Err(error) => panic!("complete of an absent key in a full store: {error}"),
        }
    }
    for (key, record) in &records {
        match bench.begin(key, &fresh_claim(), LONG).await {
            Begin::Completed(found) => must_be_same(&found, record, "in a full store"),
            found => panic!("a record of a full store is gone: {found:?} was answered"),
        }
    }
    for (key, claim) in &claims {
        bench
            .must_be_in_progress(key, claim, "in a full store")
            .await;
        let renewed = bench.renew(key, claim.owner(), LONG).await;
        assert_eq!(renewed, Ownership::Held, "renew in a full store");
    }
    for (key, claim) in &claims {
        let released = bench.release(key, claim.owner()).await;
        assert_eq!(released, Ownership::Held, "release in a full store");
    }
    let (key, claim) = (fresh_key(), fresh_claim());
    bench
        .must_start(&key, &claim, "after claims of a full store were released")
        .await;
    bench
        .must_be_in_progress(&key, &claim, "after room was made")
        .await;
}
