use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::{Config, Flag, Origin, Sources, SyncPolicy, load, reference};

struct Case {
    _dir: tempfile::TempDir,
    path: PathBuf,
    sources: Sources,
}

fn case(yaml: &str, env: &[(&str, &str)], flags: &[(&'static str, &'static str, &str)]) -> Case {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runstone.yml");
    std::fs::write(&path, yaml).unwrap();
    let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
    let flags = flags.iter().map(|(flag, key, value)| Flag { flag, key, value: (*value).to_owned() }).collect();
    Case { _dir: dir, sources: Sources { file: Some(path.clone()), env, flags, memory: None }, path }
}

impl Case {
    /// The mistakes, with the file's path as people would type it.
    fn mistakes(&self) -> Vec<String> {
        let errors = load(&self.sources).unwrap_err().to_string();
        errors.replace(&self.path.display().to_string(), "runstone.yml").lines().map(str::to_owned).collect()
    }
}

#[test]
fn nothing_set_is_the_defaults() {
    assert_eq!(load(&Sources::default()).unwrap(), Config::default());
    let others = [("PATH", "/bin"), ("RUNSTONE_URL", "http://localhost"), ("RUNSTONE_PAGER", "less")];
    let env = others.map(|(name, value)| (name.into(), value.into())).to_vec();
    assert_eq!(load(&Sources { env, ..Sources::default() }).unwrap(), Config::default());
}

#[test]
fn with_little_memory_defaults_are_shares_of_it_and_what_is_set_stays() {
    let mut case = case("recent:\n  bytes_max: 100MiB\n", &[], &[]);
    for (memory, expected) in [(u64::MAX, 256), (2 << 30, 256), (1 << 30, 119), (256 << 20, 17), (1, 16)] {
        case.sources.memory = Some(memory);
        let config = load(&case.sources).unwrap();
        assert_eq!(config.query.memory_bytes_max, expected << 20, "{memory}");
        assert_eq!(config.recent.bytes_max, 100 << 20);
    }
    case.sources.memory = Some(256 << 20);
    let config = load(&case.sources).unwrap();
    assert_eq!(*config.origin("lake.flush_bytes"), Origin::Memory(256 << 20));
    assert_eq!(*config.origin("recent.bytes_max"), Origin::File(case.path.clone(), Some(2)));
    let printed = config.print();
    let line = printed.lines().find(|line| line.contains(" flush_bytes:")).unwrap();
    assert!(line.starts_with("  flush_bytes: 4MiB ") && line.ends_with("# default for 256MiB of memory"), "{line}");
}

#[test]
fn each_layer_is_over_the_one_before() {
    let yaml = "listen: 0.0.0.0:1\ndata: /file\njournal:\n  sync: never\nhttp:\n  idle_timeout_ms: 5s\n";
    let env = [("RUNSTONE_DATA", "/env"), ("RUNSTONE_LISTEN", "0.0.0.0:2"), ("RUNSTONE_LOG", "debug")];
    let case = case(yaml, &env, &[("--listen", "listen", "0.0.0.0:3")]);
    let config = load(&case.sources).unwrap();
    assert_eq!((config.listen.as_str(), config.data.to_str()), ("0.0.0.0:3", Some("/env")));
    assert_eq!((config.journal.sync, config.log.level.as_str()), (SyncPolicy::Never, "debug"));
    assert_eq!(config.http.idle_timeout, Duration::from_secs(5));
    assert_eq!(*config.origin("listen"), Origin::Flag("--listen"));
    assert_eq!(*config.origin("data"), Origin::Env("RUNSTONE_DATA".to_owned()));
    assert_eq!(*config.origin("journal.sync"), Origin::File(case.path.clone(), Some(4)));
    assert_eq!(*config.origin("query.rows_max"), Origin::Default);
}

#[test]
fn every_mistake_is_named_at_once_with_its_place() {
    let yaml = "\
listn: 127.0.0.1:80
data: ''
journal:
  sync: sometimes
  queue_bytes_max: 64MB
http:
  body_bytes_max: 0
  idle_timeout: 5s
  connections_max: [1]
query: none
log:
  level: http=loud
";
    let env = [("RUNSTONE_JURNAL_SYNC", "never"), ("RUNSTONE_QUERY_ROWS_MAX", "-1"), ("RUNSTONE_XYZZY", "1")];
    let case = case(yaml, &env, &[("--listen", "listen", "localhost")]);
    let mistakes = case.mistakes();
    let expected = [
        "runstone.yml:1: no setting has the name listn; is listen meant?",
        "runstone.yml:2: data: must be a path, got none",
        "runstone.yml:4: journal.sync: must be every_group or never, got \"sometimes\"",
        "runstone.yml:5: journal.queue_bytes_max: must be between 1MiB and 16GiB, got 64MB",
        "runstone.yml:7: http.body_bytes_max: must be between 1KiB and 1GiB, got 0",
        "runstone.yml:8: no setting has the name http.idle_timeout; is http.idle_timeout_ms meant?",
        "runstone.yml:9: http.connections_max: needs one value",
        "runstone.yml:10: query: holds settings, not a value",
        "runstone.yml:12: log.level: must be a level or directives: error parsing level filter: expected one of \"off\", \
         \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5",
        "RUNSTONE_JURNAL_SYNC: no variable has the name RUNSTONE_JURNAL_SYNC; is RUNSTONE_JOURNAL_SYNC meant?",
        "RUNSTONE_QUERY_ROWS_MAX: query.rows_max: must be between 1 and 10000000, got -1",
        "RUNSTONE_XYZZY: no variable has the name RUNSTONE_XYZZY; `runstone config --print` shows all",
        "--listen: listen: must be host:port, such as 127.0.0.1:7867, got \"localhost\"",
    ];
    assert_eq!(mistakes, expected);
}

#[test]
fn settings_that_are_wrong_together_are_named_where_they_were_set() {
    let case = case("http:\n  decoded_bytes_max: 4MiB\n", &[("RUNSTONE_HTTP_IN_FLIGHT_BYTES_MAX", "1MiB")], &[]);
    let expected = [
        "runstone.yml:2: http.decoded_bytes_max must be at least http.body_bytes_max, got 4194304 and 8388608",
        "RUNSTONE_HTTP_IN_FLIGHT_BYTES_MAX: http.in_flight_bytes_max must be at least http.decoded_bytes_max, got \
         1048576 and 4194304",
    ];
    assert_eq!(case.mistakes(), expected);
    let yaml = "journal:\n  segment_bytes: 1GiB\n  bytes_max: 1GiB\nquery:\n  timeout_ms: 2h\n";
    let expected = [
        "runstone.yml:3: journal.bytes_max must be at least twice journal.segment_bytes, got 1073741824 and 1073741824",
        "runstone.yml:5: lake.vacuum_grace_ms must be longer than query.timeout_ms, got 1h and 2h",
    ];
    assert_eq!(self::case(yaml, &[], &[]).mistakes(), expected);
}

#[test]
fn a_file_of_the_lake_stays_no_longer_than_its_log_remembers_it() {
    let grace = |time: &str| case(&format!("lake:\n  vacuum_grace_ms: {time}\n"), &[], &[]);
    assert_eq!(load(&grace("168h").sources).unwrap().lake.vacuum_grace, Duration::from_secs(7 * 86_400));
    let expected = "runstone.yml:2: lake.vacuum_grace_ms: must be between 1s and 168h, got 169h";
    assert_eq!(grace("169h").mistakes(), [expected]);
}

#[test]
fn the_lake_is_in_the_data_directory_unless_it_is_said_where() {
    let location = |yaml: &str| load(&case(yaml, &[], &[]).sources).unwrap().lake_location();
    assert_eq!(location("data: /d\n"), "/d/lake");
    assert_eq!(location("data: /d\nlake:\n  location: ''\n"), "/d/lake");
    assert_eq!(location("data: /d\nlake:\n  location: s3://bucket/logs\n"), "s3://bucket/logs");
}

#[test]
fn a_file_that_is_missing_or_not_yaml_is_one_mistake() {
    let mut missing = case("", &[], &[]);
    missing.sources.file = Some(PathBuf::from("/nowhere/runstone.yml"));
    let mistakes = missing.mistakes();
    assert_eq!(mistakes.len(), 1);
    assert!(mistakes[0].starts_with("/nowhere/runstone.yml: cannot be read: "), "{mistakes:?}");
    let broken = case("listen: localhost:1\nhttp: {\n", &[], &[]);
    assert!(broken.mistakes()[0].starts_with("runstone.yml:"), "{:?}", broken.mistakes());
}

#[test]
fn what_is_printed_can_be_read_again_and_says_where_it_came_from() {
    let case = case("data: '/da ta: #1'\nhttp:\n  body_bytes_max: 1048576\n", &[("RUNSTONE_LOG_LEVEL", "off")], &[]);
    let config = load(&case.sources).unwrap();
    let printed = config.print();
    let lines: Vec<&str> = printed.lines().collect();
    let has =
        |setting: &str, comment: &str| lines.iter().any(|line| line.starts_with(setting) && line.ends_with(comment));
    assert!(has("data: \"/da ta: #1\"", "runstone.yml:1"), "{printed}");
    assert!(has("  body_bytes_max: 1MiB", "runstone.yml:3"), "{printed}");
    assert!(has("  level: \"off\"", "# environment RUNSTONE_LOG_LEVEL"), "{printed}");
    assert!(has("listen: \"127.0.0.1:7867\"", "# default"), "{printed}");
    let again = load(&self::case(&printed, &[], &[]).sources).unwrap();
    for setting in super::settings::SETTINGS {
        assert_eq!(setting.show(&again), setting.show(&config), "{}", setting.key);
    }
}

#[test]
fn a_list_is_one_of_yamls_or_has_commas() {
    let origins = |case: &Case| load(&case.sources).map(|config| config.http.cors_origins);
    let two = ["https://a.example", "http://b.example:8080"].map(str::to_owned);
    let yaml = case("http:\n  cors_origins: [\"https://a.example\", \"http://b.example:8080\"]\n", &[], &[]);
    assert_eq!(origins(&yaml).unwrap(), two);
    let env = case("", &[("RUNSTONE_HTTP_CORS_ORIGINS", "https://a.example, http://b.example:8080")], &[]);
    assert_eq!(origins(&env).unwrap(), two);
    let wrong = "http:\n  cors_origins: [\"https://a.example/\"]\n  body_bytes_max: [1, 2]\n";
    let mistakes = case(wrong, &[], &[]).mistakes();
    let origin =
        "must be an origin such as https://logs.example.com or http://localhost:5173, got \"https://a.example/\"";
    let wanted = [
        format!("runstone.yml:2: http.cors_origins: {origin}"),
        "runstone.yml:3: http.body_bytes_max: needs one value".to_owned(),
    ];
    assert_eq!(mistakes, wanted);
}

/// Regenerate with `RUNSTONE_BLESS=1 cargo test -p runstone-server reference`.
#[test]
fn the_documentation_has_the_reference_of_this_list() {
    let path = "../../docs/configuration.md";
    let text = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- settings: begin -->\n", "<!-- settings: end -->");
    let start = text.find(begin).unwrap() + begin.len();
    let stop = text.find(end).unwrap();
    let expected = format!("\n{}", reference());
    if option_env!("RUNSTONE_BLESS").is_some() {
        std::fs::write(path, format!("{}{expected}{}", &text[..start], &text[stop..])).unwrap();
    } else {
        assert_eq!(&text[start..stop], expected, "docs/configuration.md lags behind config::settings");
    }
}

#[test]
fn the_example_of_the_documentation_is_valid() {
    let text = include_str!("../../../../docs/configuration.md");
    let example = text.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let config = load(&case(example, &[], &[]).sources).unwrap();
    assert_ne!(*config.origin("recent.bytes_max"), Origin::Default);
}

#[test]
fn source_systems_are_read_and_printed_as_they_would_be_read_again() {
    let yaml = "\
sources:
  shop:
    environment: production
    owner: team-shop
    labels: {tier: gold, cost.centre: \"4711\", on: \"yes\"}
  crm.eu@west:
    owner: \"Ünal: team\"
  idle:
    labels:
      a: 1
";
    let config = load(&case(yaml, &[], &[]).sources).unwrap();
    let shop = &config.sources.0["shop"];
    assert_eq!((shop.environment.as_deref(), shop.owner.as_deref()), (Some("production"), Some("team-shop")));
    let labels: Vec<(&str, &str)> = shop.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(labels, [("cost.centre", "4711"), ("on", "yes"), ("tier", "gold")]);
    assert_eq!(config.sources.0["crm.eu@west"].owner.as_deref(), Some("Ünal: team"));
    let again = load(&case(&config.print(), &[], &[]).sources).unwrap();
    assert_eq!(again.sources, config.sources, "{}", config.print());
}

#[test]
fn mistakes_in_source_systems_are_named() {
    let yaml = "\
sources:
  ../etc:
    owner: x
  shop:
    ownr: x
    environment: [a]
    owner: \"\"
    labels: gold
  crm: production
  odd:
    labels:
      tier: {a: b}
  list:
    labels: [a]
";
    let expected = [
        r#"runstone.yml:3: sources.../etc.owner: "../etc" is no name of a source system: it must begin with a letter or a digit"#,
        "runstone.yml:5: sources.shop.ownr: is not known: a source system has environment, owner and labels",
        "runstone.yml:6: sources.shop.environment: needs one value",
        "runstone.yml:7: sources.shop.owner: must have 1 to 256 bytes and no control characters",
        "runstone.yml:8: sources.shop.labels: holds labels, not a value",
        "runstone.yml:9: sources.crm: holds environment, owner and labels, and needs one of them",
        "runstone.yml:12: sources.odd.labels.tier.a: is not known: a source system has environment, owner and labels",
        "runstone.yml:14: sources.list.labels: needs one value",
    ];
    assert_eq!(case(yaml, &[], &[]).mistakes(), expected);
    let many: String = (0..33).map(|number| format!("      l{number}: x\n")).collect();
    let mistakes = case(&format!("sources:\n  shop:\n    labels:\n{many}"), &[], &[]).mistakes();
    assert_eq!(mistakes, ["runstone.yml:36: sources.shop.labels.l32: a source system may have at most 32 labels"]);
    for nothing in ["sources:\n", "sources: {}\n"] {
        assert!(load(&case(nothing, &[], &[]).sources).unwrap().sources.0.is_empty());
    }
}

#[test]
fn tables_are_printed_as_a_file_that_sets_them() {
    let yaml = "tables:\n  orders: /data/orders\n  items: {location: 's3://b/x y', format: delta}\n";
    let config = load(&case(yaml, &[], &[]).sources).unwrap();
    let places: Vec<_> = config.tables.values().map(|table| table.spec.location.as_str()).collect();
    assert_eq!(places, ["s3://b/x y", "/data/orders"]);
    let again = load(&case(&config.print(), &[], &[]).sources).unwrap();
    let specs = |config: &Config| config.tables.values().map(|table| table.spec.clone()).collect::<Vec<_>>();
    assert_eq!(specs(&again), specs(&config));
}
