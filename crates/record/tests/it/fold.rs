//! The state of a run: the same for its records in every order, split and merged in every way; and what it is.

use proptest::prelude::*;
use runstone_record::run::{self, RunFold, RunState};
use runstone_record::{Batch, Column, IdMint};

use crate::{batch_of, random};

/// Records of a run as one batch, and the position of each.
#[derive(Debug, Clone)]
struct Run {
    batch: Batch,
    positions: Vec<u64>,
}

impl Run {
    fn fold(&self, rows: &[usize]) -> RunFold {
        let mut fold = RunFold::default();
        rows.iter().for_each(|row| fold.add(&self.batch, *row, self.positions[*row]));
        fold
    }
}

fn member<T: std::fmt::Display>(name: &'static str, value: impl Strategy<Value = T>) -> impl Strategy<Value = String> {
    prop::option::of(value).prop_map(move |value| value.map_or(String::new(), |value| format!(r#","{name}":{value}"#)))
}

fn record() -> impl Strategy<Value = String> {
    let words = |words: &[&'static str]| prop::sample::select(words.to_vec());
    (
        words(&["00", "01", "02"]),
        member(
            "type",
            words(&["\"start\"", "\"end\"", "\"success\"", "\"error\"", "\"activity\"", "\"log\"", "\"warning\""]),
        ),
        member("status", words(&["\"Success\"", "\"Failed\"", "\"timed out\"", "\"odd\""])),
        member("level", words(&["10", "30", "40", "50"])),
        member("row_count", prop_oneof![0_i64..3, Just(i64::MAX), Just(i64::MAX / 2)]),
        member("source_system", words(&["\"a\"", "\"b\""])),
        member("stage", words(&["\"c\"", "\"d\""])),
        member("title", words(&["\"e\"", "\"f\""])),
        member("message", words(&["\"g\"", "\"h\"", "\"\""])),
        member("duration", words(&["0.5", "1.5", "1e300"])),
    )
        .prop_map(|(second, a, b, c, d, e, f, g, h, i)| {
            format!(r#"{{"timestamp":"2025-01-01T00:00:{second}Z"{a}{b}{c}{d}{e}{f}{g}{h}{i}}}"#)
        })
}

/// A run of some records whose ids are in no order of time.
fn runs(records: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Run> {
    let ids = Just((0..16_u32).collect::<Vec<_>>()).prop_shuffle();
    (prop::collection::vec((record(), any::<u64>()), records), ids).prop_map(|(records, ids)| {
        let lines: Vec<String> = records
            .iter()
            .zip(ids)
            .map(|((record, _), id)| format!(r#"{{"id":"01890000-0000-7000-8000-{id:012x}",{}"#, &record[1..]))
            .collect();
        let positions = records.iter().map(|(_, position)| *position).collect();
        Run { batch: batch_of(&lines.join("\n")), positions }
    })
}

/// Every order of the numbers below `len`.
fn permutations(len: usize) -> Vec<Vec<usize>> {
    if len == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(len - 1);
    let insert = |order: &Vec<usize>, at: usize| [&order[..at], &[len - 1], &order[at..]].concat();
    shorter.iter().flat_map(|order| (0..len).map(|at| insert(order, at)).collect::<Vec<_>>()).collect()
}

fn same(one: &RunFold, other: &RunFold) -> Result<(), TestCaseError> {
    prop_assert_eq!(one, other);
    prop_assert_eq!(one.body("r"), other.body("r"));
    Ok(())
}

proptest! {
    #[test]
    fn every_order_of_few_records_gives_one_answer(run in runs(1..6)) {
        let orders = permutations(run.batch.len());
        let first = run.fold(&orders[0]);
        for order in &orders[1..] {
            same(&run.fold(order), &first)?;
        }
    }

    #[test]
    fn any_split_of_any_order_gives_one_answer(
        (run, order) in runs(1..16).prop_flat_map(|run| {
            let rows: Vec<usize> = (0..run.batch.len()).collect();
            (Just(run), Just(rows).prop_shuffle())
        }),
        parts in prop::collection::vec((0_usize..4, any::<bool>()), 16),
    ) {
        let whole = run.fold(&(0..run.batch.len()).collect::<Vec<_>>());
        same(&run.fold(&order), &whole)?;
        let part = |number: usize| {
            let rows: Vec<usize> = order.iter().copied().filter(|row| parts[*row].0 == number).collect();
            run.fold(&rows)
        };
        let mut merged = RunFold::default();
        for (number, (_, onto)) in parts.iter().enumerate().take(4) {
            if *onto {
                merged.merge(&part(number));
            } else {
                let mut other = part(number);
                other.merge(&merged);
                merged = other;
            }
        }
        same(&merged, &whole)?;
        // From frames of which only the fold's columns were read, and from what is kept on disk.
        let projected = Batch::decode_columns(&run.batch.encode(), run::columns()).expect("a batch");
        let projected = Run { batch: projected, positions: run.positions.clone() };
        same(&projected.fold(&order), &whole)?;
        let kept = serde_json::to_string(&whole).expect("JSON");
        same(&serde_json::from_str(&kept).expect("a fold"), &whole)?;
    }

    /// The rules once more, written down over a sorted list instead of a fold.
    #[test]
    fn the_fold_agrees_with_the_rules(run in runs(1..10)) {
        let fold = run.fold(&(0..run.batch.len()).collect::<Vec<_>>());
        prop_assert_eq!(fold.state(), by_the_rules(&run.batch));
    }

    #[test]
    fn any_records_have_a_state(batch in random::batch()) {
        let run = Run { positions: vec![0; batch.len()], batch };
        let body = run.fold(&(0..run.batch.len()).collect::<Vec<_>>()).body("r");
        prop_assert_eq!(body.records, run.batch.len() as u64);
        prop_assert!(RunState::from_text(&body.state).is_some() && body.duration >= 0.0);
    }
}

fn by_the_rules(batch: &Batch) -> RunState {
    let mut rows: Vec<usize> = (0..batch.len()).collect();
    rows.sort_by_key(|row| (batch.timestamp(*row), batch.ids().get(*row)));
    let kind = |row: &usize| batch.text(Column::Type, *row).expect("a type");
    let count = |wanted: &str| rows.iter().filter(|row| kind(row) == wanted).count();
    let fails =
        |row: &usize| kind(row) == "error" || matches!(batch.text(Column::Status, *row), Some("Failed" | "timed out"));
    let last_success = rows.iter().rposition(|row| kind(row) == "success");
    let last_failure = rows.iter().rposition(fails);
    match (last_success, last_failure) {
        (None, Some(_)) => RunState::Failed,
        (Some(success), Some(failure)) if failure > success => RunState::Failed,
        (Some(_), _) => RunState::Succeeded,
        _ if count("end") > 0 && count("end") >= count("start") => RunState::Succeeded,
        _ if count("activity") > 0 && count("start") == 0 => RunState::Succeeded,
        _ => RunState::Running,
    }
}

/// Folds records written as `second type status`, `-` for no status; their ids rise.
fn fold(records: &[&str]) -> RunFold {
    let line = |(number, record): (usize, &&str)| {
        let words: Vec<&str> = record.split(' ').collect();
        let status = if words[2] == "-" { "null".to_owned() } else { format!("\"{}\"", words[2]) };
        format!(
            r#"{{"id":"01890000-0000-7000-8000-{number:012x}","timestamp":"2025-01-01T00:00:0{}Z","type":"{}","status":{status},"message":"{record}"}}"#,
            words[0], words[1]
        )
    };
    let lines: Vec<String> = records.iter().enumerate().map(line).collect();
    let batch = batch_of(&lines.join("\n"));
    let mut fold = RunFold::default();
    (0..batch.len()).for_each(|row| fold.add(&batch, row, row as u64 + 1));
    fold
}

#[test]
fn states_follow_the_rules() {
    use RunState::{Failed, Running, Succeeded};
    let cases: &[(&[&str], RunState, Option<i64>)] = &[
        (&["0 log -"], Running, None),
        (&["0 start -"], Running, None),
        (&["0 start -", "1 status -", "2 warning -"], Running, None),
        (&["0 start -", "1 success -"], Succeeded, Some(1)),
        (&["1 success -"], Succeeded, Some(1)),
        (&["0 start -", "1 error -", "2 success -"], Succeeded, Some(2)),
        (&["0 start -", "1 success -", "2 error -"], Failed, Some(2)),
        (&["0 start -", "1 error -"], Failed, Some(1)),
        (&["0 start -", "1 error -", "2 log -"], Failed, Some(1)),
        (&["0 start -", "1 error -", "3 error -"], Failed, Some(3)),
        // At one time the greater id is the later.
        (&["0 start -", "1 error -", "1 success -"], Succeeded, Some(1)),
        (&["0 start -", "1 success -", "1 error -"], Failed, Some(1)),
        // Components start and end too.
        (&["0 start -", "1 end -"], Succeeded, Some(1)),
        (&["0 start -", "1 start -", "2 end -"], Running, None),
        (&["0 start -", "1 start -", "2 end -", "3 end -"], Succeeded, Some(3)),
        (&["0 start -", "1 start -", "2 end -", "3 success -"], Succeeded, Some(3)),
        (&["0 start -", "1 error -", "2 end -"], Failed, Some(1)),
        (&["0 start -", "1 success -", "2 end -"], Succeeded, Some(1)),
        (&["1 end -"], Succeeded, Some(1)),
        // A start that comes late, and one that is late.
        (&["1 end -", "0 start -"], Succeeded, Some(1)),
        (&["0 end -", "1 start -"], Succeeded, Some(0)),
        (&["0 start -", "1 end -", "2 start -"], Running, None),
        (&["0 success -", "1 start -"], Succeeded, Some(0)),
        // Activities.
        (&["0 activity Success"], Succeeded, Some(0)),
        (&["0 activity -"], Succeeded, Some(0)),
        (&["0 activity odd"], Succeeded, Some(0)),
        (&["0 activity Success", "2 activity Success"], Succeeded, Some(2)),
        (&["0 activity Failed"], Failed, Some(0)),
        (&["0 activity Failed", "1 activity Success"], Failed, Some(0)),
        (&["0 activity Failed", "1 success -"], Succeeded, Some(1)),
        (&["0 start -", "1 activity Success"], Running, None),
        (&["0 start -", "1 activity Timed-Out"], Failed, Some(1)),
        (&["0 start -", "1 activity Success", "2 end -"], Succeeded, Some(2)),
        // A failing status counts on a record of any type.
        (&["0 start -", "1 status FAILED", "2 end -"], Failed, Some(1)),
        (&["0 start -", "1 end Failed"], Failed, Some(1)),
        (&["0 success Failed"], Succeeded, Some(0)),
    ];
    for (records, state, second) in cases {
        let fold = fold(records);
        assert_eq!(fold.state(), *state, "{records:?}");
        let ended = second.map(|second| 1_735_689_600_000_000 + second * 1_000_000);
        assert_eq!(fold.ended_at(), ended, "{records:?}");
    }
}

#[test]
fn a_run_says_what_it_did() {
    let batch = batch_of(concat!(
        r#"{"timestamp":"2025-01-01T00:00:05Z","type":"error","message":"late failure","level":"critical","row_count":9223372036854775807}"#,
        "\n",
        r#"{"timestamp":"2025-01-01T00:00:01Z","type":"start","message":"begin","stage":"load"}"#,
        "\n",
        r#"{"timestamp":"2025-01-01T00:00:02Z","type":"error","message":"early failure","source_system":"crm","row_count":5}"#,
        "\n",
        r#"{"timestamp":"2025-01-01T00:00:03Z","type":"warning","title":"careful","stage":"other","source_system":"b"}"#,
        "\n",
        r#"{"timestamp":"2025-01-01T00:00:06.5Z","message":"after it all"}"#,
    ));
    let mut fold = RunFold::default();
    (0..5).for_each(|row| fold.add(&batch, row, 10 - row as u64));
    let body = fold.body("r");
    assert_eq!(
        serde_json::to_value(&body).expect("JSON"),
        serde_json::json!({
            "run_id": "r", "state": "failed", "source_system": "crm", "stage": "load", "title": "begin",
            "started_at": "2025-01-01T00:00:01.000000Z", "ended_at": "2025-01-01T00:00:05.000000Z",
            "last_at": "2025-01-01T00:00:06.500000Z", "duration": 4.0, "records": 5, "warnings": 1, "errors": 2,
            "row_count": i64::MAX, "failure": "late failure", "last_position": 10,
            "environment": null, "owner": null, "labels": {}
        })
    );
}

#[test]
fn a_failure_is_told_only_while_the_run_is_failed() {
    assert_eq!(fold(&["0 error -"]).body("r").failure.as_deref(), Some("0 error -"));
    assert_eq!(fold(&["0 error -", "1 success -"]).body("r").failure, None);
    let silent = batch_of(r#"{"status":"Aborted"}"#);
    let mut fold = RunFold::default();
    fold.add(&silent, 0, 1);
    assert_eq!(fold.body("r").failure.as_deref(), Some("Aborted"));
}

#[test]
fn a_run_of_nothing_is_running() {
    let fold = RunFold::default();
    assert_eq!((fold.state(), fold.records(), fold.ended_at()), (RunState::Running, 0, None));
    let mut merged = self::fold(&["0 start -"]);
    merged.merge(&fold);
    assert_eq!(merged, self::fold(&["0 start -"]));
}

#[test]
fn an_activity_began_its_duration_before_it_was_logged() {
    let body = br#"[{"run_id":"r","status":"Success","duration":45.25,"timestamp":"2026-01-01T00:01:00Z"},
        {"run_id":"r","type":"result","duration":999,"timestamp":"2026-01-01T00:01:01Z"}]"#;
    let batch = runstone_record::parse::json(body).unwrap().builder.stamp(&mut IdMint::new(1, 1), 1, None);
    let mut fold = RunFold::default();
    (0..2).for_each(|row| fold.add(&batch, row, 1));
    let body = fold.body("r");
    assert_eq!(body.started_at, "2026-01-01T00:00:14.750000Z");
    assert_eq!(body.ended_at.as_deref(), Some("2026-01-01T00:01:00.000000Z"));
    assert!((body.duration - 45.25).abs() < 1e-9, "{}", body.duration);
}

#[test]
fn a_runs_texts_are_cut_between_characters() {
    let long = "é".repeat(1_000);
    let body = format!(r#"{{"run_id":"r","type":"error","message":"x{long}"}}"#);
    let batch = runstone_record::parse::json(body.as_bytes()).unwrap().builder.stamp(&mut IdMint::new(1, 1), 1, None);
    let mut fold = RunFold::default();
    fold.add(&batch, 0, 1);
    let cut = format!("x{}", "é".repeat(511));
    assert_eq!(fold.body("r").failure.as_deref(), Some(cut.as_str()));
    assert_eq!(fold.body("r").title.as_deref(), Some(cut.as_str()));
}
