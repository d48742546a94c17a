//! What `deploy/terraform/logger` tells the function and lets it do, beside what the function reads and does.

use std::collections::BTreeSet;

use serde_json::json;

use crate::lambda::Function;
use crate::logger::make_table;
use crate::moto::Moto;
use crate::proxy::Proxy;

fn file(path: &str) -> String {
    std::fs::read_to_string(format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// What follows a prefix, as far as it is of letters and underscores.
fn named<'t>(text: &'t str, prefix: &str) -> BTreeSet<&'t str> {
    let end = |rest: &str| rest.find(|c: char| !c.is_ascii_alphabetic() && c != '_').unwrap_or(rest.len());
    text.split(prefix).skip(1).map(|rest| &rest[..end(rest)]).filter(|name| !name.is_empty()).collect()
}

/// All files of the module.
fn module() -> String {
    let dir = format!("{}/../../deploy/terraform/logger", env!("CARGO_MANIFEST_DIR"));
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let paths = paths.filter(|path| path.extension().is_some_and(|extension| extension == "tf"));
    paths.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// What an argument is set to, wherever it is: the rest of its line.
fn values<'t>(text: &'t str, argument: &str) -> Vec<&'t str> {
    let set = text.lines().filter_map(|line| line.split_once('='));
    set.filter(|(name, _)| name.trim() == argument).map(|(_, value)| value.trim()).collect()
}

#[test]
fn every_variable_of_the_function_is_a_setting() {
    let (main, guide) = (file("deploy/terraform/logger/main.tf"), file("docs/logger.md"));
    let set = named(&main, "RUNSTONE_");
    assert!(set.len() >= 8, "{set:?}");
    let settings = named(&guide, "| `RUNSTONE_");
    for name in set {
        assert!(settings.contains(name), "RUNSTONE_{name} is none of {settings:?}");
    }
}

#[test]
fn the_role_may_do_what_appends_do_and_nothing_else() {
    let moto = Moto::start();
    make_table(&moto, "dmdb_logs");
    let proxy = Proxy::before(moto.url());
    let settings = [("RUNSTONE_DYNAMODB_ENDPOINT", proxy.url()), ("RUNSTONE_DYNAMODB_ITEM_BYTES_MAX", "1024")];
    let id = "5f6dd2a1-0a57-4cf5-8a16-3d1d2c6f0007";
    let event = |title: &str| json!({"run_id": "r", "log_entry": {"type": "info", "title": title, "description": "d".repeat(400), "id": id}});
    // Into further items, by a function that does not know them; sent again, and another under the same id.
    for _ in 0..2 {
        let function = Function::start(&settings);
        for number in 0..6 {
            let mut other = event(&number.to_string());
            other["log_entry"].as_object_mut().unwrap().remove("id");
            assert_eq!(function.invoke(&other)["statusCode"], 200);
        }
        for (title, status) in [("one", 200), ("one", 200), ("another", 400)] {
            assert_eq!(function.invoke(&event(title))["statusCode"], status);
        }
    }
    let role = file("deploy/terraform/logger/role.tf");
    let allowed: Vec<&str> = named(&role, "\"dynamodb:").into_iter().collect();
    assert_eq!(allowed, proxy.operations());
}

/// Each statement with what it allows and on what. Only of X-Ray are there no resources to name.
#[test]
fn the_role_has_these_rights_and_no_others() {
    let (role, module) = (file("deploy/terraform/logger/role.tf"), module());
    let (sids, actions, resources) = (values(&role, "sid"), values(&role, "actions"), values(&role, "resources"));
    // The first says who takes the role.
    assert_eq!(actions[0], r#"["sts:AssumeRole"]"#);
    assert_eq!((actions.len(), resources.len()), (sids.len() + 1, sids.len()), "{actions:?} {resources:?}");
    let statements: Vec<(&str, &str, &str)> =
        (0..sids.len()).map(|place| (sids[place], actions[place + 1], resources[place])).collect();
    assert_eq!(
        statements,
        [
            (r#""AppendToLogs""#, r#"["dynamodb:GetItem", "dynamodb:UpdateItem"]"#, "[local.table_arn]"),
            (
                r#""WriteItsOwnLog""#,
                r#"["logs:CreateLogStream", "logs:PutLogEvents"]"#,
                r#"["${aws_cloudwatch_log_group.logger.arn}:*"]"#
            ),
            (r#""ReadItsSecret""#, r#"["secretsmanager:GetSecretValue"]"#, "[statement.value]"),
            (r#""DecryptSecretAndTable""#, r#"["kms:Decrypt"]"#, "statement.value"),
            (r#""SendTraces""#, r#"["xray:PutTelemetryRecords", "xray:PutTraceSegments"]"#, r#"["*"]"#),
        ]
    );
    // What `statement.value` is, and for whom alone is decrypted.
    let each = [
        r#"var.secret_arn != "" ? [var.secret_arn] : []"#,
        "length(var.kms_key_arns) > 0 ? [var.kms_key_arns] : []",
        "var.tracing ? [1] : []",
    ];
    assert_eq!(values(&role, "for_each"), each);
    assert_eq!(values(&role, "variable"), [r#""kms:ViaService""#]);
    assert_eq!(values(&role, "values"), [r#"["dynamodb.*", "secretsmanager.*"]"#]);
    // Nothing else gives it rights.
    assert_eq!(values(&module, "actions"), actions);
    assert_eq!(module.matches(r#"resource "aws_iam_"#).count(), 2);
    for other in ["not_actions", "not_resources", "managed_policy_arns", "inline_policy"] {
        assert!(!module.contains(other), "{other}");
    }
}
