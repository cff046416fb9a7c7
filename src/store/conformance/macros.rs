//! The list of the cases, and the macro that turns them into tests.

/// Expands to one named `#[tokio::test]` for each case of the
/// [conformance kit](crate::store::conformance).
///
/// # Arguments
///
/// In this order, each once:
///
/// - `clock`: `paused` for a store in memory whose time is tokio's; `real` for every other store,
///   such as a server; or an expression for a real [`Clock`](crate::store::conformance::Clock) with
///   other settings.
/// - `store`: an expression for the store. Each test evaluates it in an async function, so it may
///   await.
/// - `room` (optional): an async closure that counts the keys that take room in the store. It adds
///   the case that their room is given back.
/// - `bounded` (optional): an expression for a store that is full after at most 10,000 keys of
///   1 KiB. It adds the case that a full store keeps what it has.
///
/// The calling crate needs `tokio` with the features `macros` and `rt-multi-thread`, and
/// `test-util` for `clock: paused`. Put each call into a module of its own, since the names of the
/// tests are the same for each store.
///
/// # Examples
///
/// ```no_run
/// # fn main() {}
/// # #[cfg(feature = "memory")]
/// mod my_store {
///     use tower_idempotency::MemoryStore as MyStore;
///     # trait Connect { async fn connect(_: &str) -> MyStore { MyStore::new() } }
///     # impl Connect for MyStore {}
///
///     tower_idempotency::conformance_tests! {
///         clock: real,
///         store: MyStore::connect("127.0.0.1:4711").await,
///     }
/// }
/// ```
#[macro_export]
macro_rules! conformance_tests {
    // The one list of the cases. Those that race are run on several threads and in real time.
    (@list $then:tt $($with:tt)*) => {
        $crate::conformance_tests! { @$then $($with)*
            timed: [
                a_claim_of_an_absent_key_starts
                a_claim_of_a_key_in_progress_reports_that
                a_claim_of_a_completed_key_gets_its_record
                a_claim_after_the_lease_ended_starts
                a_claim_after_the_ttl_ended_starts
                complete_by_the_owner_keeps_the_record
                renew_by_the_owner_prolongs_the_lease
                release_by_the_owner_frees_the_key
                a_completed_key_is_not_held_by_its_owner
                a_released_key_is_not_held_by_its_owner
                complete_of_an_absent_key_keeps_the_record
                complete_after_the_lease_ended_keeps_the_record
                complete_after_the_lease_of_another_ended_keeps_the_record
                complete_after_the_ttl_ended_keeps_the_record
                complete_of_a_released_key_keeps_the_record
                a_late_record_ends_when_asked_for
                an_absent_key_is_held_by_nobody
                a_stranger_does_not_hold_a_key_in_progress
                a_stranger_does_not_prolong_a_lease
                a_stranger_does_not_hold_a_completed_key
                an_owner_does_not_hold_a_lease_that_ended
                an_owner_does_not_hold_the_claim_that_followed
                an_owner_that_released_does_not_hold_the_claim_that_followed
                a_lease_ends_when_asked_for
                a_renewed_lease_ends_when_asked_for
                a_ttl_ends_when_asked_for
                a_ttl_is_not_prolonged_by_renew
                a_record_outlives_the_lease
                each_key_ends_by_itself
                a_body_comes_back_byte_for_byte
                header_fields_come_back_in_order
                every_status_comes_back
                a_fingerprint_comes_back_as_given
                extreme_terms_and_tokens_are_taken
                keys_that_differ_in_one_bit_are_apart
                a_release_leaves_other_keys_alone
                a_claim_given_up_is_made_or_not
                a_completion_given_up_is_made_or_not
                a_renewal_given_up_leaves_the_claim
                a_release_given_up_is_made_or_not
            ]
            raced: [
                exactly_one_of_64_concurrent_claims_starts
                exactly_one_concurrent_claim_starts_after_a_lease
                exactly_one_concurrent_claim_starts_after_a_ttl
                exactly_one_concurrent_ending_is_taken
                a_late_completion_and_a_claim_exclude_each_other
                a_completion_without_a_claim_and_a_claim_exclude_each_other
            ]
        }
    };
    (@table timed: [$($timed:ident)*] raced: [$($raced:ident)*]) => {
        vec![
            $($crate::conformance_tests! { @row $timed },)*
            $($crate::conformance_tests! { @row $raced },)*
        ]
    };
    (@row $case:ident) => {
        Case {
            name: stringify!($case),
            run: |store, clock| Box::pin($case(store, clock)),
        }
    };
    (@tests $runtime:tt $clock:tt $store:tt timed: [$($timed:ident)*] raced: [$($raced:ident)*]) => {
        $($crate::conformance_tests! { @test $timed $runtime $clock $store })*
        $($crate::conformance_tests! {
            @test $raced (flavor = "multi_thread", worker_threads = 4) $clock $store
        })*
    };
    (@test $case:ident ($($runtime:tt)*) ($clock:expr) ($store:expr) $($more:tt)*) => {
        #[tokio::test($($runtime)*)]
        async fn $case() {
            $crate::store::conformance::$case($store, $clock $($more)*).await;
        }
    };
    (@all $runtime:tt $clock:tt $store:tt $(room: $room:expr)?; $(bounded: $bounded:expr)?) => {
        $crate::conformance_tests! { @list tests $runtime $clock $store }
        $($crate::conformance_tests! {
            @test the_room_of_what_ended_is_given_back $runtime $clock $store, $room
        })?
        $($crate::conformance_tests! {
            @test a_full_store_keeps_what_it_has $runtime $clock ($bounded)
        })?
    };
    (
        clock: paused,
        store: $store:expr
        $(, room: $room:expr)?
        $(, bounded: $bounded:expr)?
        $(,)?
    ) => {
        $crate::conformance_tests! {
            @all (start_paused = true) ($crate::store::conformance::Clock::paused()) ($store)
            $(room: $room)?; $(bounded: $bounded)?
        }
    };
    (clock: real, $($more:tt)*) => {
        $crate::conformance_tests! {
            clock: $crate::store::conformance::Clock::real(), $($more)*
        }
    };
    (
        clock: $clock:expr,
        store: $store:expr
        $(, room: $room:expr)?
        $(, bounded: $bounded:expr)?
        $(,)?
    ) => {
        $crate::conformance_tests! {
            @all (flavor = "multi_thread", worker_threads = 2) ($clock) ($store)
            $(room: $room)?; $(bounded: $bounded)?
        }
    };
}
