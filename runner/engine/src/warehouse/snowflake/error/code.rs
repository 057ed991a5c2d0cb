//! What Snowflake's error codes mean: kind, word of the contract, help.
//!
//! The vendor keeps no list of them. A code stands here only where one of these says what it means:
//!
//! - Snowflake's documentation: key-pair-auth-troubleshooting (390144, 394300 to 394307), errors-saml (3901xx), hybrid tables (200001),
//!   behaviour changes (2037), data sharing (3540), functions (100038, 100069, 100100).
//! - Constants of Snowflake's own programs: `network.py` of the Python connector and `gs_errors.js` of the Node.js driver (390100, 390104,
//!   390110 to 390115, 390195, 390318, 390400), `Constants.java` of the JDBC driver (390111, 390303), `errno.py` of the command line (606,
//!   2003, 2043), the tests of the ODBC driver (394400).
//! - Messages as accounts gave them, quoted in the tests of the Terraform provider (630, 1008, 90064, 90105), of rudder-server (390102, 390201,
//!   390420, 390913, 3041, 3127, 90073, 91003), fakesnow (2002, 91016), dbt (904, 100035, 100078, 100090) and ibis (1007, 1038), and in public
//!   logs (603, 604, 608, 625, 2023, 2140, 2141, 3001, 3167, 100016, 100071, 100080, 370001, 390189, 390422).
//!
//! Every other code is told by its text, and where that says nothing either, it is `refused`.

use errand_model::failure::FailureKind::{self, Cancelled, Definition, Permanent, Timeout, Transient};

/// Kind, word and help line; no help where the message says it all.
type Meaning = (FailureKind, &'static str, &'static str);

const GRANT: &str = "grant the privilege to the role of the connection, or name another `role`";
const HIDDEN: &str = "check the name, and that the role may use its database and schema: Snowflake hides what a role may not see";
const NO_WAREHOUSE: &str = "name a `warehouse` that the role may use";
const RESUME: &str = "let it resume by itself with `ALTER WAREHOUSE ... SET AUTO_RESUME = TRUE`, or name another `warehouse`";
const QUOTA: &str = "a resource monitor stopped the warehouse: raise its quota, or name another `warehouse`";
const STAGE_RIGHTS: &str = "check the storage integration of the stage, and the rights of its AWS role on the bucket";
const STAGE_FILES: &str = "check the URL of the stage, and that the bucket and the file are there";
const LOGIN: &str = "check `user`, `role` and the secret of the credential";
const TRY_AGAIN: &str = "Snowflake had an error of its own: try again; if it stays, give the query id to its support";
const LOCKED: &str = "another transaction held the lock: let the steps run one after the other, or try again. One that a killed run left open is shown by \
     `SHOW TRANSACTIONS IN ACCOUNT` (the query tag of its session names the run), and `SELECT SYSTEM$ABORT_TRANSACTION(<id>)` ends it";

/// What a code means. Some codes say too little: then the text decides.
pub(super) fn meaning(code: &str, message: &str) -> Meaning {
    let number: u32 = code.parse().unwrap_or(0);
    match number {
        // Syntax error; invalid type and invalid value of a parameter.
        1003 | 1007 | 1008 => (Definition, "syntax", ""),
        904 => (Permanent, "missing_object", "check the name of the column; a name in quotes keeps its case"),
        // Object, operation on it, function, function of a user, object below a view.
        2003 | 2043 | 2140 | 2141 | 2037 => (Permanent, "missing_object", HIDDEN),
        90_105 => (Permanent, "missing_object", "the session has no database: check `database`, and that the role may use it"),
        // Insufficient privileges; a schema that exists and may not be seen; creating in a shared database.
        3001 | 3041 | 3540 => (Permanent, "permission", GRANT),
        // Location not allowed by the integration; error assuming the AWS role.
        3127 | 3167 => (Permanent, "permission", STAGE_RIGHTS),
        91_003 => stage(message),
        91_016 => (Permanent, "missing_object", STAGE_FILES),
        2002 => (Permanent, "exists_already", ""),
        100_072 => (Permanent, "constraint", ""),
        200_001 => (Permanent, "duplicate_key", ""),
        100_090 => (Permanent, "duplicate_key", "more than one row of the source matches one row of the target: make the key unique"),
        // Values that a type does not take: 16 a delimiter, 35 a timestamp, 38 a number, 69 JSON, 71 a variant, 78 a length, 80 columns.
        100_016 | 100_032..=100_071 | 100_073..=100_089 | 100_100 | 1038 | 2023 => (Permanent, "value", ""),
        606 => (Permanent, "suspended", NO_WAREHOUSE),
        608 => (Permanent, "suspended", RESUME),
        90_073 => (Permanent, "suspended", QUOTA),
        604 => (Cancelled, "cancelled", ""),
        603 | 370_001 => (Transient, "conflict", TRY_AGAIN),
        630 => (Timeout, "statement_timeout", "give the step more time with `timeout`, or the work a larger warehouse"),
        625 => (Transient, "lock_timeout", LOCKED),
        390_913 => (Permanent, "suspended", "the account is closed to work: add a way to pay, or use another `account`"),
        390_100..=390_999 | 394_300..=394_499 => (Permanent, "authentication", login_help(message)),
        _ => by_text(message),
    }
}

/// What to do about a login, or a session, that was refused with these words.
pub(super) fn login_help(message: &str) -> &'static str {
    let lower = message.to_lowercase();
    let has = |part: &str| lower.contains(part);
    match () {
        () if has("jwt") => {
            "check `account` and `user`, that the public key is set with `ALTER USER ... SET RSA_PUBLIC_KEY`, and the clock of this machine"
        }
        () if has("private key") => "check the key and its passphrase: a PKCS#8 file in PEM, encrypted with AES",
        () if has("network policy") || has("not allowed to access") => {
            "add the address of this machine to the network policy of the account or the user"
        }
        () if has("locked") => "wait until the lock ends, or ask an administrator to unlock the user",
        () if has("disabled") => "ask an administrator to enable the user, or log in as another one",
        () if has("role") => "grant the role to the user, or correct `role`",
        () if has("requested warehouse") => NO_WAREHOUSE,
        () if has("requested database") => "check `database`, and that the role may use it",
        () if has("requested schema") => "check `schema`, and that the role may use it",
        () if has("free trial") || has("decommission") || has("suspended") => "the account is closed: use another `account`, or reopen it",
        () if has("multi-factor") || has("mfa") => "a job cannot answer a second factor: log in with a key pair or an access token",
        () if has("expired") => "get a new token, and put it into the secret",
        () if has("token") => "put a token that is valid for this account into the secret",
        () => LOGIN,
    }
}

/// `Failure using stage area. Cause: [...]`: what the store behind the stage answered.
fn stage(message: &str) -> Meaning {
    let lower = message.to_lowercase();
    let has = |part: &str| lower.contains(part);
    match () {
        () if has("nosuchbucket") || has("nosuchkey") || has("status code: 404") => (Permanent, "missing_object", STAGE_FILES),
        () if has("slowdown") || has("status code: 503") || has("status code: 500") || has("timed out") => {
            (Transient, "unreachable", "the store behind the stage did not answer: try again")
        }
        () => (Permanent, "permission", STAGE_RIGHTS),
    }
}

fn by_text(message: &str) -> Meaning {
    let lower = message.to_lowercase();
    let has = |part: &str| lower.contains(part);
    match () {
        () if has("failure using stage area") => stage(message),
        () if has("access denied") || has("accessdenied") || has("failed to access remote file") || has("assuming aws_role") => {
            (Permanent, "permission", STAGE_RIGHTS)
        }
        () if has("remote file") && has("not found") => (Permanent, "missing_object", STAGE_FILES),
        () if has("resource monitor") => (Permanent, "suspended", QUOTA),
        () if has("no active warehouse") => (Permanent, "suspended", NO_WAREHOUSE),
        () if has("warehouse") && (has("suspended") || has("cannot be resumed")) => (Permanent, "suspended", RESUME),
        () if has("processing aborted due to error") => (Transient, "conflict", TRY_AGAIN),
        () if has("lock timeout") || has("acquire lock") || has("has locked") => (Transient, "lock_timeout", LOCKED),
        () if has("deadlock") || has("was aborted because") || has("transaction conflict") => {
            (Transient, "conflict", "another transaction changed the same at the same time; the next attempt may pass")
        }
        () if has("syntax error") => (Definition, "syntax", ""),
        () if has("insufficient privileges") || has("access control error") => (Permanent, "permission", GRANT),
        () if has("already exists") => (Permanent, "exists_already", ""),
        () if has("does not exist") || has("not authorized") => (Permanent, "missing_object", HIDDEN),
        () if has("non-nullable") || has("not null constraint") => (Permanent, "constraint", ""),
        () if has("duplicate row") || has("duplicate key") => (Permanent, "duplicate_key", ""),
        () if has("is not recognized") || has("out of representable range") || has("is too long") || has("failed to cast") => {
            (Permanent, "value", "")
        }
        () => (Permanent, "refused", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each with the words that accounts gave.
    const KNOWN: &[(&str, &str, FailureKind, &str)] = &[
        ("001003", "SQL compilation error:\nsyntax error line 1 at position 0 unexpected 'x'.", Definition, "syntax"),
        ("001008", "invalid value [90] for parameter 'DATA_RETENTION_TIME_IN_DAYS'", Definition, "syntax"),
        ("000904", "error line 1 at position 7 invalid identifier 'Y'", Permanent, "missing_object"),
        ("002003", "Object 'X' does not exist or not authorized.", Permanent, "missing_object"),
        ("002003", "Stage 'S' does not exist or not authorized.", Permanent, "missing_object"),
        ("002043", "Object does not exist, or operation cannot be performed.", Permanent, "missing_object"),
        ("002140", "Unknown function STR", Permanent, "missing_object"),
        ("002037", "Failure during expansion of view 'MYVIEW'", Permanent, "missing_object"),
        ("090105", "Cannot perform SELECT. This session does not have a current database.", Permanent, "missing_object"),
        ("091016", "Remote file '@s/x.parquet' was not found.", Permanent, "missing_object"),
        ("002002", "Object 'T' already exists.", Permanent, "exists_already"),
        ("", "column 'A' already exists", Permanent, "exists_already"),
        ("003001", "Insufficient privileges to operate on schema", Permanent, "permission"),
        ("003041", "Schema 'DBT' already exists, but current role has no privileges on it.", Permanent, "permission"),
        ("003127", "Location 's3://x/' is not allowed by integration I.", Permanent, "permission"),
        (
            "003167",
            "Error assuming AWS_ROLE: User: arn:aws:iam::1:user/x is not authorized to perform: sts:AssumeRole",
            Permanent,
            "permission",
        ),
        (
            "091003",
            "Failure using stage area. Cause: [Access Denied (Status Code: 403; Error Code: AccessDenied)]",
            Permanent,
            "permission",
        ),
        (
            "091003",
            "Failure using stage area. Cause: [Not Found (Status Code: 404; Error Code: NoSuchBucket)]",
            Permanent,
            "missing_object",
        ),
        ("091003", "Failure using stage area. Cause: [Slow Down (Status Code: 503; Error Code: SlowDown)]", Transient, "unreachable"),
        ("", "Failed to access remote file: access denied. Please check your credentials", Permanent, "permission"),
        ("100035", "Timestamp '2024-12-03 UTC' is not recognized", Permanent, "value"),
        ("100038", "Numeric value 'a' is not recognized", Permanent, "value"),
        ("100071", "Failed to cast variant value not-a-number to FIXED(10,0)", Permanent, "value"),
        ("100078", "String 'aa' is too long and would be truncated", Permanent, "value"),
        ("100080", "Number of columns in file (102) does not match that of the corresponding table (104)", Permanent, "value"),
        ("100072", "NULL result in a non-nullable column", Permanent, "constraint"),
        ("100090", "Duplicate row detected during DML action", Permanent, "duplicate_key"),
        ("200001", "A primary key already exists.", Permanent, "duplicate_key"),
        ("000606", "No active warehouse selected in the current session.", Permanent, "suspended"),
        ("000608", "Warehouse 'COMPUTE_WH' is suspended.", Permanent, "suspended"),
        ("090073", "Warehouse 'W' cannot be resumed because resource monitor 'R' has exceeded its quota.", Permanent, "suspended"),
        ("390913", "Your free trial has ended and all of your virtual warehouses have been suspended.", Permanent, "suspended"),
        ("000604", "SQL execution canceled", Cancelled, "cancelled"),
        ("000630", "Statement reached its statement or warehouse timeout of 30 second(s) and was canceled.", Timeout, "statement_timeout"),
        (
            "000625",
            "statement aborted because the number of waiters for this lock exceeds the 20 statements limit.",
            Transient,
            "lock_timeout",
        ),
        ("000603", "SQL execution internal error: Processing aborted due to error 300010:1", Transient, "conflict"),
        ("370001", "Internal error: Processing aborted due to error 300016:1", Transient, "conflict"),
        ("999999", "Your statement was aborted because of a deadlock", Transient, "conflict"),
        ("390144", "JWT token is invalid. [0ce9eb56-821d-4ca9-a774-04ae89a0cf5a]", Permanent, "authentication"),
        ("390303", "Invalid OAuth access token.", Permanent, "authentication"),
        ("", "something else", Permanent, "refused"),
    ];

    #[test]
    fn codes_become_the_words_of_the_contract() {
        for &(code, message, kind, word) in KNOWN {
            assert_eq!((meaning(code, message).0, meaning(code, message).1), (kind, word), "{code} {message}");
        }
    }

    /// Codes that look like others of their range: an invalid state of a warehouse, a service that an external function calls, JavaScript.
    #[test]
    fn codes_that_only_look_like_others_are_refusals() {
        for (code, message) in [
            ("090064", "Invalid state. Warehouse 'W' cannot be suspended twice"),
            ("100351", "Request failed for external function COMPLETE$V2 with remote service error: 400"),
            ("100132", "JavaScript execution error: Uncaught Execution of multiple statements failed"),
            ("100357", "Python Interpreter Error"),
        ] {
            assert_ne!(meaning(code, message).1, "cancelled", "{code}");
            assert_eq!(meaning(code, message).0, Permanent, "{code}");
        }
    }

    #[test]
    fn a_refused_login_says_what_to_do() {
        for (message, help) in [
            ("JWT token is invalid. [0ce9eb56-821d-4ca9-a774-04ae89a0cf5a]", "RSA_PUBLIC_KEY"),
            ("Incoming request with IP/Token 192.0.2.1 is not allowed to access Snowflake.", "network policy"),
            ("User temporarily locked. Try again later, or contact your local system administrator.", "unlock"),
            ("User access disabled. Contact your local system administrator.", "enable"),
            ("Role 'PRIVATE' specified in the connect string does not exist or not authorized.", "`role`"),
            ("The requested warehouse does not exist or not authorized.", "`warehouse`"),
            ("The requested database does not exist or not authorized.", "`database`"),
            ("OAuth access token expired.", "new token"),
            ("Programmatic access token is invalid.", "token"),
            ("Your free trial has ended and all of your virtual warehouses have been suspended.", "account"),
            ("Incorrect username or password was specified.", "`user`"),
        ] {
            assert!(login_help(message).contains(help), "{message}: {}", login_help(message));
        }
    }
}
