//! The contract of warehouses: one function for each behaviour, one test for each behaviour and warehouse.
//!
//! A behaviour takes a [`site::Site`], which is a warehouse with a database of its own. Which servers are asked is told by the environment
//! alone (`tests/README.md`): the services of this machine, or an account. The module `redshift` needs a cluster, which no machine of tests has:
//! the profile `redshift` of nextest chooses it, and the others leave it out.
#![allow(clippy::panic, reason = "a helper that cannot do its work fails the test that asked for it")]
#![allow(clippy::future_not_send, reason = "each test runs its one future where it is")]

mod cluster;
mod connection;
mod export;
mod in_place;
mod load;
mod publish;
mod race;
mod session;
mod site;
mod snowflake_lost;
mod snowflake_protocol;
mod snowflake_step;
mod snowflake_unload;
mod values;

/// One test for each behaviour named, in a module of the warehouse's name.
macro_rules! contract {
    ($warehouse:ident: $($group:ident { $($behaviour:ident)+ })+) => {
        mod $warehouse {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    let site = crate::site::Site::$warehouse();
                    crate::$group::$behaviour(&site).await;
                }
            )+)+
        }
    };
}

/// The behaviours of every warehouse, and beside them those of this one.
macro_rules! whole_contract {
    ($warehouse:ident: $($group:ident { $($behaviour:ident)+ })+) => {
        contract! { $warehouse:
            session {
                connects_and_says_its_version
                counts_the_rows_that_a_statement_changes
                says_where_syntax_is_wrong
                says_that_an_object_is_missing
                says_that_an_object_is_there_already
                says_that_a_constraint_is_broken
                says_that_a_value_does_not_fit
                a_transaction_that_was_overtaken_loses_no_update
                a_rollback_undoes_what_was_written
                a_transaction_is_not_seen_before_its_commit
                definitions_belong_to_transactions_as_its_capabilities_say
                a_session_that_is_dropped_leaves_nothing
                texts_survive_as_literals
                a_query_gives_no_more_rows_than_asked_for
                names_with_quotes_case_and_reserved_words_are_kept
                sessions_work_side_by_side
                a_long_statement_ends_within_seconds_of_its_cancellation
                a_statement_past_its_time_ends
            }
            values {
                every_type_goes_there_and_back
                decimals_of_38_digits_go_there_and_back
                extreme_moments_go_there_and_back
                an_empty_text_is_not_null
                no_rows_go_there_and_back
                many_rows_go_there_and_back
                rows_go_to_two_tables
                rows_go_to_names_with_quotes_case_and_reserved_words
                rows_that_are_undone_are_gone
                rows_that_fail_on_the_way_are_not_there
            }
            load {
                append_is_idempotent_for_one_load_id
                replace_is_idempotent_for_one_load_id
                merge_is_idempotent_for_one_load_id
                delete_insert_is_idempotent_for_one_load_id
                scd2_is_idempotent_for_one_load_id
                rows_with_one_key_are_deduplicated_by_the_cursor
                merge_leaves_out_rows_that_are_older_by_the_cursor
                scd2_leaves_out_versions_that_are_older_by_the_cursor
                a_key_that_is_null_is_a_key
                evolve_adds_a_column
                freeze_refuses_a_column
                quarantine_keeps_rows_apart
                discard_row_leaves_rows_out
                discard_value_leaves_a_column_out
                refused_rows_are_kept_with_their_place
                refused_rows_of_a_failed_load_are_kept
                a_failing_check_leaves_neither_data_nor_ledger
                statements_commit_with_the_ledger_or_not_at_all
                a_failure_in_sql_names_file_and_line
                a_table_is_materialized_from_a_select
                rows_are_exported
                freshness_compares_instants
            }
            export { a_query_that_writes_is_not_exported }
            race {
                of_two_writers_of_one_load_one_writes
                the_slower_of_two_runners_is_fenced
                loads_at_two_commits_keep_each_other_out
                a_file_is_appended_by_one_of_two_loads
                attempts_of_one_run_are_two_writers
                steps_run_side_by_side
            }
            $($group { $($behaviour)+ })+
        }
    };
}

whole_contract! { duckdb:
    session { says_that_a_key_is_there_already }
    export { numbers_are_exported_as_they_are }
    race { two_runs_of_one_interval_load_once }
}

whole_contract! { postgres:
    session {
        says_that_a_key_is_there_already
        says_that_a_right_is_missing
        a_lock_that_stays_taken_times_out
        the_schema_of_the_connection_is_made
    }
    export { numbers_are_exported_as_they_are }
    race {
        two_runs_of_one_interval_load_once
        a_run_waits_for_the_one_that_holds_the_interval
        keys_of_two_loads_at_once_are_there_once
        two_first_loads_into_one_table_lose_nothing
        two_loads_that_add_one_column_lose_nothing
        of_two_commits_one_appends_an_interval
    }
    publish {
        replace_keeps_views_and_grants
        a_killed_run_leaves_nothing_behind
    }
}

whole_contract! { snowflake:
    session { a_lock_that_stays_taken_times_out }
    race { two_runs_of_one_interval_load_once }
}

// Files lie in a bucket that tests write to as they please, which no account has.
contract! { stand_in:
    in_place {
        text_is_loaded_in_place
        parquet_is_loaded_in_place
        parquet_of_other_types_is_parsed
        files_with_other_headers_and_gzip_are_loaded_in_place
        a_bad_number_of_fields_names_file_and_row
        too_few_fields_and_returns_within_lines_are_parsed
        text_elsewhere_goes_as_parts
        the_same_rows_come_on_every_way
        what_snowflake_reads_otherwise_is_parsed
        a_file_in_place_is_loaded_once
        a_file_that_changes_meanwhile_fails_the_step
        without_rights_on_the_files_they_are_carried
    }
}

// Keys are not enforced, and no setting bounds the wait for a lock: the step's own time does.
whole_contract! { redshift:
    race { two_runs_of_one_interval_load_once }
}
