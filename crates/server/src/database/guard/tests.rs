use proptest::prelude::*;
use runstone_record::ErrorCode;

use super::*;

fn read_only(sql: &str) -> Result<Checked, DatabaseError> {
    check(sql, Access::ReadOnly)
}

fn why(sql: &str, access: Access) -> String {
    let error = check(sql, access).err().unwrap_or_else(|| panic!("{sql} is allowed"));
    assert_eq!(error.code(), ErrorCode::InvalidQuery);
    error.to_string()
}

#[test]
fn queries_are_written_anew() {
    for (sql, text) in [
        ("select 1", "SELECT 1"),
        ("SELECT /* a /* b */ c */ 1 -- d\n;", "SELECT 1"),
        ("VALUES (1, 'a')", "VALUES (1, 'a')"),
        ("SELECT 'it''s', 'C:\\t', E'\\'' FROM \"T\" WHERE a ~ '\\d+'", ""),
        ("(SELECT 1) UNION ALL (SELECT 2) ORDER BY 1 LIMIT 3", ""),
        ("WITH RECURSIVE r (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT n FROM r", ""),
        ("SELECT a::TEXT, d ->> 'x', d ? 'a', now() AT TIME ZONE 'UTC', -(-1) FROM t TABLESAMPLE SYSTEM (1)", ""),
    ] {
        let Form::Rows(source) = read_only(sql).unwrap().form else { panic!("{sql} gives rows") };
        assert_eq!(source.text(), if text.is_empty() { sql } else { text });
    }
    assert_eq!(
        read_only("EXPLAIN (ANALYZE) SELECT 1").unwrap().form,
        Form::Plan("EXPLAIN (ANALYZE) SELECT 1".to_owned())
    );
}

#[test]
fn what_is_not_one_reading_statement_is_refused() {
    for (sql, words) in [
        ("", "exactly one"),
        (";", "exactly one"),
        ("-- nothing", "exactly one"),
        ("SELECT 1; SELECT 2", "exactly one"),
        ("SELECT 1; COMMIT; DROP TABLE t", "exactly one"),
        ("COMMIT", "COMMIT is not allowed"),
        ("ROLLBACK AND CHAIN", "ROLLBACK"),
        ("SET TRANSACTION READ WRITE", "SET TRANSACTION is not allowed"),
        ("SET statement_timeout = 0", "SET statement_timeout is not allowed"),
        ("RESET ALL", "RESET ALL is not allowed"),
        ("DELETE FROM t", "DELETE FROM is not allowed"),
        ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", "DELETE FROM is not allowed"),
        ("WITH x AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM x", "INSERT INTO is not allowed"),
        ("SELECT * FROM (SELECT 1) q, LATERAL (SELECT * INTO u FROM t) r", "SELECT INTO is not allowed"),
        ("SELECT * INTO u FROM t", "SELECT INTO is not allowed"),
        ("SELECT * FROM t FOR UPDATE", "FOR UPDATE or SHARE is not allowed"),
        ("SELECT * FROM (SELECT * FROM t FOR SHARE) q", "FOR UPDATE or SHARE is not allowed"),
        ("CREATE TABLE u AS SELECT 1", "CREATE TABLE is not allowed"),
        ("EXPLAIN ANALYZE DELETE FROM t", "DELETE FROM is not allowed"),
        ("EXPLAIN EXPLAIN SELECT 1", "root of the plan"),
        ("DO 'BEGIN END'", "read it"),
        ("COPY t TO PROGRAM 'id'", "COPY t is not allowed"),
        ("CALL p()", "CALL p() is not allowed"),
        ("LISTEN x", "LISTEN x is not allowed"),
        ("NOTIFY x", "NOTIFY x is not allowed"),
        ("PREPARE p AS SELECT 1", "PREPARE p is not allowed"),
        ("EXECUTE p", "EXECUTE p is not allowed"),
        ("DECLARE c CURSOR FOR SELECT 1", "DECLARE c is not allowed"),
        ("LOCK TABLE t", "not allowed"),
        ("VACUUM", "not allowed"),
        ("SELECT $1", "no parameters"),
        ("SELECT $$a$$", "apostrophes"),
        ("SELECT $a$ x $a$", "apostrophes"),
        ("SELECT '\0'", "NUL"),
    ] {
        let said = why(sql, Access::ReadOnly);
        assert!(said.contains(words), "{sql}: {said}");
    }
}

#[test]
fn what_may_be_read_in_two_ways_is_refused() {
    for sql in ["SELECT N'x'' OR evil()--'", "SELECT 'a\\'' OR evil() --'", "SELECT - -1"] {
        assert!(why(sql, Access::ReadOnly).contains("two ways"), "{sql}");
    }
}

#[test]
fn what_is_too_long_or_too_deep_is_refused_and_overflows_nothing() {
    let cases = [
        format!("SELECT '{}'", "x".repeat(SQL_BYTES_MAX)),
        format!("SELECT {}1{}", "(".repeat(1_000), ")".repeat(1_000)),
        format!("SELECT {}", ["1"; 10_000].join("+")),
        ["SELECT 1"; 1_600].join(" UNION ALL "),
        format!("SELECT {}1", "- ".repeat(10_000)),
        format!("{}SELECT 1", "EXPLAIN ".repeat(4_000)),
        format!("SELECT a{}", ".a".repeat(10_000)),
        format!("SELECT 1{}", "::int".repeat(6_000)),
        "WITH a AS (".repeat(2_900),
        format!("SELECT \"{}\"", "n".repeat(64)),
    ];
    for sql in cases {
        let checked = std::thread::Builder::new()
            .stack_size(runstone_record::limits::GATEWAY_PARSE_STACK_BYTES)
            .spawn(move || check(&sql, Access::ReadWrite).err().map(|error| error.code()))
            .unwrap()
            .join();
        assert_eq!(checked.unwrap(), Some(ErrorCode::InvalidQuery));
    }
}

#[test]
fn names_of_functions_are_found_wherever_they_stand() {
    for sql in [
        "SELECT evil()",
        "SELECT \"evil\" ( )",
        "SELECT EVIL(1) OVER ()",
        "SELECT pg_catalog.evil()",
        "SELECT * FROM evil() AS t",
        "SELECT * FROM a, LATERAL evil(a.x)",
        "SELECT 1 ORDER BY evil()",
        "SELECT 1 LIMIT evil()",
        "VALUES (evil())",
        "SELECT 1 FROM a JOIN b ON evil() WHERE true",
        "SELECT count(*) FILTER (WHERE evil()) FROM a",
        "WITH x AS (SELECT evil()) SELECT 1",
        "SELECT CASE WHEN evil() THEN 1 END",
        "EXPLAIN ANALYZE SELECT evil()",
        "SELECT sum(1) OVER (ORDER BY evil())",
    ] {
        let checked = read_only(sql).unwrap();
        assert!(checked.calls.contains("evil"), "{sql}: {checked:?}");
    }
    let fields = |sql: &str| read_only(sql).unwrap().fields.into_iter().collect::<Vec<_>>();
    assert_eq!(fields("SELECT f.Evil, \"F\".\"Evil\" FROM unnest(ARRAY['x']) AS f"), ["Evil", "evil"]);
    assert_eq!(fields("SELECT ('x'::text).evil"), ["evil"]);
    assert_eq!(fields("SELECT (f).evil FROM unnest(ARRAY['x']) AS f"), ["evil"]);
}

#[test]
fn to_write_is_allowed_where_it_is_asked_for_and_not_to_leave_the_transaction() {
    let form = |sql: &str| check(sql, Access::ReadWrite).unwrap().form;
    for sql in [
        "INSERT INTO t (a) VALUES (1)",
        "UPDATE t SET a = 1",
        "DELETE FROM t",
        "TRUNCATE t",
        "CREATE TABLE u AS SELECT 1",
        "DROP TABLE u",
        "WITH y AS (SELECT 1 AS a) INSERT INTO t (a) SELECT a FROM y",
        "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE",
    ] {
        assert!(matches!(form(sql), Form::Change(_)), "{sql}");
    }
    for sql in [
        "INSERT INTO t (a) VALUES (1) RETURNING *",
        "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x",
        "WITH y AS (SELECT 1 AS a) INSERT INTO t (a) SELECT a FROM y RETURNING a",
        "SELECT * FROM t FOR UPDATE",
    ] {
        assert!(matches!(form(sql), Form::Rows(_)), "{sql}");
    }
    for sql in ["COMMIT", "DROP DATABASE d", "COPY t FROM PROGRAM 'id'", "CALL p()", "SELECT 1 INTO u", "SET x = 1"] {
        why(sql, Access::ReadWrite);
    }
}

proptest! {
    #[test]
    fn nothing_panics_and_what_is_allowed_is_read_as_the_same_again(
        words in prop::collection::vec(prop::sample::select(vec![
            "SELECT", "a", "\"b\"", "FROM", "t", "(", ")", ",", "'x'", "''", "'", "\\", "E'\\''", "$$", "--", "/*", "*/", "*",
            "1", "WITH", "AS", "UNION", "WHERE", ".", "::", "U&", "N'", "-", "::text", ";", "evil", "\n", "VALUES", "EXPLAIN",
        ]), 0..16),
        blanks in any::<bool>(),
    ) {
        let sql = words.join(if blanks { " " } else { "" });
        if let Ok(Checked { form: Form::Rows(source), calls, fields }) = read_only(&sql) {
            let again = read_only(&source.text()).unwrap();
            prop_assert_eq!(again, Checked { form: Form::Rows(source), calls, fields });
        }
    }
}
