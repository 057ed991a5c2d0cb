//! Who holds a lock that was waited for in vain. A runner that was killed leaves its transaction open, and with it what it had locked, until the
//! server or somebody else undoes it.

use errand_model::failure::Failure;
use serde_json::Value;

/// A transaction that keeps others waiting, as a refusal names it.
pub(super) struct Holder {
    statement: String,
    transaction: String,
}

impl Holder {
    /// `Statement '<id>' has locked table '<name>' in transaction <id> ...`; none when the failure is another one, or does not say.
    pub(super) fn of(failure: &Failure) -> Option<Self> {
        if failure.code != "warehouse::lock_timeout" {
            return None;
        }
        let (statement, rest) = failure.message.split_once("Statement '")?.1.split_once("' has locked ")?;
        let (_, rest) = rest.split_once(" in transaction ")?;
        let transaction = &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())];
        let is_plain = !statement.is_empty() && statement.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        (is_plain && !transaction.is_empty()).then(|| Self { statement: statement.to_owned(), transaction: transaction.to_owned() })
    }

    /// Id of the statement that took the lock.
    pub(super) fn statement(&self) -> &str {
        &self.statement
    }

    /// What to do; `tag` is the query tag of that statement, where the records told it.
    ///
    /// That Snowflake ends an abandoned transaction is said in <https://docs.snowflake.com/en/sql-reference/transactions#aborting-transactions>.
    pub(super) fn help(&self, tag: Option<&str>) -> String {
        let Self { statement, transaction } = self;
        let whose = tag
            .and_then(run_of)
            .unwrap_or_else(|| format!("see `SHOW TRANSACTIONS IN ACCOUNT` and the query tag of statement `{statement}` for whose it is"));
        format!(
            "transaction {transaction} holds the lock: {whose}. While it is at work, let the steps run one after the other, or try again. Where it is \
             gone, `SELECT SYSTEM$ABORT_TRANSACTION({transaction})` ends it; Snowflake does so by itself when it has been idle for five minutes"
        )
    }
}

/// The run that a tag of Errand's names.
fn run_of(tag: &str) -> Option<String> {
    let tag: Value = serde_json::from_str(tag).ok()?;
    let said = |key: &str| tag["errand"][key].as_str().filter(|text| !text.is_empty());
    let (run, job) = (said("run")?, said("job").unwrap_or_default());
    let step = said("step").map(|step| format!(", step `{step}`")).unwrap_or_default();
    Some(format!("it is that of run `{run}` of job `{job}`{step}"))
}

#[cfg(test)]
mod tests {
    use errand_model::failure::{Failure, FailureKind};

    use super::Holder;

    const REFUSAL: &str = "000625: Statement '01bb1644-0513-b332' has locked table 'T' in transaction 1742288905053000000 and this lock has not yet \
                           been released. Your statement '01bb1644-0000' was aborted because of a lock timeout. (query 01bb1644-0000)";

    fn holder(code: &str, message: &str) -> Option<Holder> {
        Holder::of(&Failure::new(FailureKind::Transient, code, message))
    }

    #[test]
    fn the_transaction_is_named_with_the_run_that_opened_it() {
        let holder = holder("warehouse::lock_timeout", REFUSAL).expect("it says who");
        assert_eq!(holder.statement(), "01bb1644-0513-b332");
        let tag = r#"{"errand":{"run":"r1","job":"sales","step":"load","attempt":2}}"#;
        assert_eq!(
            holder.help(Some(tag)),
            "transaction 1742288905053000000 holds the lock: it is that of run `r1` of job `sales`, step `load`. While it is at work, let the steps run \
             one after the other, or try again. Where it is gone, `SELECT SYSTEM$ABORT_TRANSACTION(1742288905053000000)` ends it; Snowflake does so by \
             itself when it has been idle for five minutes"
        );
        for unknown in [None, Some("nightly"), Some("{}")] {
            let help = holder.help(unknown);
            assert!(help.contains("SHOW TRANSACTIONS") && help.contains("statement `01bb1644-0513-b332`"), "{help}");
        }
    }

    #[test]
    fn nobody_is_blamed_by_words_that_name_nobody() {
        for (code, message) in [
            ("warehouse::conflict", REFUSAL),
            ("warehouse::lock_timeout", "000625: the number of waiters for this lock exceeds the 20 statements limit."),
            ("warehouse::lock_timeout", "000625: Statement has locked table 'T' in another transaction"),
            ("warehouse::lock_timeout", "Statement 'x' OR 1=1' has locked table 'T' in transaction 7"),
        ] {
            assert!(holder(code, message).is_none(), "{message}");
        }
    }
}
