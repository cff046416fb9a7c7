//! The list of the cases, and the macro that turns them into tests.

/// Expands to one named `#[tokio::test]` for each case of a
/// [`TransactionalStore`](crate::store::TransactionalStore) of the
/// [conformance kit](crate::store::conformance).
///
/// They come on top of those of [`conformance_tests!`](crate::conformance_tests), which each store must
/// pass.
///
/// # Arguments
///
/// In this order, each once:
///
/// - `clock`: as for `conformance_tests!`.
/// - `database`: an expression for the
///   [`Database`](crate::store::conformance::Database) that the store is in. Each test evaluates it in
///   an async function, so it may await.
///
/// # Examples
///
/// The implementation of `Database` is left out; [there](crate::store::conformance::Database) is one.
///
/// ```ignore
/// mod my_store {
///     tower_idempotency::transactional_conformance_tests! {
///         clock: real,
///         database: MyDatabase::connect("127.0.0.1:4711").await,
///     }
/// }
/// ```
#[macro_export]
macro_rules! transactional_conformance_tests {
    (@list $then:tt $($with:tt)*) => {
        $crate::conformance_tests! { @$then $($with)*
            timed: [
                a_record_is_kept_once_its_transaction_is_committed
                a_record_of_a_transaction_rolled_back_is_not_kept
                a_record_is_invisible_until_its_commit
                a_claim_that_never_arrived_is_made_and_completed_in_one
                a_late_record_is_kept_in_a_transaction
                a_record_at_the_limit_is_kept_in_a_transaction
                a_claim_that_need_not_be_durable_is_a_claim
                the_claim_of_another_is_not_completed_in_a_transaction
                a_record_is_not_replaced_in_a_transaction
                a_record_of_this_very_transaction_is_not_replaced
                what_came_since_the_transaction_began_is_not_replaced
                a_lease_that_ends_during_the_transaction_has_ended
                a_ttl_runs_from_the_call_in_a_transaction
                a_release_waits_for_the_transaction
                a_renewal_waits_for_the_transaction
                a_completion_waits_for_the_transaction
                a_claim_waits_for_a_record_that_is_not_committed
                of_two_transactions_on_one_key_at_most_one_is_committed
            ]
            raced: [
                of_many_transactions_on_one_key_exactly_one_is_committed
                a_late_transaction_and_a_claim_exclude_each_other
            ]
        }
    };
    (clock: paused, database: $database:expr $(,)?) => {
        $crate::transactional_conformance_tests! {
            @list tests (start_paused = true) ($crate::store::conformance::Clock::paused()) ($database)
        }
    };
    (clock: real, database: $database:expr $(,)?) => {
        $crate::transactional_conformance_tests! {
            clock: $crate::store::conformance::Clock::real(), database: $database
        }
    };
    (clock: $clock:expr, database: $database:expr $(,)?) => {
        $crate::transactional_conformance_tests! {
            @list tests (flavor = "multi_thread", worker_threads = 2) ($clock) ($database)
        }
    };
}
