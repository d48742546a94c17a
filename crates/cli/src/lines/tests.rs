//! One line of each form, written here in the shape that the systems print.

use super::*;

const NOW: &str = "2025-06-30T12:00:00Z";

fn parse_all(lines: &[&str]) -> Vec<Value> {
    let formats = Arc::new(Formats::compile().unwrap());
    let mut parser = LineParser::new(formats, Zone::UTC);
    let now = NOW.parse().unwrap();
    let records = lines.iter().filter_map(|line| parser.parse(line, now));
    records.map(|record| serde_json::to_value(record).unwrap()).collect()
}

fn parse(line: &str) -> Value {
    parse_all(&[line]).remove(0)
}

/// (form, line, what becomes of it)
const SAMPLES: &[(&str, &str, &str)] = &[
    (
        "hdfs",
        "081109 203615 148 INFO dfs.DataNode$PacketResponder: PacketResponder 1 for block blk_38 terminating",
        r#"{"timestamp":"2008-11-09T20:36:15.000000Z","level":"INFO","logger_name":"dfs.DataNode$PacketResponder","process_id":148,"message":"PacketResponder 1 for block blk_38 terminating"}"#,
    ),
    (
        "spark",
        "17/06/09 20:10:40 WARN spark.SecurityManager: Changing view acls to: yarn,curi",
        r#"{"timestamp":"2017-06-09T20:10:40.000000Z","level":"WARNING","logger_name":"spark.SecurityManager","message":"Changing view acls to: yarn,curi"}"#,
    ),
    (
        "log4j",
        "2015-10-18 18:01:47,978 INFO [Socket Reader #1 for port 62260] org.apache.hadoop.ipc.Server: Starting Socket Reader",
        r#"{"timestamp":"2015-10-18T18:01:47.978000Z","level":"INFO","logger_name":"org.apache.hadoop.ipc.Server","thread_name":"Socket Reader #1 for port 62260","message":"Starting Socket Reader"}"#,
    ),
    (
        "log4j",
        "2025-01-13 12:34:56.789 ERROR [main] c.e.App:42 - no",
        r#"{"timestamp":"2025-01-13T12:34:56.789000Z","level":"ERROR","logger_name":"c.e.App","thread_name":"main","lineno":42,"message":"no"}"#,
    ),
    (
        "openstack",
        "nova-api.log.1.2017-05-16_13:53:08 2017-05-16 00:00:00.008 25746 INFO nova.osapi_compute.wsgi.server [req-38101a0b 113d3a 54fadb - - -] 10.11.10.1 \"GET /v2\" status: 200",
        r#"{"timestamp":"2017-05-16T00:00:00.008000Z","level":"INFO","logger_name":"nova.osapi_compute.wsgi.server","process_id":25746,"message":"10.11.10.1 \"GET /v2\" status: 200","metadata":{"file":"nova-api.log.1.2017-05-16_13:53:08","request":"req-38101a0b 113d3a 54fadb - - -"}}"#,
    ),
    (
        "openstack",
        "2017-05-16 00:14:47.663 2931 WARNING nova.virt.libvirt.driver [-] [instance: faf974ea] Instance destroyed.",
        r#"{"timestamp":"2017-05-16T00:14:47.663000Z","level":"WARNING","logger_name":"nova.virt.libvirt.driver","process_id":2931,"message":"[instance: faf974ea] Instance destroyed."}"#,
    ),
    (
        "zookeeper",
        "2015-07-29 17:41:44,747 - WARN  [QuorumPeer[myid=1]/0:0:0:0:0:0:0:0:2181:FastLeaderElection@774] - Notification time out: 3200",
        r#"{"timestamp":"2015-07-29T17:41:44.747000Z","level":"WARNING","logger_name":"FastLeaderElection","thread_name":"QuorumPeer[myid=1]/0:0:0:0:0:0:0:0:2181","lineno":774,"message":"Notification time out: 3200"}"#,
    ),
    (
        "syslog",
        "Jun 14 15:16:01 combo sshd(pam_unix)[19939]: authentication failure; rhost=218.188.2.4 ",
        r#"{"timestamp":"2025-06-14T15:16:01.000000Z","logger_name":"sshd(pam_unix)","hostname":"combo","process_id":19939,"message":"authentication failure; rhost=218.188.2.4 "}"#,
    ),
    (
        "syslog",
        "Jul  1 04:10:00 combo syslogd 1.4.1: restart.",
        r#"{"timestamp":"2024-07-01T04:10:00.000000Z","hostname":"combo","message":"syslogd 1.4.1: restart."}"#,
    ),
    (
        "syslog",
        "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick",
        r#"{"timestamp":"2024-10-11T22:14:15.000000Z","level":"CRITICAL","logger_name":"su","hostname":"mymachine","message":"'su root' failed for lonvick","metadata":{"facility":4}}"#,
    ),
    (
        "apache error",
        "[Sun Dec 04 04:47:44 2005] [notice] workerEnv.init() ok /etc/httpd/conf/workers2.properties",
        r#"{"timestamp":"2005-12-04T04:47:44.000000Z","level":"INFO","message":"workerEnv.init() ok /etc/httpd/conf/workers2.properties"}"#,
    ),
    (
        "apache error",
        "[Fri Sep 09 10:42:29.902022 2022] [core:error] [pid 35708:tid 4328636416] [client 72.15.99.187] File does not exist",
        r#"{"timestamp":"2022-09-09T10:42:29.902022Z","level":"ERROR","logger_name":"core","process_id":35708,"thread_id":4328636416,"message":"[client 72.15.99.187] File does not exist"}"#,
    ),
    (
        "python",
        "2025-01-13 12:34:56,789 - etl.load - CRITICAL - disk - full",
        r#"{"timestamp":"2025-01-13T12:34:56.789000Z","level":"CRITICAL","logger_name":"etl.load","message":"disk - full"}"#,
    ),
    (
        "python",
        "2025-01-13 12:34:56,789 - INFO - no name",
        r#"{"timestamp":"2025-01-13T12:34:56.789000Z","level":"INFO","message":"no name"}"#,
    ),
    (
        "python without a time",
        "WARNING:etl.load:slow",
        r#"{"level":"WARNING","logger_name":"etl.load","message":"slow"}"#,
    ),
    (
        "loguru",
        "2025-01-13 12:34:56.789 | DEBUG    | etl.load:run:12 - read",
        r#"{"timestamp":"2025-01-13T12:34:56.789000Z","level":"DEBUG","logger_name":"etl.load","function_name":"run","lineno":12,"message":"read"}"#,
    ),
    (
        "spring boot",
        "2025-01-13T12:34:56.789+01:00  INFO 1234 --- [demo] [main] c.e.DemoApplication  : Started",
        r#"{"timestamp":"2025-01-13T11:34:56.789000Z","level":"INFO","logger_name":"c.e.DemoApplication","process_id":1234,"thread_name":"main","message":"Started","metadata":{"application":"demo"}}"#,
    ),
    (
        "logback",
        "2025-01-13 12:34:56.789 [pool-1-thread-2] WARN  com.example.App - late",
        r#"{"timestamp":"2025-01-13T12:34:56.789000Z","level":"WARNING","logger_name":"com.example.App","thread_name":"pool-1-thread-2","message":"late"}"#,
    ),
    (
        "logback without a date",
        "12:34:56.789 [main] INFO  com.example.App - hello",
        r#"{"level":"INFO","logger_name":"com.example.App","thread_name":"main","message":"hello","metadata":{"time_of_day":"12:34:56.789"}}"#,
    ),
    (
        "postgres",
        "2025-01-13 12:34:56.789 UTC [123] app@etl FATAL:  password authentication failed",
        r#"{"timestamp":"2025-01-13T12:34:56.789000Z","level":"CRITICAL","process_id":123,"message":"password authentication failed","metadata":{"connection":"app@etl"}}"#,
    ),
    (
        "postgres",
        "2025-01-13 12:34:56.789 UTC [123] LOG:  checkpoint starting: time",
        r#"{"timestamp":"2025-01-13T12:34:56.789000Z","level":"INFO","process_id":123,"message":"checkpoint starting: time"}"#,
    ),
    (
        "airflow",
        "[2025-01-13T12:34:56.789+0000] {taskinstance.py:1345} INFO - Marking task as SUCCESS.",
        r#"{"timestamp":"2025-01-13T12:34:56.789000Z","level":"INFO","filename":"taskinstance.py","lineno":1345,"message":"Marking task as SUCCESS."}"#,
    ),
    (
        "celery",
        "[2025-01-13 12:34:56,789: ERROR/ForkPoolWorker-1] Task failed",
        r#"{"timestamp":"2025-01-13T12:34:56.789000Z","level":"ERROR","message":"Task failed","metadata":{"process":"ForkPoolWorker-1"}}"#,
    ),
    (
        "gunicorn",
        "[2025-01-13 12:34:56 +0100] [77] [INFO] Booting worker",
        r#"{"timestamp":"2025-01-13T11:34:56.000000Z","level":"INFO","process_id":77,"message":"Booting worker"}"#,
    ),
    (
        "env_logger",
        "[2025-01-13T12:34:56Z INFO  etl::load] read",
        r#"{"timestamp":"2025-01-13T12:34:56.000000Z","level":"INFO","logger_name":"etl::load","message":"read"}"#,
    ),
    (
        "tracing",
        "2025-01-13T12:34:56.789012Z  INFO etl::load: read rows=3",
        r#"{"timestamp":"2025-01-13T12:34:56.789012Z","level":"INFO","logger_name":"etl::load","message":"read rows=3"}"#,
    ),
    (
        "rfc 5424",
        r#"<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut="3" eventSource="App\"]"] An application event"#,
        r#"{"timestamp":"2003-10-11T22:14:15.003000Z","level":"INFO","logger_name":"evntslog","hostname":"mymachine.example.com","message":"An application event","metadata":{"facility":20,"msgid":"ID47","structured_data":"[exampleSDID@32473 iut=\"3\" eventSource=\"App\\\"]\"]"}}"#,
    ),
    ("rfc 5424", "<11>1 - - - - - - bare", r#"{"level":"ERROR","message":"bare","metadata":{"facility":1}}"#),
    (
        "glog",
        "E0113 12:34:56.789012   123 file.cc:12] lost",
        r#"{"timestamp":"2025-01-13T12:34:56.789012Z","level":"ERROR","thread_id":123,"filename":"file.cc","lineno":12,"message":"lost"}"#,
    ),
    (
        "nginx error",
        "2025/01/13 12:34:56 [error] 31#7: *1 open() failed",
        r#"{"timestamp":"2025-01-13T12:34:56.000000Z","level":"ERROR","process_id":31,"thread_id":7,"message":"*1 open() failed"}"#,
    ),
    (
        "access log",
        "127.0.0.1 - frank [13/Jan/2025:12:34:56 -0700] \"GET /a HTTP/1.0\" 200 2326",
        r#"{"timestamp":"2025-01-13T19:34:56.000000Z","message":"\"GET /a HTTP/1.0\" 200 2326","metadata":{"client":"127.0.0.1","user":"frank"}}"#,
    ),
    (
        "logfmt",
        "time=\"2025-01-13T12:34:56Z\" level=warning msg=\"slow\" rows=3",
        r#"{"timestamp":"2025-01-13T12:34:56.000000Z","level":"WARNING","message":"msg=\"slow\" rows=3"}"#,
    ),
    (
        "rsyslog",
        "2025-01-13T12:34:56.789+01:00 node-1 cron[12]: ran",
        r#"{"timestamp":"2025-01-13T11:34:56.789000Z","logger_name":"cron","hostname":"node-1","process_id":12,"message":"ran"}"#,
    ),
    (
        "time and level",
        "2025-01-13 12:34:56 [info] ready",
        r#"{"timestamp":"2025-01-13T12:34:56.000000Z","level":"INFO","message":"ready"}"#,
    ),
    (
        "time and word",
        "[2025-01-13 12:34:56] ERROR: no such file",
        r#"{"timestamp":"2025-01-13T12:34:56.000000Z","level":"ERROR","message":"no such file"}"#,
    ),
    (
        "time and word",
        "2025/01/13 12:34:56 WARN no such file",
        r#"{"timestamp":"2025-01-13T12:34:56.000000Z","level":"WARNING","message":"no such file"}"#,
    ),
    (
        "level and time",
        "[INFO] 2025-01-13 12:34:56,789 ready",
        r#"{"timestamp":"2025-01-13T12:34:56.789000Z","level":"INFO","message":"ready"}"#,
    ),
    (
        "time",
        "2025-01-13T12:34:56.5+02:00 Error handling is fun",
        r#"{"timestamp":"2025-01-13T10:34:56.500000Z","message":"Error handling is fun"}"#,
    ),
    (
        "time",
        "2025/01/13 12:34:56 main.go:3: hello",
        r#"{"timestamp":"2025-01-13T12:34:56.000000Z","message":"main.go:3: hello"}"#,
    ),
    ("level in brackets", "[error] oh", r#"{"level":"ERROR","message":"oh"}"#),
    (
        "level",
        "INFO:     127.0.0.1:1 - \"GET / HTTP/1.1\" 200 OK",
        r#"{"level":"INFO","message":"127.0.0.1:1 - \"GET / HTTP/1.1\" 200 OK"}"#,
    ),
    ("level", "ERROR oh", r#"{"level":"ERROR","message":"oh"}"#),
    (
        "compiler",
        "error[E0425]: cannot find value",
        r#"{"level":"ERROR","message":"cannot find value","metadata":{"code":"E0425"}}"#,
    ),
];

#[test]
fn each_form_is_read() {
    let formats = Formats::compile().unwrap();
    for (form, line, expected) in SAMPLES {
        assert_eq!(formats.name_of(line, &Zone::UTC, NOW.parse().unwrap()), Some(*form), "{line}");
        assert_eq!(parse(line), serde_json::from_str::<Value>(expected).unwrap(), "{line}");
    }
}

#[test]
fn every_form_has_a_sample() {
    for form in table::FORMS {
        assert!(SAMPLES.iter().any(|(name, ..)| *name == form.name), "{}", form.name);
    }
}

#[test]
fn a_line_has_one_particular_form_so_the_line_before_cannot_change_it() {
    let formats = Formats::compile().unwrap();
    for (_, line, _) in SAMPLES {
        let names = formats.particular_names_of(line, &Zone::UTC, NOW.parse().unwrap());
        assert!(names.len() <= 1, "{names:?}: {line}");
    }
}

#[test]
fn a_line_of_no_form_is_its_own_message() {
    for line in [
        "hello world",
        "INFO",
        "ERROR ",
        "Error handling is fun",
        "2025-13-01 00:00:00 ERROR boom",
        "[2025-02-30 00:00:00] x",
        "error: ",
        "<192>Oct 11 22:14:15 h x: y",
        "Feb 30 00:00:00 host su: x",
        "INFORMATION is power",
        "[x] y",
        "<>",
        "Jun 14",
    ] {
        assert_eq!(parse(line), serde_json::json!({"message": line}), "{line}");
    }
}

#[test]
fn blank_lines_are_skipped_and_carriage_returns_stripped() {
    assert!(parse_all(&["", "  ", "\r", "\t\r"]).is_empty());
    assert_eq!(parse("hello\r"), serde_json::json!({"message": "hello"}));
    assert_eq!(parse("50 %\r100 %\r"), serde_json::json!({"message": "50 %\r100 %"}));
}

#[test]
fn a_prefix_without_a_message_keeps_its_time() {
    assert_eq!(parse("2025-01-13 12:34:56 ERROR")["level"], "ERROR");
    assert_eq!(parse("2025-01-13T12:34:56Z")["message"], "");
}

#[test]
fn zones_apply_to_times_without_an_offset_only() {
    let formats = Arc::new(Formats::compile().unwrap());
    let mut parser = LineParser::new(formats, "Europe/Berlin".parse().unwrap());
    for (line, expected) in [
        ("2025-07-01 12:00:00 ERROR x", "2025-07-01T10:00:00Z"),
        ("2025-01-01 12:00:00,5 ERROR x", "2025-01-01T11:00:00.5Z"),
        ("2025-07-01T12:00:00Z ERROR x", "2025-07-01T12:00:00Z"),
        ("2025-07-01 12:00:00 UTC [1] LOG:  x", "2025-07-01T12:00:00Z"),
    ] {
        let record = parser.parse(line, NOW.parse().unwrap()).unwrap();
        assert_eq!(record.timestamp, Some(expected.parse().unwrap()), "{line}");
    }
}

#[test]
fn a_stack_trace_keeps_the_time_and_level_of_its_line() {
    let records = parse_all(&[
        "orphan",
        "2025-01-13 12:34:56,789 ERROR [main] a.B: boom",
        "java.lang.IllegalStateException: boom",
        "\tat a.B.c(B.java:1)",
        "Caused by: x",
        "... 3 more",
        "2025-01-13 12:34:57,000 - etl - CRITICAL - failed",
        "Traceback (most recent call last):",
        "  File \"x.py\", line 1",
        "ValueError: no",
        "INFO:root:done",
        "plain",
    ]);
    let brief = |record: &Value| {
        let text = |field: &str| record[field].as_str().unwrap_or("-").to_owned();
        let time = text("timestamp").get(17..23).unwrap_or("-").to_owned();
        (time, text("level"), record["metadata"]["continuation"] == true)
    };
    let expected = [
        ("-", "-", false),
        ("56.789", "ERROR", false),
        ("56.789", "ERROR", true),
        ("56.789", "ERROR", true),
        ("56.789", "ERROR", true),
        ("56.789", "ERROR", true),
        ("57.000", "CRITICAL", false),
        ("57.000", "CRITICAL", true),
        ("57.000", "CRITICAL", true),
        ("57.000", "CRITICAL", true),
        ("57.000", "INFO", true),
        ("57.000", "-", true),
    ];
    let expected = expected.map(|(time, level, mark)| (time.to_owned(), level.to_owned(), mark));
    assert_eq!(records.iter().map(brief).collect::<Vec<_>>(), expected);
}

#[test]
fn a_python_stack_that_nobody_logged_is_an_error() {
    let levels = |first: &str| {
        let records =
            parse_all(&[first, "Traceback (most recent call last):", "  File \"x.py\", line 1", "ValueError: no"]);
        records[1..].iter().map(|record| record["level"].as_str().unwrap_or("-").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(levels("plain"), ["ERROR"; 3]);
    assert_eq!(levels("INFO:root:reading"), ["ERROR"; 3]);
    assert_eq!(levels("WARNING:root:trying again"), ["WARNING"; 3]);
    assert_eq!(levels("CRITICAL:root:lost"), ["CRITICAL"; 3]);
}

#[test]
fn colours_are_looked_through_and_kept() {
    let record = parse(
        "\u{1b}[2m2025-01-13T12:34:56.789Z\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m \u{1b}[2metl::load\u{1b}[0m\u{1b}[2m:\u{1b}[0m read \u{1b}[3mrows\u{1b}[0m=3",
    );
    assert_eq!(record["timestamp"], "2025-01-13T12:34:56.789000Z");
    assert_eq!(record["level"], "INFO");
    assert_eq!(record["logger_name"], "etl::load");
    assert_eq!(record["message"], "read \u{1b}[3mrows\u{1b}[0m=3");
    assert_eq!(parse("\u{1b}[31mplain\u{1b}[0m")["message"], "\u{1b}[31mplain\u{1b}[0m");
}
